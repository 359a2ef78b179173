"""What runs only while this replica leads: workers, the look at everything, the tidying up of Leases.

A standby keeps the same caches by the same watches and does none of this, so that whoever takes over begins at once,
with one look at every rollout. There is no way back: one that leads no more ends its process.
"""

import asyncio
import contextlib
import logging
import random
from dataclasses import dataclass, field
from typing import Any

from strategyrollout.api.meta import LABEL_ROLLOUT, LABEL_ROLLOUT_UID
from strategyrollout.cluster.background import Background
from strategyrollout.cluster.cache import Body, Cache, labels_of, name_of, uid_of
from strategyrollout.cluster.client import Api, ApiError, NotFound
from strategyrollout.cluster.consumers import ConsumerLeases, is_open
from strategyrollout.cluster.events import Events
from strategyrollout.cluster.kinds import ASSIGNMENTS, LEASES, ROLLBACKS, ROLLOUTS
from strategyrollout.cluster.workqueue import WorkQueue
from strategyrollout.ports import Key, Unavailable
from strategyrollout.reconcile import Rollouts

_log = logging.getLogger(__name__)

_RESERVED = 16
# Passes may be cut off anywhere, so one that hangs must not keep the next leader waiting; nor must events.
_DRAIN, _LAST_WORDS = 1.0, 0.5


@dataclass
class Leading:
    """Everything that writes, except for the election itself."""

    rollouts: Rollouts
    queue: WorkQueue[Key]
    cache: Cache
    consumers: ConsumerLeases
    background: Background
    events: Events
    api: Api
    begun: bool = False
    _workers: list[asyncio.Task[None]] = field(default_factory=list)

    def begin(self, workers: int) -> list[asyncio.Task[None]]:
        """Starts to look at rollouts and returns the tasks that do; those with something at risk come first."""
        self.begun = True
        for number in range(_RESERVED):
            self._start(f"urgent-{number}", only_urgent=True)
        for number in range(workers):
            self._start(f"worker-{number}", only_urgent=False)
        for key in self._at_risk():
            self.queue.add(key, urgent=True)
        for rollout in self.cache.all(ROLLOUTS):
            self.queue.add(Key(*name_of(rollout)))
        return self._workers

    def wake(self, key: Key, urgent: bool) -> None:
        """Something about a rollout has changed. A standby looks at everything when it takes over."""
        if self.begun:
            self.queue.add(key, urgent=urgent)

    def retire(self, router: Body) -> None:
        """Closes the Lease of a router whose pod tells that it has ended. What fails is done when it is waited for."""
        if not (self.consumers.saw_pod(router) and self.begun):
            return
        (namespace, name), uid = name_of(router), uid_of(router)
        if labels_of(router).get(LABEL_ROLLOUT_UID) in self._known():
            self.background.run(("ended", uid), 1.0, lambda: self.consumers.close_ended(namespace, uid, name))
        elif (lease := self.cache.get(LEASES, namespace, uid)) is not None:
            self._remove_departed(lease)

    def saw_lease(self, lease: Body) -> None:
        """Of a rollout that is gone, nothing is to stay behind."""
        if self.begun and not is_open(lease):
            self._remove_departed(lease)

    async def resync(self, within: float) -> None:
        """Looks at every rollout some time `within` so many seconds, and tidies up."""
        if not self.begun:
            return
        for rollout in self.cache.all(ROLLOUTS):
            self.queue.add_after(Key(*name_of(rollout)), random.uniform(0, within))
        known = self._known()
        for lease in self.cache.all(LEASES):
            try:
                await self._sweep(lease, known)
            except (ApiError, Unavailable) as error:  # the next resync looks at it again
                _log.warning("cannot tidy up Lease %s: %s", name_of(lease), error)

    async def end(self) -> None:
        """Passes under way may finish, unless they hang; nothing new begins; what was said is written down."""
        self.queue.close()
        if self._workers:
            await asyncio.wait(self._workers, timeout=_DRAIN)
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self.background.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                await self.events.flush()

    def _start(self, name: str, *, only_urgent: bool) -> None:
        self._workers.append(asyncio.create_task(self.rollouts.work(only_urgent=only_urgent), name=name))

    def _remove_departed(self, lease: Body) -> None:
        async def work() -> None:
            if not await self._belongs_to_another(lease):
                await self.consumers.remove_departed(lease)

        if self.consumers.departed(labels_of(lease).get(LABEL_ROLLOUT_UID) or ""):
            self.background.run(("departed", uid_of(lease)), 1.0, work)

    def _known(self) -> set[str]:
        return {uid_of(rollout) for rollout in self.cache.all(ROLLOUTS)}

    def _at_risk(self) -> list[Key]:
        """Rollouts with a candidate out, a move under way, or somebody who waits for an answer."""
        tables = [body for body in self.cache.all(ASSIGNMENTS) if _moving(body.get("spec") or {})]
        asked = [body for body in self.cache.all(ROLLBACKS) if not body.get("status")]
        ours = [
            key
            for key in (Key(*name_of(b)) for b in tables)
            if self.cache.get(ROLLOUTS, key.namespace, key.name) is not None
        ]
        return ours + [Key(name_of(b)[0], str((b.get("spec") or {}).get("rollout"))) for b in asked]

    async def _sweep(self, lease: Body, known: set[str]) -> None:
        if labels_of(lease).get(LABEL_ROLLOUT_UID) in known:
            await self.consumers.sweep(lease, orphan=False)
        elif self.consumers.is_silent(lease) and not await self._belongs_to_another(lease):
            await self.consumers.sweep(lease, orphan=True)

    async def _belongs_to_another(self, lease: Body) -> bool:
        """Whether the rollout of a Lease is there although it is not ours: another operator looks after it."""
        (namespace, _), labels = name_of(lease), labels_of(lease)
        try:
            found = await self.api.get(ROLLOUTS.path(namespace, labels.get(LABEL_ROLLOUT) or "-"))
        except NotFound:
            return False
        return uid_of(found) == labels.get(LABEL_ROLLOUT_UID)


def _moving(spec: dict[str, Any]) -> bool:
    record = spec.get("record") or {}
    return bool(record.get("attempt")) or any(r.get("next") for r in spec.get("ranges") or [])
