"""Reading and writing the commit record: every write is a compare-and-swap against the very read it was decided from.

The watch's copy is as good as a read once this process has read or written the object itself, because a write based on
an old copy loses its swap. Before that, and after a lost or unanswered write, only a consistent read will do.
"""

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.api.meta import API_VERSION
from strategyrollout.api.model import without
from strategyrollout.cluster.cache import Body, Cache, uid_of
from strategyrollout.cluster.client import Api, ApiError, Conflict, Forbidden, Invalid, NotFound
from strategyrollout.cluster.kinds import ASSIGNMENTS
from strategyrollout.core.buckets import is_frozen
from strategyrollout.core.build import Owner, owned
from strategyrollout.core.observed import Stored
from strategyrollout.ports import Key, Lost, Refused, Unavailable

_UNKNOWN = "extra_forbidden"
_NOTES = {"record", "cause"}


class Unreadable(Exception):
    """The assignment cannot be known now; the message says why. Nothing may be decided about traffic."""


class OfAnother(Unreadable):
    """It belongs to an earlier rollout of this name, which takes a moment to go."""


class Assignments:
    """`now` is in milliseconds since 1970."""

    def __init__(self, api: Api, cache: Cache, now: Callable[[], int]) -> None:
        self._api = api
        self._cache = cache
        self._now = now
        self._trusted: set[Key] = set()
        self._frozen_at: dict[Key, tuple[int, int]] = {}
        self._parsed: dict[Key, tuple[str, AssignmentSpec]] = {}

    async def read(self, key: Key, uid: str) -> Stored | None:
        """The assignment of the rollout with this UID; None when there certainly is none. Raises `Unreadable`."""
        body = self._cache.get(ASSIGNMENTS, key.namespace, key.name) if key in self._trusted else None
        if body is None:
            body = await self._get(key)
            if body is None:
                return None
        try:
            spec = self._parse(key, body)
        except ValidationError as error:
            raise Unreadable(f"TrafficAssignment {key} cannot be read: {_first(error)}") from error
        if spec.rollout_uid != uid:
            raise OfAnother(
                f"TrafficAssignment {key.name} belongs to an earlier rollout of this name and is waited for until it is"
                " collected; if it was restored from a backup, delete it"
            )
        return Stored(spec, body["metadata"]["resourceVersion"], self._freeze_seen(key, spec))

    async def write(self, key: Key, uid: str, stored: Stored | None, spec: AssignmentSpec) -> Stored:
        """Replaces `stored` by `spec`. Raises `Lost`, `Refused` or `Unavailable`; after the last it may be written."""
        self.distrust(key)  # until the answer is there; also when nobody waits for it any more
        try:
            if stored is None:
                meta = owned(Owner(key.namespace, key.name, uid), key.name, {})
                body = await self._api.create(ASSIGNMENTS.path(key.namespace), _object(meta, spec))
            else:
                meta = self._meta(key, stored)
                body = await self._api.replace(ASSIGNMENTS.path(key.namespace, key.name), _object(meta, spec))
        except (Conflict, NotFound) as error:
            raise Lost(str(error)) from error
        except (Invalid, Forbidden) as error:
            raise Refused(str(error)) from error
        except ApiError as error:
            raise Unavailable(str(error)) from error
        self._frozen_at[key] = (spec.epoch, self._now())
        self._cache.put(ASSIGNMENTS, body, own=True)
        self._trusted.add(key)
        return Stored(spec, body["metadata"]["resourceVersion"], self._freeze_seen(key, spec))

    def is_newest(self, key: Key, stored: Stored) -> bool:
        """Whether nothing newer has been seen than what a pass was decided from; one that slept must not scale."""
        known = self._cache.get(ASSIGNMENTS, key.namespace, key.name)
        return known is not None and known["metadata"]["resourceVersion"] == stored.resource_version

    def distrust(self, key: Key) -> None:
        """The next read asks the API server."""
        self._trusted.discard(key)

    def forget(self, key: Key) -> None:
        """The rollout is gone."""
        self._trusted.discard(key)
        self._frozen_at.pop(key, None)
        self._parsed.pop(key, None)

    async def _get(self, key: Key) -> Body | None:
        try:
            body = await self._api.get(ASSIGNMENTS.path(key.namespace, key.name))
        except NotFound:
            if (known := self._cache.get(ASSIGNMENTS, key.namespace, key.name)) is not None:
                self._cache.remove(ASSIGNMENTS, known)
            return None
        except (ApiError, Unavailable) as error:
            raise Unreadable(str(error)) from error
        self._cache.put(ASSIGNMENTS, body)
        self._trusted.add(key)
        return body

    def _parse(self, key: Key, body: Body) -> AssignmentSpec:
        version = f"{uid_of(body)}/{body['metadata']['resourceVersion']}"
        known = self._parsed.get(key)
        if known is not None and known[0] == version:
            return known[1]
        spec = parse_assignment(body.get("spec") or {})
        self._parsed[key] = (version, spec)
        return spec

    def _freeze_seen(self, key: Key, spec: AssignmentSpec) -> int | None:
        if not is_frozen(spec.ranges):
            return None
        known = self._frozen_at.get(key)
        if known is None or known[0] != spec.epoch:
            known = self._frozen_at[key] = (spec.epoch, self._now())
        return known[1]

    def _meta(self, key: Key, stored: Stored) -> dict[str, Any]:
        known = self._cache.get(ASSIGNMENTS, key.namespace, key.name)
        kept = ("labels", "annotations", "ownerReferences", "finalizers")
        meta = {field: known["metadata"][field] for field in kept if field in known["metadata"]} if known else {}
        # One empty entry: no record of who owns which field. There is one writer, and keeping the record costs the API
        # server a fifth of the write.
        meta["managedFields"] = [{}]
        return {**meta, "namespace": key.namespace, "name": key.name, "resourceVersion": stored.resource_version}


def parse_assignment(spec: dict[str, Any]) -> AssignmentSpec:
    """A stored table. What a newer operator has noted in its record is left out: it is nothing we decide by.

    Anything else unknown is refused with a ValidationError: who serves what may depend on it.
    """
    try:
        return AssignmentSpec.model_validate(spec)
    except ValidationError as error:
        unknown = [e["loc"] for e in error.errors(include_url=False, include_input=False) if e["type"] == _UNKNOWN]
        if len(unknown) < error.error_count() or any(loc[0] not in _NOTES for loc in unknown):
            raise
    return AssignmentSpec.model_validate(without(spec, unknown))


def _object(meta: dict[str, Any], spec: AssignmentSpec) -> Body:
    return {"apiVersion": API_VERSION, "kind": "TrafficAssignment", "metadata": meta, "spec": spec.to_json()}


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in ('spec', *found['loc']))}: {found['msg']}"
