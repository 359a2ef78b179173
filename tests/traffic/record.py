"""What the API held, followed by watches into a history, beside what the rollout says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.api.meta import API_VERSION, LABEL_REVISION, LABEL_ROLLOUT
from strategyrollout.core.routing import bucket_of
from tests.cluster.node.api import Api
from tests.history import History

Object = dict[str, Any]


class Watched(Protocol):
    """A cluster that can be watched."""

    def api(self) -> Api:
        """A session; to be closed by the caller."""


class Record:
    """The latest of the rollout, every version of its assignment, and the history they make."""

    def __init__(self, namespace: str, name: str, tolerance: int) -> None:
        self.namespace = namespace
        self.name = name
        self.history = History(tolerance=tolerance)
        self.rollout: Object = {}
        self.said: list[tuple[float, str, str]] = []
        """(when, state, message): everything the status has said, oldest first; ms since 1970."""
        self._changed = asyncio.Event()

    @property
    def status(self) -> Object:
        """Status of the rollout."""
        return dict(self.rollout.get("status") or {})

    @property
    def tables(self) -> list[AssignmentSpec]:
        """Every version of the table, oldest first."""
        return [version.spec for version in self.history.versions]

    @property
    def table(self) -> AssignmentSpec:
        """The latest one."""
        return self.history.versions[-1].spec

    def share(self, revision: str) -> int:
        """Basis points a revision serves at this moment; frozen ones count for nobody."""
        if not self.history.versions:
            return 0
        return sum(r.end - r.start + 1 for r in self.table.ranges if r.owner == revision and r.next is None)

    @property
    def frozen(self) -> bool:
        """Whether anything is on its way."""
        return any(r.next for r in self.table.ranges)

    def bucket(self, account: str) -> int:
        """Where an account belongs."""
        return bucket_of(self.table.salt, account)

    def moving(self, account: str, since: float, until: float) -> bool:
        """Whether a table that was in force at some moment between two times (ms) has this account on its way."""
        bucket, versions = self.bucket(account), self.history.versions
        for version, after in zip(versions, [*versions[1:], None], strict=True):
            if version.at > until or (after is not None and after.at < since):
                continue
            r = version.at_bucket(bucket)
            if r is not None and r.next is not None:
                return True
        return False

    async def until(self, what: str, holds: Callable[[], bool], seconds: float = 20.0) -> float:
        """Waits until it holds; returns how long that took (s). Raises AssertionError with what the rollout says."""
        began = time.monotonic()
        while not holds():
            left = began + seconds - time.monotonic()
            assert left > 0, (
                f"not within {seconds:g} s: {what}; {self.status.get('state')}: {self.status.get('message')}"
            )
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(left, 0.2))
        return time.monotonic() - began

    def take_orders(self, log: Path) -> int:
        """Adds what the strategies wrote about their orders; returns how many."""
        count = 0
        with log.open() as lines:
            for line in lines:
                o = json.loads(line)
                started, ended = int(o["started"] * 1000), int(o["ended"] * 1000)
                self.history.record_order(
                    o["account"], self.bucket(o["account"]), o["revision"], started, ended, where=o["pod"]
                )
                count += 1
        return count

    async def follow(self, api: Api, path: str, take: Callable[[str, Object], None]) -> None:
        """Keeps one kind current, for ever."""
        async for change, item in api.follow(path):
            for found in item["items"] if change == "SYNC" else [item]:
                take(change, found)
            self._changed.set()

    def took_rollout(self, change: str, item: Object) -> None:
        """A version of the rollout."""
        if item["metadata"]["name"] != self.name or change == "DELETED":
            return
        self.rollout = item
        words = (str(self.status.get("state")), str(self.status.get("message")))
        if not self.said or self.said[-1][1:] != words:
            self.said.append((time.time() * 1000, *words))

    def took_table(self, change: str, item: Object) -> None:
        """A version of the assignment. Its epoch is the time of the decision, which no watch can be late with."""
        if item["metadata"]["name"] == self.name and change != "DELETED":
            spec = AssignmentSpec.model_validate(item["spec"])
            self.history.record_table(spec.epoch, spec)

    def took_deployment(self, change: str, item: Object) -> None:
        """How many pods a revision is told to have."""
        labels = item["metadata"].get("labels") or {}
        declared = (self.rollout.get("spec") or {}).get("replicas")
        if change != "DELETED" and labels.get(LABEL_ROLLOUT) == self.name and LABEL_REVISION in labels:
            wanted = int(item["spec"].get("replicas", 1))
            self.history.record_replicas(int(time.time() * 1000), labels[LABEL_REVISION], wanted, declared)


@contextlib.asynccontextmanager
async def following(cluster: Watched, record: Record) -> AsyncIterator[None]:
    """The record is kept current within."""
    api = cluster.api()
    own = f"/apis/{API_VERSION}/namespaces/{record.namespace}"
    kinds: dict[str, Callable[[str, Object], None]] = {
        f"{own}/trafficassignments": record.took_table,
        f"{own}/strategyrollouts": record.took_rollout,
        f"/apis/apps/v1/namespaces/{record.namespace}/deployments": record.took_deployment,
    }
    tasks = [asyncio.create_task(record.follow(api, path, take)) for path, take in kinds.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await api.close()
