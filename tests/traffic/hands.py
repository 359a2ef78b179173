"""What people do to a rollout and see of it, in whatever cluster it is; every table is recorded for the history."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.api.meta import (
    API_VERSION,
    GROUP,
    LABEL_REVISION,
    LABEL_ROLE,
    LABEL_ROLLOUT,
    LABEL_ROLLOUT_UID,
    ROLE_ROUTER,
)
from tests.cluster.processes import until
from tests.demo.probe import misbehave
from tests.traffic.record import Object, Record

NAME = "momentum"
ACCOUNTS = tuple(f"ACC-{number:04}" for number in range(400))


@dataclass(frozen=True)
class Times:
    """How the rollouts of a test differ. Durations as users write them."""

    routers: int = 3
    steps: tuple[str, ...] = ("30%", "60%")
    drain: str = "300ms"
    lease: str = "2s"
    bake_lease: str = "2s"
    ack_timeout: str = "2s"
    bake: str = "0s"
    gates: tuple[Object, ...] = ()


class Asks(Protocol):
    """What is asked of a cluster, whatever it is."""

    async def request(self, method: str, path: str, body: Object | None = None) -> tuple[int, Object]:
        """One JSON request: status and answer."""

    async def apply(self, *objects: Object) -> None:
        """`kubectl apply`, server-side."""


class Hands:
    """One rollout, and what people do to it and see of it."""

    def __init__(self, cluster: Asks, folder: Path, record: Record, times: Times) -> None:
        self._asks = cluster
        self.folder = folder
        self.record = record
        self.times = times
        self._asked = 0

    @property
    def order_log(self) -> Path:
        """One line for each order, as the strategies tell it."""
        return self.folder / "orders.jsonl"

    async def template(self, version: str) -> Object:
        """The pod template of a version; each has an image of its own."""
        raise NotImplementedError

    async def apply(self, version: str, **spec: Any) -> None:
        """Asks for a version. Every step waits for `resume`."""
        times = self.times
        self.record.history.declare(round(float(step.rstrip("%")) * 100) for step in (*times.steps, "100%"))
        body = {
            "version": version,
            "workload": "RequestDriven",
            "replicas": 1,
            "template": spec.pop("template", None) or await self.template(version),
            "method": {"type": "Canary", "canary": {"steps": [{"weight": step, "hold": {}} for step in times.steps]}},
            "bake": {"duration": times.bake},
            "traffic": {
                "unit": {"header": "X-Account-Id"},
                "port": "orders",
                "drain": times.drain,
                "ackTimeout": times.ack_timeout,
                "lease": {"rollout": times.lease, "bake": times.bake_lease},
                "haproxy": {"replicas": times.routers},
            },
            "gates": list(times.gates),
            "settle": "0s",
            **spec,
        }
        metadata = {"name": NAME, "namespace": self.record.namespace}
        await self._asks.apply(
            {"apiVersion": API_VERSION, "kind": "StrategyRollout", "metadata": metadata, "spec": body}
        )

    async def ask(self, word: str) -> None:
        """`resume`, `promote` or `retry`."""
        self._asked += 1
        if word == "retry":
            self.record.history.record_retry(int(time.time() * 1000))
        path = f"/apis/{API_VERSION}/namespaces/{self.record.namespace}/strategyrollouts/{NAME}"
        body = {"metadata": {"annotations": {f"{GROUP}/{word}": f"{self._asked}"}}}
        status, answer = await self._asks.request("PATCH", path, body)
        assert status == 200, answer

    async def roll_back(self, to: str = "Previous") -> str:
        """On call asks for it; returns the name of the Rollback."""
        self._asked += 1
        name = f"by-on-call-{self._asked}"
        path = f"/apis/{API_VERSION}/namespaces/{self.record.namespace}/rollbacks"
        body = {
            "apiVersion": API_VERSION,
            "kind": "Rollback",
            "metadata": {"name": name, "namespace": self.record.namespace},
            "spec": {"rollout": NAME, "to": to, "reason": "fills diverge"},
        }
        status, answer = await self._asks.request("POST", path, body)
        assert status == 201, answer
        return name

    async def outcome(self, rollback: str) -> str:
        """What became of a Rollback; empty until it is told."""
        path = f"/apis/{API_VERSION}/namespaces/{self.record.namespace}/rollbacks/{rollback}"
        _, found = await self._asks.request("GET", path)
        return str((found.get("status") or {}).get("outcome") or "")

    async def routers(self) -> list[Object]:
        """Router pods, by name."""
        selector = f"{LABEL_ROLLOUT}={NAME},{LABEL_ROLE}={ROLE_ROUTER}"
        path = f"/api/v1/namespaces/{self.record.namespace}/pods?labelSelector={selector}"
        _, listed = await self._asks.request("GET", path)
        return sorted(listed["items"], key=lambda pod: str(pod["metadata"]["name"]))

    async def routers_ready(self, count: int | None = None, *, without: Sequence[str] = ()) -> list[str]:
        """Waits for so many ready routers, other than those with the UIDs `without`; returns their addresses."""
        count = self.times.routers if count is None else count
        found: list[str] = []

        async def ready() -> bool:
            nonlocal found
            pods = [pod for pod in await self.routers() if is_ready(pod) and pod["metadata"]["uid"] not in without]
            found = [str(pod["status"]["podIP"]) for pod in pods]
            return len(found) == count

        await until(f"{count} routers are ready", ready, 60)
        return found

    async def misbehave(self, revision: str, kind: str) -> None:
        """Tells every pod of a revision to."""
        path = f"/api/v1/namespaces/{self.record.namespace}/pods?labelSelector={LABEL_REVISION}={revision}"
        _, listed = await self._asks.request("GET", path)
        for pod in listed["items"]:
            await misbehave(pod["status"]["podIP"], kind, time.time())

    async def leases(self) -> dict[str, Object]:
        """Pod UID -> Lease."""
        uid = self.record.rollout["metadata"]["uid"]
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.record.namespace}/leases"
        _, listed = await self._asks.request("GET", f"{path}?labelSelector={LABEL_ROLLOUT_UID}={uid}")
        return {str(lease["metadata"]["name"]): lease for lease in listed["items"]}

    async def events(self) -> list[str]:
        """`reason: message` of everything that was announced about the rollout."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.record.namespace}/events"
        _, listed = await self._asks.request("GET", path)
        return [f"{e['reason']}: {e['note']}" for e in listed["items"] if e["regarding"]["name"] == NAME]

    async def stable(self, version: str = "1.0.0") -> str:
        """The first version serves everything through ready routers; returns its revision."""
        await self.apply(version)
        await self.record.until(f"{version} serves", lambda: self._is("Promoted", version), 60)
        await self.routers_ready()
        return str(self.record.status["stable"])

    async def candidate(self, version: str = "2.0.0", weight: str | None = None, **spec: Any) -> str:
        """A second version holds at the first step; returns its revision."""
        await self.apply(version, **spec)
        weight = weight or self.times.steps[0]
        await self.record.until(f"{version} holds at {weight}", lambda: self.holds_at(weight), 60)
        return self.on_trial

    @property
    def on_trial(self) -> str:
        """Revision of the attempt."""
        attempt = self.record.table.record.attempt
        assert attempt is not None
        return attempt.revision

    def holds_at(self, weight: str) -> bool:
        """Whether an attempt holds its share at this step."""
        attempt = self.record.table.record.attempt if self.record.history.versions else None
        wanted = round(float(weight.rstrip("%")) * 100)
        return attempt is not None and attempt.held_from is not None and self.record.share(attempt.revision) == wanted

    def _is(self, state: str, version: str) -> bool:
        status, meta = self.record.status, self.record.rollout.get("metadata") or {}
        current = status.get("observedGeneration") == meta.get("generation")
        return current and status.get("state") == state and status.get("stableVersion") == version

    async def promoted(self, version: str) -> None:
        """The candidate is let through to the end and trusted."""
        await self.ask("promote")
        await self.record.until(f"{version} is promoted", lambda: self._is("Promoted", version), 60)

    def taken_back(self) -> bool:
        """Whether the revert is done."""
        revert = self.record.table.record.revert
        return revert is not None and revert.served_at is not None

    def moves(self, revision: str, *, up: bool) -> int:
        """How often a revision was granted more, or how often it was left with nothing."""
        shares = [_granted(table, revision) for table in self.record.tables]
        return sum(after > before if up else after == 0 < before for before, after in pairwise(shares))

    def judge(self) -> int:
        """Every rule held, by the strategies' own log and all tables; returns how many orders were judged."""
        count = self.record.take_orders(self.order_log)
        broken = self.record.history.violations()
        assert not broken, "\n".join(f"{rule} {rule.evidence}" for rule in broken[:5])
        return count


def _granted(table: AssignmentSpec, revision: str) -> int:
    return sum(r.end - r.start + 1 for r in table.ranges if r.owner == revision)


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready and not on its way out."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]
