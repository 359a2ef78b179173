"""The ConfigMaps and Secrets of the cluster, kept current, because pods are told about changes while they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.cluster.node.api import Api, ApiError, Object
from tests.cluster.node.environment import decoded

_PLURALS = {"ConfigMap": "configmaps", "Secret": "secrets"}
_Key = tuple[str, str, str]


def references(pod: Object) -> set[tuple[str, str]]:
    """(kind, name) of everything a pod reads."""
    found: set[tuple[str, str]] = set()
    for volume in pod["spec"].get("volumes") or []:
        for source in [volume, *((volume.get("projected") or {}).get("sources") or [])]:
            if "configMap" in source:
                found.add(("ConfigMap", source["configMap"]["name"]))
            if "secret" in source:
                found.add(("Secret", source["secret"].get("secretName") or source["secret"]["name"]))
    for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
        values = [entry.get("valueFrom") or {} for entry in container.get("env") or []]
        for source in [*values, *(container.get("envFrom") or [])]:
            for word, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
                reference = source.get(f"{word}KeyRef") or source.get(f"{word}Ref")
                if reference:
                    found.add((kind, reference["name"]))
    return found


class ContentCache:
    """Answers from memory; filled by a watch, and by `prime` for what a new pod needs this instant."""

    def __init__(self, api: Api, changed: Callable[[str], None]) -> None:
        self._api = api
        self._changed = changed
        self._items: dict[_Key, Object] = {}

    def config_map(self, namespace: str, name: str) -> dict[str, bytes] | None:
        """The ConfigMap's data, or None."""
        return self._data("ConfigMap", namespace, name)

    def secret(self, namespace: str, name: str) -> dict[str, bytes] | None:
        """The Secret's data, or None."""
        return self._data("Secret", namespace, name)

    def _data(self, kind: str, namespace: str, name: str) -> dict[str, bytes] | None:
        item = self._items.get((kind, namespace, name))
        return None if item is None else decoded(kind, item)

    async def prime(self, namespace: str, wanted: Iterable[tuple[str, str]]) -> None:
        """Read these now: the watch may not have seen what was created just before the pod."""
        for kind, name in wanted:
            if name == "kube-root-ca.crt" and (kind, namespace, name) in self._items:
                continue
            try:
                self._store(
                    kind, await self._api.insist("GET", f"/api/v1/namespaces/{namespace}/{_PLURALS[kind]}/{name}")
                )
            except ApiError as error:
                if error.status != 404:
                    raise

    def _store(self, kind: str, item: Object) -> None:
        key = (kind, item["metadata"]["namespace"], item["metadata"]["name"])
        known = self._items.get(key)
        same = known is not None and known["metadata"]["uid"] == item["metadata"]["uid"]
        if same and known is not None and _version(known) >= _version(item):
            return
        self._items[key] = item
        self._changed(key[1])

    async def follow(self, kind: str) -> None:
        """Keep the objects of a kind current, for ever."""
        async for change, item in self._api.follow(f"/api/v1/{_PLURALS[kind]}"):
            if change == "SYNC":
                listed = {(kind, i["metadata"]["namespace"], i["metadata"]["name"]) for i in item["items"]}
                for key in [key for key in self._items if key[0] == kind and key not in listed]:
                    del self._items[key]
                for found in item["items"]:
                    self._store(kind, found)
            elif change == "DELETED":
                self._items.pop((kind, item["metadata"]["namespace"], item["metadata"]["name"]), None)
            else:
                self._store(kind, item)


def _version(item: Object) -> int:
    return int(item["metadata"]["resourceVersion"])
