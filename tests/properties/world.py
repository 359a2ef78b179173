"""A world that can go wrong between any two moments, with everything in it recorded for the history checker.

Each method is one micro-step. After each, living routers are asked for orders, so whatever they would admit is on
record. `decided` is where every pass of every operator goes through, and where `tests.properties.oracle` looks.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.api.rollout import RolloutSpec
from strategyrollout.api.status import RolloutStatus
from strategyrollout.core.buckets import is_frozen
from strategyrollout.core.decide import decide
from strategyrollout.core.decision import Decision
from strategyrollout.core.gates import Gate, Sample
from strategyrollout.core.observed import (
    Consumers,
    GateReading,
    Observed,
    Problem,
    Request,
    Revision,
    Stored,
    Workload,
)
from strategyrollout.core.recipe import compile_recipe
from strategyrollout.core.revert import override_due
from tests.core.simulation import REVISIONS, SECOND, START, canary, gate
from tests.history import History
from tests.properties import oracle
from tests.properties.operators import Operator
from tests.properties.routers import Router

PROBES = (0, 499, 999, 1_000, 2_999, 4_999, 5_000, 9_999)
GATE = gate(when=frozenset({"PreTrade", "Rollout", "Bake", "Always"}))
DRAIN = 250


@lru_cache(maxsize=256)
def _parsed(text: str) -> RolloutSpec:
    return RolloutSpec.model_validate_json(text)


@dataclass
class World:
    """One rollout, its routers, its operators, and the API between them."""

    raw: dict[str, Any] = field(default_factory=lambda: canary("10%", "50%", hold="30s", bake={"duration": "2m"}))
    target: str | None = "v1"
    gates: tuple[Gate, ...] = (GATE,)
    now: int = START
    table: AssignmentSpec | None = None
    version: int = 0
    older: list[tuple[int, AssignmentSpec]] = field(default_factory=list)
    status: RolloutStatus = field(default_factory=RolloutStatus)
    routers: list[Router] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    desired: dict[str, int] = field(default_factory=dict)
    ready: dict[str, int] = field(default_factory=dict)
    starts: bool = True
    value: str | None = "0.01"
    samples: list[tuple[str, Sample]] = field(default_factory=list)
    blind_since: int | None = None
    problems: tuple[Problem, ...] = ()
    unreadable: bool = False
    requests: dict[str, Request] = field(default_factory=dict)
    override: tuple[Operator, Request] | None = None
    """A person's command under way, with a memory of its own."""
    known: set[str] = field(default_factory=set)
    ids: int = 0
    busy: int = DRAIN
    """How long every order lasts (ms)."""
    history: History = field(default_factory=History)
    said: list[str] = field(default_factory=list)
    decide: Any = decide

    @classmethod
    def new(cls, **changes: Any) -> World:
        """Two operators, two routers of which one has a slow clock, nothing decided yet."""
        world = cls(**changes)
        world.operators = [Operator("a", world.now), Operator("b", world.now)]
        for slow in (False, True):
            world.join(slow_clock=slow)
        world.edit(target=world.target)
        return world

    def fork(self) -> World:
        """An independent copy. What is frozen is shared."""
        other = copy.copy(self)
        for name in ("older", "samples", "said"):
            setattr(other, name, list(getattr(self, name)))
        for name in ("desired", "ready", "requests", "raw"):
            setattr(other, name, dict(getattr(self, name)))
        other.known = set(self.known)
        other.override = None
        other.routers = [replace(r, flight=list(r.flight)) for r in self.routers]
        other.operators = [
            replace(o, frozen_seen=dict(o.frozen_seen), acks=dict(o.acks), known=set(o.known), lost=dict(o.lost))
            for o in self.operators
        ]
        other.history = copy.copy(self.history)
        for name in ("versions", "orders", "replicas", "shares", "wishes", "retries"):
            setattr(other.history, name, copy.copy(getattr(self.history, name)))
        return other

    @property
    def spec(self) -> RolloutSpec | None:
        """The spec as parsed; None while nobody can read it."""
        return None if self.unreadable else self._spec

    @property
    def _spec(self) -> RolloutSpec:
        return _parsed(json.dumps(self.raw, sort_keys=True))

    # -- time and orders

    def advance(self, ms: int) -> None:
        """Time passes; orders keep coming until the end of it."""
        self.order()
        self.now += ms
        self.order()

    def order(self) -> None:
        """One order for every probed unit at every router, as long as `busy` says."""
        for r in self.routers:
            for bucket in PROBES:
                owner = r.owner_of(bucket, self.now)
                if owner is not None:
                    end = self.now + self.busy
                    r.flight.append((self.now, end, bucket))
                    self.history.record_order(f"u{bucket}", bucket, owner, self.now, end, where=r.name)

    # -- routers

    def join(self, *, slow_clock: bool = False) -> None:
        """A new router opens its Lease; it serves nothing before a read that it sends after that."""
        if sum(r.lease == "Open" for r in self.routers) < 4:
            self.routers.append(Router(f"router-{len(self.routers)}", slow_clock))

    def prove_dead(self, router: Router) -> None:
        """The operator sees that the containers of a killed router have terminated, and closes its Lease."""
        if not router.alive and router.lease == "Open":
            router.lease = "Ended"

    # -- people and clusters

    def edit(self, *, target: str | None, **changes: Any) -> None:
        """Somebody applies another revision or other fields."""
        self.target, self.raw = target, self.raw | changes
        if target is not None:
            self.known.add(target)
            self.history.record_wish(self.now, REVISIONS[target])
        self.history.declare([step.weight for step in compile_recipe(self._spec)] + [10_000])

    def ask(self, request: Request) -> None:
        """Somebody asks for something."""
        self.requests[request.key] = request
        if request.verb == "Retry":
            self.history.record_retry(self.now)

    def sample(self, value: str | None) -> None:
        """One answer of the gate's query about everything that runs."""
        values = () if value is None else (Decimal(value),)
        self.samples += [(revision, Sample(self.now, values)) for revision in self.desired]
        self.samples = self.samples[-60:]

    def delete(self) -> None:
        """Somebody deletes the assignment, which takes longer than the few writes of one instant."""
        self.advance(SECOND)
        if self.table is not None:
            self.table, self.version = None, self.version + 1
            self.history.record_loss()

    def restore(self, index: int) -> None:
        """A backup brings an older assignment back, which takes its time too."""
        self.advance(SECOND)
        if self.older:
            self.table, self.version = self.older[index % len(self.older)][1], self.version + 1
            self.history.record_table(self.now, self.table, foreign=True)

    # -- operators

    def revision(self, name: str) -> Revision:
        """A revision by its short name."""
        return Revision(REVISIONS[name], f"{name[1:]}.0.0", frozenset({f"sha256:{REVISIONS[name]}"}))

    def observe(self, operator: Operator, *, stale: int = 0, old_list: bool = False) -> tuple[Observed, int]:
        """What a pass reads. `stale`: so many versions of the object ago; `old_list`: Leases as listed before."""
        self.ids += 1
        table, version = self.table, self.version
        if stale and self.older and table is not None:
            version, table = self.older[-min(stale, len(self.older))]
        stored = None
        if table is not None:
            seen = operator.frozen_seen.setdefault(table.epoch, self.now) if is_frozen(table.ranges) else None
            stored = Stored(table, str(version), seen)
        observed = Observed(
            now=self.now,
            namespace="desk",
            name="momentum",
            uid="uid",
            generation=1,
            spec=self.spec,
            problems=self.problems,
            target=self.revision(self.target) if self.target else None,
            revisions={REVISIONS[n]: self.revision(n) for n in self.known},
            workloads={h: Workload(h, n, n, min(self.ready.get(h, 0), n)) for h, n in self.desired.items()},
            stored=stored,
            consumers=self._consumers(operator, stored, old_list=old_list),
            gates=self._readings(operator, table),
            watching_since=operator.started_at,
            blind_since=self.blind_since,
            requests=tuple(self.requests.values()),
            status=self.status,
            attempt_id=f"attempt-{self.ids}",
        )
        return observed, version

    def _consumers(self, operator: Operator, stored: Stored | None, *, old_list: bool) -> Consumers | None:
        if old_list and operator.last_list is not None:
            return operator.last_list
        quiet = stored is not None and not is_frozen(stored.spec.ranges)
        if (
            quiet
            and stored is not None
            and all(r.acked <= stored.spec.epoch for r in self.routers if r.lease == "Open")
        ):
            return None
        return operator.list_leases(self.routers, self.now)

    def _readings(self, operator: Operator, table: AssignmentSpec | None) -> tuple[GateReading, ...]:
        record = table.record if table else None
        if record is None or (record.revert is not None and record.revert.served_at is None):
            return ()
        about = record.attempt.revision if record.attempt else record.stable
        if about is None:
            return ()
        mine = tuple(s for revision, s in self.samples if revision == about and s.at >= operator.started_at)
        gates = self.gates if record.attempt else tuple(g for g in self.gates if "Always" in g.when)
        return tuple(GateReading(g, about, mine) for g in gates)

    def hold(self, operator: Operator, *, stale: int = 0) -> None:
        """A pass reads the world, and is then paused for as long as it takes."""
        operator.stash = self.observe(operator, stale=stale)

    def act(self, operator: Operator) -> None:
        """A paused pass goes on with what it has read."""
        if operator.stash is not None:
            observed, version = operator.stash
            operator.stash = None
            self.finish(operator, observed, version)

    def run(self, operator: Operator, *, stale: int = 0, old_list: bool = False, dies: str = "") -> Decision:
        """One pass. `dies`: "children" before, "status" before that is written."""
        return self.finish(operator, *self.observe(operator, stale=stale, old_list=old_list), dies=dies)

    def finish(self, operator: Operator, observed: Observed, version: int, *, dies: str = "") -> Decision:
        """Decide and write: the assignment by compare-and-swap or, if there is nothing to swap, everything else."""
        decision: Decision = self.decide(observed)
        oracle.judge(self, observed, decision)
        if decision.assignment is not None:
            self.swap(operator, decision.assignment, version)
            return decision
        if dies == "children" or version != self.version:
            return decision
        spec = observed.spec
        for revision, count in decision.replicas.items():
            self.history.record_replicas(self.now, revision, count, spec.replicas if spec else None)
            self.desired[revision] = count
            if self.starts:
                self.ready[revision] = max(self.ready.get(revision, 0), count)
        if dies != "status" and decision.status is not None:
            self.status = decision.status
            for name in decision.rollbacks:
                self.requests = {k: r for k, r in self.requests.items() if r.source != "Object" or r.value != name}
        self.said += [n.reason for n in decision.notices]
        return decision

    def swap(self, operator: Operator, table: AssignmentSpec, version: int) -> bool:
        """The compare-and-swap."""
        if version != self.version:
            return False
        if self.table is not None:
            self.older = [*self.older[-7:], (self.version, self.table)]
        self.table, self.version = table, self.version + 1
        operator.frozen_seen[table.epoch] = self.now
        self.history.record_table(self.now, table)
        return True

    # -- a person, whether an operator runs or not

    def begin_override(self, to: str) -> None:
        """Somebody runs the command; one that ran before is killed. It refuses what has no pods to be started."""
        if to in self.desired:
            request = Request("Override", "Rollback", "override", "override", to, "fills", by="alice")
            self.override = (Operator("person", self.now), request)

    def go_on_with_override(self) -> None:
        """One pass of the command: what `decide` says to the same world with the request in it, the table alone."""
        if self.override is None:
            return
        operator, request = self.override
        observed, version = self.observe(operator)
        observed = replace(observed, requests=(*observed.requests, request), gates=(), target=None)
        if not override_due(observed):
            self.override = None
            return
        decision: Decision = self.decide(observed)
        oracle.judge(self, observed, decision)
        if decision.assignment is not None:
            assert decision.assignment.cause.kind == "Override", "a person writes nothing else"
            self.swap(operator, decision.assignment, version)
            return
        wanted = decision.replicas.get(request.to, 1)
        self.desired[request.to] = max(self.desired[request.to], wanted)
        if self.starts:
            self.ready[request.to] = max(self.ready.get(request.to, 0), wanted)

    # -- good behaviour

    def settle(self) -> None:
        """Everybody who can does what is to be done at this instant, until nothing more happens."""
        for _ in range(12):
            before = self.version
            self.run(self.operators[0])
            for r in self.routers:
                r.send(self.now, self.table)
                r.apply()
                r.ack(self.now)
            if self.version == before:
                return

    def quiet(self, seconds: int) -> None:
        """Time passes and everybody does what is to be done."""
        for _ in range(seconds):
            self.advance(SECOND)
            if self.blind_since is None:
                self.sample(self.value)
            self.settle()

    def until(self, *states: str, limit: int = 3_600) -> None:
        """Good behaviour until the state is one of these."""
        for _ in range(limit):
            if self.status.state in states:
                return
            self.quiet(1)
        raise AssertionError(f"{self.status.state}: {self.status.message}; wanted {states}")

    def share(self, name: str) -> int:
        """Buckets a revision owns."""
        return sum(r.end - r.start + 1 for r in (self.table.ranges if self.table else []) if r.owner == REVISIONS[name])
