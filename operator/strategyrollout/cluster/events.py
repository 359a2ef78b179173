"""Kubernetes events: what people see first. Said by a task of its own, because nothing may ever wait for an event.

The same words about the same rollout within ten minutes become one event with a count, and each rollout has a budget,
so that a rollout that flaps does not flood its namespace.
"""

import asyncio
import logging
import os
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from strategyrollout.api.meta import API_VERSION, GROUP
from strategyrollout.cluster.client import Api, ApiError, NotFound, resource_path
from strategyrollout.core.build import Owner
from strategyrollout.core.decision import Notice
from strategyrollout.ports import Unavailable

_log = logging.getLogger(__name__)

REPEATS_WITHIN = 600.0
BURST = 25
REFILL_SECONDS = 10.0
_QUEUE = 2_000
_REMEMBERED = 20_000
_NOTE = 1_024


@dataclass
class _Said:
    path: str
    at: float
    count: int = 1


@dataclass
class _Bucket:
    tokens: float
    at: float


class Events:
    """Takes notices at once, writes them in the background. `dropped` counts what was never said, by cause."""

    def __init__(self, api: Api, *, instance: str = "", clock: Callable[[], float] = monotonic) -> None:
        self._api = api
        self._instance = (instance or f"strategyrollout-{os.uname().nodename}")[:128]
        self._clock = clock
        self._queue: asyncio.Queue[tuple[Owner, Notice, datetime]] = asyncio.Queue(_QUEUE)
        self._said: dict[tuple[str, Notice], _Said] = {}
        self._buckets: dict[str, _Bucket] = {}
        self.dropped: Counter[str] = Counter()

    def say(self, owner: Owner, notice: Notice) -> None:
        """Returns at once and never raises."""
        try:
            self._queue.put_nowait((owner, notice, datetime.now(UTC)))
        except asyncio.QueueFull:
            self.dropped["full"] += 1

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            owner, notice, at = await self._queue.get()
            try:
                await self._write(owner, notice, at)
            except (ApiError, Unavailable) as error:
                self.dropped["failed"] += 1
                _log.warning("an event about %s/%s is lost: %s", owner.namespace, owner.name, error)
            except Exception:  # nothing about one event may end the task that writes them all
                self.dropped["failed"] += 1
                _log.exception("an event about %s/%s is lost", owner.namespace, owner.name)
            finally:
                self._queue.task_done()

    async def flush(self) -> None:
        """Returns when everything said so far is written or dropped; needs `run` to be running."""
        await self._queue.join()

    async def _write(self, owner: Owner, notice: Notice, at: datetime) -> None:
        self._tidy()
        said = self._said.get((owner.uid, notice))
        if said is not None and self._clock() - said.at < REPEATS_WITHIN:
            said.count += 1
            series = {"count": said.count, "lastObservedTime": _micro_time(at)}
            try:
                await self._api.merge(said.path, {"series": series})
            except NotFound:
                del self._said[owner.uid, notice]
            return
        if not self._may_speak(owner.uid):
            self.dropped["rate"] += 1
            return
        body = self._event(owner, notice, at)
        collection = resource_path("events.k8s.io/v1", "events", owner.namespace)
        await self._api.create(collection, body)
        path = f"{collection}/{body['metadata']['name']}"
        self._said[owner.uid, notice] = _Said(path, self._clock())

    def _event(self, owner: Owner, notice: Notice, at: datetime) -> dict[str, Any]:
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{owner.name}.{uuid.uuid4().hex[:16]}", "namespace": owner.namespace},
            "eventTime": _micro_time(at),
            "type": "Warning" if notice.warning else "Normal",
            "reason": notice.reason,
            "action": notice.reason,
            "note": notice.message[:_NOTE],
            "reportingController": f"{GROUP}/operator",
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": "StrategyRollout",
                "namespace": owner.namespace,
                "name": owner.name,
                "uid": owner.uid,
            },
        }

    def _may_speak(self, uid: str) -> bool:
        now = self._clock()
        bucket = self._buckets.setdefault(uid, _Bucket(BURST, now))
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.at) / REFILL_SECONDS)
        bucket.at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _tidy(self) -> None:
        if len(self._said) + len(self._buckets) < _REMEMBERED:
            return
        now = self._clock()
        self._said = {key: said for key, said in self._said.items() if now - said.at < REPEATS_WITHIN}
        full_again = BURST * REFILL_SECONDS
        self._buckets = {uid: bucket for uid, bucket in self._buckets.items() if now - bucket.at < full_again}


def _micro_time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
