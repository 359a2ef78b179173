"""A small world in which `decide` runs for real: a stored table with compare-and-swap, routers, pods, gates, a clock.

Table tests and generated worlds both drive it. It keeps the facts that the rules are about: what each router would
admit right now, and what the API has held; `tests.history` judges those.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from strategyrollout.api.assignment import AssignmentSpec, Range
from strategyrollout.api.rollout import RolloutSpec
from strategyrollout.api.status import RolloutStatus
from strategyrollout.core.decide import decide
from strategyrollout.core.decision import Decision
from strategyrollout.core.gates import Gate, Query, Sample
from strategyrollout.core.observed import (
    Consumer,
    Consumers,
    GateReading,
    Observed,
    Problem,
    Request,
    Revision,
    Stored,
    Workload,
)

START = 1_700_000_000_000
SECOND = 1_000
MINUTE = 60 * SECOND
REVISIONS = {name: (name[-1] * 10) for name in ("v1", "v2", "v3", "v4")}


def canary(*weights: str, hold: str | None = "1m", **extra: Any) -> dict[str, Any]:
    """A spec with a canary of these weights, all held for `hold` (None: until resumed)."""
    steps: list[dict[str, Any]] = [{"weight": w, "hold": {"duration": hold} if hold else {}} for w in weights]
    return _spec({"type": "Canary", "canary": {"steps": steps}}, **extra)


def blue_green(preview: str = "1m", promote: str = "Automatic", **extra: Any) -> dict[str, Any]:
    """A blue/green spec."""
    return _spec({"type": "BlueGreen", "blueGreen": {"preview": {"duration": preview}, "promote": promote}}, **extra)


def _spec(method: dict[str, Any], **extra: Any) -> dict[str, Any]:
    traffic = {"unit": {"header": "X-Account-Id"}, "drain": "250ms", "haproxy": {"replicas": 2}}
    base = {
        "version": "1.0.0",
        "workload": "RequestDriven",
        "replicas": 2,
        "template": {"spec": {"containers": []}},
        "method": method,
        "traffic": traffic,
        "bake": {"duration": "10m"},
        "settle": "5s",
    }
    return base | extra


def gate(name: str = "reject-rate", *, above: str = "0.05", **changes: Any) -> Gate:
    """A gate ready for judging."""
    plain = Gate(
        name=name,
        query=Query(name, 5 * SECOND, 15 * SECOND),
        when=frozenset({"Rollout", "Bake"}),
        above=Decimal(above),
        below=None,
        reduce="Worst",
        severity="Stop",
        breaches=1,
        of=1,
        no_data="Hold",
        no_data_after=30 * SECOND,
    )
    return replace(plain, **changes)


@dataclass
class Router:
    """A consumer that follows the rules of DESIGN 5; tests pause it, cut it off or kill it."""

    name: str
    table: AssignmentSpec | None = None
    read_at: int = 0
    reachable: bool = True
    acked: int = 0
    acked_seen: dict[int, int] = field(default_factory=dict)
    open: bool = True
    renewed_at: int = 0

    def sync(self, table: AssignmentSpec | None, now: int) -> None:
        """One consistent read, and the ack of what it found."""
        if not self.reachable or table is None:
            return
        if self.table is None or table.epoch >= self.table.epoch:
            self.table, self.read_at = table, now
            self.acked = table.epoch

    def admits(self, now: int) -> dict[int, str]:
        """Bucket boundary -> owner for what it would admit at this instant (sampled at the start of each range)."""
        if self.table is None or not self.open:
            return {}
        return {b: r.owner for r in self.table.ranges if self._may(r, now) for b in (r.start, r.end)}

    def owner_of(self, bucket: int, now: int) -> str | None:
        """Who would get a request for this bucket now."""
        if self.table is None or not self.open:
            return None
        found = next((r for r in self.table.ranges if r.start <= bucket <= r.end), None)
        return found.owner if found is not None and self._may(found, now) else None

    def _may(self, r: Range, now: int) -> bool:
        assert self.table is not None
        fresh = not r.leased or now < self.read_at + self.table.lease
        return r.next is None and r.owner != "nobody" and fresh


class Simulation:
    """One rollout. `step` is one pass of the operator; `run` lets time pass."""

    def __init__(self, spec: dict[str, Any], version: str = "v1", gates: tuple[Gate, ...] = ()) -> None:
        self.now = START
        self.raw = spec
        self.target: str | None = version
        self.gates = gates
        self.value: dict[str, str | None] = {}
        self.blind_since: int | None = None
        self.table: AssignmentSpec | None = None
        self.history: list[AssignmentSpec] = []
        self.frozen_seen: dict[int, int] = {}
        self.status = RolloutStatus()
        self.routers = [Router("router-0"), Router("router-1")]
        self.ready: dict[str, int] = {}
        self.desired: dict[str, int] = {}
        self.starts = True
        self.requests: list[Request] = []
        self.problems: tuple[Problem, ...] = ()
        self.samples: list[tuple[str, str, Sample]] = []
        self.known: set[str] = {version}
        self.decisions: list[Decision] = []
        self.notices: list[str] = []
        self.generation = 1
        self.ids = 0
        self.service_at = START
        self.routers_ready: int | None = None
        self.routers_problem = ""
        self.service_selects: str | None = None
        self.shared_digests: dict[str, str] = {}

    @property
    def spec(self) -> RolloutSpec:
        """The spec as parsed."""
        return RolloutSpec.model_validate(self.raw)

    def revision(self, name: str) -> Revision:
        """A revision by its short name."""
        digest = self.shared_digests.get(name, f"sha256:{REVISIONS[name]}")
        return Revision(REVISIONS[name], f"{name[1:]}.0.0", frozenset({digest}), (f"image@{digest}",))

    def observe(self) -> Observed:
        """The world as a pass would read it."""
        self.ids += 1
        stored = None
        if self.table is not None:
            seen = self.frozen_seen.setdefault(self.table.epoch, self.now)
            stored = Stored(self.table, str(self.table.epoch), seen)
        open_ones = [r for r in self.routers if (r.open and r.table is not None) or (r.open and self.table is not None)]
        consumers = Consumers(
            self.now,
            tuple(
                Consumer(
                    r.name, r.name, r.acked, False, r.acked_seen.setdefault(r.acked, self.now), renewed_at=r.renewed_at
                )
                for r in open_ones
            ),
        )
        attempt = self.table.record.attempt if self.table else None
        about = attempt.revision if attempt else (self.table.record.stable if self.table else None)
        return Observed(
            now=self.now,
            namespace="desk",
            name="momentum",
            uid="uid",
            generation=self.generation,
            spec=self.spec,
            problems=self.problems,
            target=self.revision(self.target) if self.target else None,
            revisions={REVISIONS[n]: self.revision(n) for n in self.known},
            workloads={
                h: Workload(h, self.desired[h], self.desired[h], min(self.ready.get(h, 0), self.desired[h]))
                for h in self.desired
            },
            stored=stored,
            consumers=consumers,
            gates=tuple(GateReading(g, about or "", self._samples(g, about)) for g in self.gates),
            watching_since=START,
            blind_since=self.blind_since,
            requests=tuple(self.requests),
            status=self.status,
            attempt_id=f"attempt-{self.ids}",
            routers_ready=self.routers_ready,
            routers_problem=self.routers_problem,
            service_selects=self.service_selects,
        )

    def _samples(self, gate: Gate, about: str | None) -> tuple[Sample, ...]:
        return tuple(s for name, rev, s in self.samples if name == gate.name and rev == about)[-20:]

    def step(self) -> Decision:
        """One pass: decide, then write."""
        decision = decide(self.observe())
        self.decisions.append(decision)
        if decision.assignment is not None:
            self.store(decision.assignment)
            return decision
        for revision, count in decision.replicas.items():
            self.desired[revision] = count
            if self.starts and count:
                self.ready.setdefault(revision, count)
                self.ready[revision] = max(self.ready[revision], count) if self.ready[revision] else 0
        if decision.status is not None:
            self.status = decision.status
        self.notices += [n.reason for n in decision.notices]
        return decision

    def store(self, table: AssignmentSpec) -> None:
        """What the API server holds from now on."""
        assert self.table is None or table.epoch > self.table.epoch
        self.table = table
        self.history.append(table)
        self.frozen_seen[table.epoch] = self.now

    def sample(self) -> None:
        """One answer of every gate's query about every revision that runs."""
        for g in self.gates:
            for revision in self.desired:
                value = self.value.get(g.name, "0.01")
                values = (Decimal(value),) if value is not None else ()
                self.samples.append((g.name, revision, Sample(self.now, values)))
        self.samples = self.samples[-400:]

    def run(self, duration: int, every: int = SECOND) -> None:
        """Let time pass: routers read, gates are asked, the operator passes until it has nothing to write."""
        end = self.now + duration
        while self.now < end:
            self.now += every
            self.sample()
            self.settle()

    def settle(self) -> None:
        """Passes and router reads at one instant until nothing more happens."""
        for _ in range(12):
            before = self.table
            self.step()
            for router in self.routers:
                router.sync(self.table, self.now)
            if self.table is before:
                return

    def until(self, wanted: str, limit: int = 60 * MINUTE) -> None:
        """Let time pass until `status.state` is `wanted`."""
        end = self.now + limit
        while self.status.state != wanted and self.now < end:
            self.run(SECOND)
        assert self.status.state == wanted, f"{self.status.state}: {self.status.message}"

    def apply(self, name: str, **changes: Any) -> None:
        """A person applies another revision or other fields."""
        self.target = name
        self.known.add(name)
        self.generation += 1
        self.raw = self.raw | changes

    def share(self, name: str) -> int:
        """Basis points a revision owns in the stored table."""
        ranges = self.table.ranges if self.table else []
        return sum(r.end - r.start + 1 for r in ranges if r.owner == REVISIONS[name])

    def served(self, name: str, bucket: int) -> bool:
        """Whether any router would admit this bucket to the revision now."""
        return any(r.owner_of(bucket, self.now) == REVISIONS[name] for r in self.routers)


def annotation(verb: Any, value: str) -> Request:
    """A request by annotation."""
    return Request("Annotation", verb, f"strategyrollout.io/{verb.lower()}", value, reason=value)


def promoted(version: str = "v1", spec: dict[str, Any] | None = None, gates: tuple[Gate, ...] = ()) -> Simulation:
    """A rollout whose first revision serves everything."""
    sim = Simulation(spec or canary("10%", "50%"), version, gates)
    sim.run(5 * SECOND)
    assert sim.status.state == "Promoted", f"{sim.status.state}: {sim.status.message}"
    return sim


def on_canary(*weights: str, **spec: Any) -> Simulation:
    """v2 holding at its first weight with v1 trusted."""
    sim = promoted(spec=canary(*(weights or ("10%", "50%")), **spec), gates=(gate(),))
    sim.apply("v2")
    sim.until("Holding")
    return sim
