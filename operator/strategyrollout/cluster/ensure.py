"""One object, as it should be: made when it is missing, mended when somebody changed it, left alone otherwise.

Most passes find everything in place, so the usual case costs no request: what was wanted and what came of our last
write are remembered, by their digests, and compared with what the cache has now. Server-side apply alone does not undo
what others *added*; where that would change what runs, the object is replaced.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from strategyrollout.api.conditions import Reason
from strategyrollout.api.meta import LABEL_ROLLOUT_UID
from strategyrollout.cluster.cache import Cache, labels_of, uid_of
from strategyrollout.cluster.client import Api, ApiError, Body, Conflict, NotFound, resource_path
from strategyrollout.cluster.kinds import WATCHED, Kind
from strategyrollout.core.build import Owner
from strategyrollout.core.observed import Problem
from strategyrollout.ports import Unavailable

UNWATCHED_AGE = 300.0
"""After so many seconds an object of a kind that nobody watches is looked at again."""

_WATCHED: dict[tuple[str, str], Kind] = {(kind.api_version, kind.plural): kind for kind in WATCHED}
_REPLACED = {"Deployment", "StatefulSet", "Service"}
# What the API server fills in by itself; anything else in a pod that was not asked for was added by somebody.
_POD_DEFAULTS = {
    *("restartPolicy", "terminationGracePeriodSeconds", "dnsPolicy"),
    *("securityContext", "schedulerName", "serviceAccount"),
}
_CONTAINER_DEFAULTS = {"terminationMessagePath", "terminationMessagePolicy", "imagePullPolicy", "resources"}
_NOT_CONTENT = {"metadata", "status", "apiVersion", "kind"}


@dataclass(slots=True)
class _Applied:
    """Digests, because thousands of whole objects, kept twice, would be most of the operator's memory."""

    desired: bytes
    mark: bytes
    version: str
    at: float


class Ensurer:
    """Applies objects of rollouts. Safe to use for many rollouts at once; one object only by one caller at a time."""

    def __init__(self, api: Api, cache: Cache, clock: Callable[[], float] = monotonic) -> None:
        self._api = api
        self._cache = cache
        self._clock = clock
        self._applied: dict[str, dict[str, _Applied]] = {}

    async def ensure(self, owner: Owner, desired: Body, manager: str) -> Problem | None:
        """Makes it so. A `Problem` is for a person to mend; raises `Unavailable` when another try may help."""
        path = object_path(desired)
        kind = _watched(desired)
        live = self._cache.get(kind, owner.namespace, desired["metadata"]["name"]) if kind else None
        if self._in_place(owner, path, desired, live, watched=kind is not None):
            return None
        try:
            return await self._make_so(owner, path, desired, live, manager)
        except (Conflict, NotFound) as error:
            raise Unavailable(f"{path} changed at the same moment: {error.message}") from error
        except ApiError as error:
            return refusal(desired, error)

    def removed(self, owner: Owner, path: str) -> None:
        """The object was deleted on purpose."""
        self._applied.get(owner.uid, {}).pop(path, None)

    def forget(self, uid: str) -> None:
        """The rollout is gone."""
        self._applied.pop(uid, None)

    def _in_place(self, owner: Owner, path: str, desired: Body, live: Body | None, *, watched: bool) -> bool:
        applied = self._applied.get(owner.uid, {}).get(path)
        if live is not None and live["metadata"].get("deletionTimestamp"):
            return True  # on its way out; made again once it is gone
        if applied is None:
            if live is None or not _belongs(live, owner) or not _as_wanted(live, desired):
                return False
            self._remember(owner, path, desired, live)
            return True
        if applied.desired != _digest(desired):
            return False
        if not watched:
            return self._clock() - applied.at < UNWATCHED_AGE
        if live is None:
            return False  # what we write is in the cache at once, so it was deleted since
        if live["metadata"].get("resourceVersion") == applied.version:
            return True
        if _mark(live) != applied.mark:
            return False
        applied.version = str(live["metadata"].get("resourceVersion"))
        return True

    async def _make_so(self, owner: Owner, path: str, desired: Body, live: Body | None, manager: str) -> Problem | None:
        if live is None:
            live = await self._read(path)
        body = desired
        if live is not None:
            if not _belongs(live, owner):
                return _foreign(owner, desired, live)
            if _watched(desired) is None and _as_wanted(live, desired):  # the look that is due now and then
                self._remember(owner, path, desired, live)
                return None
            # The UID keeps the apply from making a new object, or changing another, should this one be gone.
            body = {**desired, "metadata": {**desired["metadata"], "uid": uid_of(live)}}
            if desired["kind"] == "Service":  # who gets traffic: only over the very state that was looked at
                body["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        answer = await self._api.apply(path, body, manager=manager)
        if desired["kind"] in _REPLACED and not _as_wanted(answer, desired):
            answer = await self._api.replace(path, _over(answer, desired))
        self._remember(owner, path, desired, answer)
        kind = _watched(desired)
        if kind is not None:
            self._cache.put(kind, answer, own=True)
        return None

    async def _read(self, path: str) -> Body | None:
        try:
            return await self._api.get(path)
        except NotFound:
            return None

    def _remember(self, owner: Owner, path: str, desired: Body, live: Body) -> None:
        version = str(live["metadata"].get("resourceVersion"))
        record = _Applied(_digest(desired), _mark(live), version, self._clock())
        self._applied.setdefault(owner.uid, {})[path] = record


def object_path(body: Body) -> str:
    """URL path of a namespaced object, from itself."""
    meta = body["metadata"]
    return resource_path(body["apiVersion"], _plural(body), meta["namespace"], meta["name"])


def refusal(body: Body, error: ApiError) -> Problem:
    """What the API server has against an object, in its own words."""
    what = f"the API server refuses {body['kind']} {body['metadata']['name']}: {error.message}"
    return Problem(Reason.INVALID_TEMPLATE, what[:1024], error.field if error.field.startswith("spec.template") else "")


def _plural(body: Body) -> str:
    return str(body["kind"]).lower() + "s"


def _watched(body: Body) -> Kind | None:
    return _WATCHED.get((body["apiVersion"], _plural(body)))


def _controller(body: Body) -> Body:
    references = body["metadata"].get("ownerReferences") or []
    return next((r for r in references if r.get("controller")), {})


def _belongs(live: Body, owner: Owner) -> bool:
    controller = _controller(live)
    if controller:
        return bool(controller.get("uid") == owner.uid)
    return labels_of(live).get(LABEL_ROLLOUT_UID) == owner.uid  # somebody cut the reference; it is ours to mend


def _foreign(owner: Owner, desired: Body, live: Body) -> Problem:
    controller = _controller(live)
    if controller.get("kind") == "StrategyRollout" and controller.get("name") == owner.name:
        raise Unavailable(f"{object_path(desired)} of the rollout's deleted namesake is still being collected")
    whose = f"{controller['kind']} {controller['name']}" if controller else "no StrategyRollout"
    name = f"{desired['kind']} {desired['metadata']['name']}"
    text = f"{name} exists and belongs to {whose}; delete or rename it, or give this rollout other names"
    return Problem(Reason.NOT_OWNED, text, "spec.traffic.service.name" if desired["kind"] == "Service" else "")


def _digest(value: Any) -> bytes:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).digest()


def _mark(live: Body) -> bytes:
    """What changes exactly when somebody changed the object, and not when its controller reports."""
    meta = live["metadata"]
    generation = meta.get("generation")
    content = None if generation else {key: value for key, value in live.items() if key not in _NOT_CONTENT}
    return _digest((meta.get("uid"), generation, meta.get("labels"), meta.get("ownerReferences"), content))


def _as_wanted(live: Body, desired: Body) -> bool:
    if not _covers(_content(live), _content(desired)):
        return False
    pod, containers = _pod(live)
    wanted_pod, wanted_containers = _pod(desired)
    if set(pod) - set(wanted_pod) - _POD_DEFAULTS:
        return False
    pairs = zip(containers, wanted_containers, strict=True)  # as many, or they would not be covered
    return all(set(mine) - set(wanted) <= _CONTAINER_DEFAULTS for mine, wanted in pairs)


def _pod(body: Body) -> tuple[Body, list[Body]]:
    template = (body.get("spec") or {}).get("template") or {}
    pod = template.get("spec") or {}
    return pod, [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]


def _content(body: Body) -> Body:
    meta = body["metadata"]
    kept = {key: meta.get(key) for key in ("labels", "annotations", "ownerReferences")}
    return {**{key: value for key, value in body.items() if key not in _NOT_CONTENT}, "metadata": kept}


def _covers(live: Any, desired: Any) -> bool:
    """Whether `live` has all of `desired`, no more list items, and besides only fields that were not asked for."""
    if desired is None:
        return True
    if isinstance(desired, dict):
        if not isinstance(live, dict):
            return not desired
        return all(_covers(live.get(key), value) for key, value in desired.items())
    if isinstance(desired, list):
        mine = live if isinstance(live, list) else []
        return len(mine) == len(desired) and all(map(_covers, mine, desired))
    return bool(live == desired or str(live) == str(desired))


def _over(live: Body, desired: Body) -> Body:
    """The desired object to be put in the place of the live one, keeping what is not ours to decide.

    Without a resourceVersion, because controllers report on the object at the same moment; the UID stays.
    """
    meta = live["metadata"]
    ours = desired["metadata"]
    merged = {
        **{key: value for key, value in meta.items() if key not in {"managedFields", "resourceVersion"}},
        "labels": {**(meta.get("labels") or {}), **ours["labels"]},
        "annotations": {**(meta.get("annotations") or {}), **ours.get("annotations", {})},
        "ownerReferences": ours["ownerReferences"],
    }
    return {**desired, "metadata": merged}
