"""What the routers of a rollout are made of, kept from the start of one attempt to the start of the next.

An upgrade of the operator may bring another image, another configuration or another pod template for routers. Routers
carry orders, so they are replaced only together with a rollout: until one starts, they are made again, scaled and
mended from what is kept here, whatever today's operator would make.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from strategyrollout.api.meta import LABEL_ROLE, ROLE_ROUTER
from strategyrollout.cluster.background import Background
from strategyrollout.cluster.cache import Cache, data_of, labels_of, uid_of
from strategyrollout.cluster.client import Api, Conflict, NotFound
from strategyrollout.cluster.kinds import CONFIGMAPS, REVISIONS, STATEFULSETS
from strategyrollout.cluster.snapshots import Snapshots
from strategyrollout.core.build import Owner, routers_snapshot
from strategyrollout.core.observed import Problem
from strategyrollout.ports import Key

Body = dict[str, Any]

_AGAIN = 60.0


class KeptRouters:
    """Finds them by the name that is in the assignment's record."""

    def __init__(self, api: Api, cache: Cache, background: Background, snapshots: Snapshots) -> None:
        self._api = api
        self._cache = cache
        self._background = background
        self._snapshots = snapshots
        self._next: dict[str, str] = {}
        self._seen: dict[str, Body] = {}

    def stored(self, key: Key, owner: Owner, bodies: Sequence[Body]) -> str | None:
        """Name under which these are kept; None until they are."""
        snapshot = routers_snapshot(owner, bodies)
        name = self._next[owner.uid] = str(snapshot["metadata"]["name"])
        return name if self._snapshots.stored(key, snapshot) else None

    def refused(self, key: Key) -> Problem | None:
        """Why they are not kept, when the API server has said so."""
        return self._snapshots.refused(key)

    def kept(self, key: Key, owner: Owner, name: str | None) -> list[Body] | None:
        """What is kept under this name; None when it is lost. What was seen before is stored again."""
        if name is None:
            return None
        found = self._cache.get(REVISIONS, owner.namespace, name)
        if found is not None and (objects := data_of(found).get("objects")):
            self._seen[owner.uid] = found
            return list(objects)
        seen = self._seen.get(owner.uid)
        if seen is None or seen["metadata"]["name"] != name:
            return None
        objects = data_of(seen)["objects"]
        self._snapshots.stored(key, routers_snapshot(owner, objects))
        return list(objects)

    def live(self, owner: Owner) -> Body | None:
        """The StatefulSet as it is, if there is one."""
        return next(iter(self._cache.children(STATEFULSETS, owner.uid)), None)

    def ready(self, uid: str) -> int:
        """Router pods that are ready."""
        return sum(
            int((body.get("status") or {}).get("readyReplicas") or 0)
            for body in self._cache.children(STATEFULSETS, uid)
            if not body["metadata"].get("deletionTimestamp")
        )

    def tidy(self, key: Key, owner: Owner, name: str | None, bodies: Sequence[Body]) -> None:
        """Deletes what only routers before these needed, once there is none of them left."""
        live = self.live(owner)
        if live is None or not _is_rolled(live):
            return
        used = {body["metadata"]["name"] for body in bodies if body["kind"] == "ConfigMap"}
        for body in list(self._cache.children(CONFIGMAPS, owner.uid)):
            if labels_of(body).get(LABEL_ROLE) == ROLE_ROUTER and body["metadata"]["name"] not in used:
                path = CONFIGMAPS.path(owner.namespace, body["metadata"]["name"])
                self._background.run(("unused", path), _AGAIN, partial(self._delete, path, uid_of(body)))
        keep = {name, self._next.get(owner.uid)}
        self._snapshots.remove_unused(key, owner.uid, f"{owner.name}-routers-", keep)

    def forget(self, key: Key, uid: str) -> None:
        """The rollout is gone."""
        self._snapshots.forget(key)
        self._next.pop(uid, None)
        self._seen.pop(uid, None)

    async def _delete(self, path: str, uid: str) -> None:
        try:
            await self._api.delete(path, uid=uid)
        except (NotFound, Conflict):
            return  # gone already, or another object by now


def _is_rolled(live: Body) -> bool:
    """Whether every pod is of the template in force: no other one will be made again."""
    status = live.get("status") or {}
    return (
        status.get("observedGeneration") == live["metadata"].get("generation")
        and status.get("currentRevision") == status.get("updateRevision")
        and status.get("updatedReplicas", 0) == status.get("replicas", 0) == live["spec"].get("replicas", 1)
    )
