"""What the API server holds about the rollout, followed by a watch; every version of the assignment is kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strategyrollout.api.meta import API_VERSION, LABEL_REVISION, LABEL_ROLE, LABEL_ROLLOUT, ROLE_STRATEGY
from tests.cluster.access import Access
from tests.cluster.node.api import Api

Object = dict[str, Any]


class NotAsTold(AssertionError):
    """Reality differs from the story; the message says how."""


@dataclass(frozen=True)
class Seen:
    """A version of the assignment and when it was seen, in milliseconds since 1970."""

    at: int
    body: Object


@dataclass
class World:
    """The latest of everything. Never older than what was waited for."""

    namespace: str
    name: str
    record: Path
    rollout: Object = field(default_factory=dict)
    history: list[Seen] = field(default_factory=list)
    """Every version of the assignment, oldest first."""
    rollbacks: dict[str, Object] = field(default_factory=dict)
    pods: dict[str, Object] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> Object:
        """Status of the rollout."""
        status: Object = self.rollout.get("status") or {}
        return status

    @property
    def ranges(self) -> list[Object]:
        """Ranges of the assignment."""
        return _ranges(self.history[-1].body) if self.history else []

    @property
    def weights(self) -> dict[str, int]:
        """Revision -> buckets it serves at this moment; frozen ones belong to nobody."""
        return _weights(self.ranges)

    def steps(self, revision: str) -> list[float]:
        """The shares (percent) the revision held so far while nothing was moving, in order."""
        shares: list[float] = []
        for seen in self.history:
            ranges = _ranges(seen.body)
            share = _weights(ranges).get(revision, 0) / 100
            if not any(r.get("next") for r in ranges) and share and share not in shares[-1:]:
                shares.append(share)
        return shares

    @property
    def frozen(self) -> int:
        """Buckets on their way."""
        return sum(r["to"] - r["from"] + 1 for r in self.ranges if r.get("next"))

    def revision_of(self, version: str) -> str | None:
        """The revision of a version, once the operator has reported it."""
        return next((r["revision"] for r in self.status.get("revisions") or [] if r["version"] == version), None)

    def version_of(self, revision: str) -> str:
        """The version of a revision; the revision itself while it is not known."""
        known = self.status.get("revisions") or []
        return next((str(r["version"]) for r in known if r["revision"] == revision), revision)

    def observed(self, version: str) -> bool:
        """Whether the status is about the spec that asks for this version."""
        generation = (self.rollout.get("metadata") or {}).get("generation")
        asked = (self.rollout.get("spec") or {}).get("version")
        return asked == version and self.status.get("observedGeneration") == generation

    def serves_all(self, revision: str | None) -> bool:
        """Whether this revision has every bucket, thawed."""
        return revision is not None and self.weights.get(revision) == 10_000

    def outcome(self, rollback: str) -> str:
        """Outcome of a Rollback object; empty until there is one."""
        return str((self.rollbacks.get(rollback, {}).get("status") or {}).get("outcome") or "")

    def addresses(self, revision: str) -> list[str]:
        """Addresses of the strategy pods of a revision."""
        found = [p for p in self.pods.values() if p["metadata"]["labels"].get(LABEL_REVISION) == revision]
        return [pod["status"]["podIP"] for pod in found if (pod.get("status") or {}).get("podIP")]

    async def until(self, what: str, holds: Callable[[], bool], timeout: float) -> None:
        """Wait until it holds. Raises NotAsTold with what the operator says instead."""
        deadline = time.monotonic() + timeout
        while not holds():
            left = deadline - time.monotonic()
            if left <= 0:
                said = f"{self.status.get('state')}: {self.status.get('message')}"
                raise NotAsTold(f"after {timeout:g} s it is not so that {what}; the rollout says {said}")
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), min(left, 0.5))

    def _take(self, kind: str, change: str, item: Object) -> None:
        name = item["metadata"]["name"]
        if kind == "trafficassignments" and name == self.name:
            seen = Seen(int(time.time() * 1000), item)
            self.history.append(seen)
            line = {"at": seen.at, "type": change, "object": item}
            with self.record.open("a") as file:
                file.write(json.dumps(line) + "\n")
        elif kind == "strategyrollouts" and name == self.name:
            self.rollout = item
        elif kind == "rollbacks":
            self.rollbacks[name] = item
        elif kind == "pods" and change == "DELETED":
            self.pods.pop(name, None)
        elif kind == "pods":
            labels = item["metadata"].get("labels") or {}
            if labels.get(LABEL_ROLLOUT) == self.name and labels.get(LABEL_ROLE) == ROLE_STRATEGY:
                self.pods[name] = item
        self.changed.set()

    async def follow(self, api: Api, kind: str) -> None:
        """Keep one kind current, for ever."""
        group = "/api/v1" if kind == "pods" else f"/apis/{API_VERSION}"
        async for change, item in api.follow(f"{group}/namespaces/{self.namespace}/{kind}"):
            for found in item["items"] if change == "SYNC" else [item]:
                self._take(kind, change, found)


def _ranges(assignment: Object) -> list[Object]:
    ranges: list[Object] = assignment["spec"].get("ranges") or []
    return ranges


def _weights(ranges: list[Object]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for r in ranges:
        if not r.get("next"):
            counts[r["owner"]] += r["to"] - r["from"] + 1
    return dict(counts)


@contextlib.asynccontextmanager
async def following(cluster: Access, namespace: str, name: str) -> AsyncIterator[World]:
    """The world, kept current while the block runs."""
    world = World(namespace, name, cluster.folder / "assignments.jsonl")
    world.record.touch()
    api = cluster.api()
    kinds = ("trafficassignments", "strategyrollouts", "rollbacks", "pods")
    tasks = [asyncio.create_task(world.follow(api, kind)) for kind in kinds]
    try:
        yield world
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await api.close()
