"""What must stay as it was: bodies stored once as ControllerRevisions, found again by a name that is their hash.

Kubernetes' own history object, because its data cannot be changed. Nothing here waits: what is not stored yet is
stored in the background, and the rollout looked at again once it is.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from strategyrollout.api.meta import LABEL_REVISION
from strategyrollout.cluster.background import Background
from strategyrollout.cluster.cache import Cache, labels_of, uid_of
from strategyrollout.cluster.client import Api, ApiError, Conflict
from strategyrollout.cluster.ensure import refusal
from strategyrollout.cluster.kinds import REVISIONS
from strategyrollout.core.observed import Problem
from strategyrollout.ports import Key

Body = dict[str, Any]
Wake = Callable[[Key], None]

_AGAIN = 1.0
_UNUSED_FOR_MS = 600_000
_UNUSED_AGAIN = 60.0


class Snapshots:
    """`wake` is called when one has been stored, or could not be. `now` is in milliseconds since 1970."""

    def __init__(self, api: Api, cache: Cache, background: Background, *, wake: Wake, now: Callable[[], int]) -> None:
        self._api = api
        self._cache = cache
        self._background = background
        self._wake = wake
        self._now = now
        self._refused: dict[Key, Problem] = {}

    def stored(self, key: Key, snapshot: Body) -> bool:
        """Whether this ControllerRevision is stored; if not, it will be."""
        name = str(snapshot["metadata"]["name"])
        if self._cache.get(REVISIONS, key.namespace, name) is not None:
            return True

        async def store() -> None:
            try:
                body = await self._create(key, name, snapshot)
            except ApiError as error:
                problem = refusal(snapshot, error)
                words = f"{problem.message}; until it is kept no new version starts"
                self._refused[key] = replace(problem, message=words, lasting=False)
                raise
            self._refused.pop(key, None)
            self._cache.put(REVISIONS, body)
            self._wake(key)

        self._background.run(("snapshot", key, name), _AGAIN, store, partial(self._wake, key))
        return False

    def refused(self, key: Key) -> Problem | None:
        """Why the latest one that was to be stored is not; None while nobody has said no."""
        return self._refused.get(key)

    def forget(self, key: Key) -> None:
        """The rollout is gone."""
        self._refused.pop(key, None)

    async def _create(self, key: Key, name: str, snapshot: Body) -> Body:
        try:
            return await self._api.create(REVISIONS.path(key.namespace), snapshot)
        except Conflict:
            return await self._api.get(REVISIONS.path(key.namespace, name))

    def remove_unused(self, key: Key, uid: str, prefix: str, keep: set[str | None]) -> None:
        """Deletes those of a rollout that nothing uses and that no pass under way may still name."""
        for body in self._cache.children(REVISIONS, uid):
            name = str(body["metadata"]["name"])
            if name in keep or not name.startswith(prefix) or LABEL_REVISION in labels_of(body):
                continue
            created = datetime.fromisoformat(body["metadata"]["creationTimestamp"]).timestamp() * 1000
            if self._now() - created > _UNUSED_FOR_MS:
                work = partial(self._api.delete, REVISIONS.path(key.namespace, name), uid=uid_of(body))
                self._background.run(("unused snapshot", key, name), _UNUSED_AGAIN, work)
