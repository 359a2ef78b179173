"""Consistent lists of routers' Leases, shared by all who need one at the same moment.

A revert must not go on without a list made after its Freeze. When hundreds revert at once that would be hundreds of
lists, taken from the very API server that the next Freeze waits for. Whoever comes while others of the namespace are
being answered waits for one list of the whole namespace that is sent afterwards, which is as good: what counts is that
it was asked for after the Freeze was written.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from strategyrollout.api.meta import LABEL_ROLLOUT_UID
from strategyrollout.cluster.client import Api
from strategyrollout.cluster.kinds import LEASES

Body = dict[str, Any]

_ALONE = 2
"""So many at once in a namespace are answered one by one; a lone revert reads no Lease of others."""


@dataclass(frozen=True)
class LeaseList:
    """Leases by the UID of their rollout, as they were at some moment after `sent` (ms since 1970)."""

    sent: int
    by_rollout: dict[str, list[Body]] = field(default_factory=dict)


class LeaseLists:
    """`now` is in milliseconds since 1970."""

    def __init__(self, api: Api, now: Callable[[], int]) -> None:
        self._api = api
        self._now = now
        self._alone: Counter[str] = Counter()
        self._sharing: set[str] = set()
        self._next: dict[str, asyncio.Future[LeaseList]] = {}

    async def of(self, namespace: str, uid: str) -> tuple[int, list[Body]]:
        """When it was asked for, and the Leases of the rollout with this UID. Raises `Unavailable` and `ApiError`."""
        if self._alone[namespace] < _ALONE and namespace not in self._sharing:
            self._alone[namespace] += 1
            try:
                found = await self._list(namespace, f"{LABEL_ROLLOUT_UID}={uid}")
            finally:
                self._alone[namespace] -= 1
        else:
            found = await self._shared(namespace)
        return found.sent, found.by_rollout.get(uid, [])

    async def _shared(self, namespace: str) -> LeaseList:
        """The next list of the whole namespace: one that is under way may have been asked for too early."""
        waiting = self._next.get(namespace)
        if waiting is None:
            waiting = self._next[namespace] = asyncio.get_running_loop().create_future()
            if namespace not in self._sharing:
                self._begin(namespace)
        return await asyncio.shield(waiting)

    def _begin(self, namespace: str) -> None:
        self._sharing.add(namespace)
        task = asyncio.create_task(self._answer(namespace), name=f"Leases of {namespace}")
        task.add_done_callback(lambda _done: self._ended(namespace))

    async def _answer(self, namespace: str) -> None:
        waiting = self._next.pop(namespace)
        try:
            found = await self._list(namespace, LABEL_ROLLOUT_UID)
        except asyncio.CancelledError:
            waiting.cancel()
            raise
        except Exception as error:
            waiting.set_exception(error)
            waiting.exception()  # perhaps nobody waits any more
            return
        waiting.set_result(found)

    def _ended(self, namespace: str) -> None:
        self._sharing.discard(namespace)
        if namespace in self._next:
            self._begin(namespace)

    async def _list(self, namespace: str, labels: str) -> LeaseList:
        sent = self._now()
        listed = await self._api.list(LEASES.path(namespace), labels=labels)
        by_rollout: dict[str, list[Body]] = {}
        for lease in listed.get("items") or []:
            by_rollout.setdefault(rollout_of(lease), []).append(lease)
        return LeaseList(sent, by_rollout)


def rollout_of(lease: Body) -> str:
    """UID of the rollout whose router it is of; empty when it is no router's."""
    return str((lease["metadata"].get("labels") or {}).get(LABEL_ROLLOUT_UID) or "")
