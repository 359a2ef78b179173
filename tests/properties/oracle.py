"""What must be true of every single decision, whatever the world: said independently of how `decide` works."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from strategyrollout.api.assignment import AssignmentSpec, Record
from strategyrollout.api.meta import BUCKETS, NOBODY
from strategyrollout.core.decision import Decision
from strategyrollout.core.observed import Observed

if TYPE_CHECKING:
    from tests.properties.world import World


def judge(world: World, observed: Observed, decision: Decision) -> None:
    """Raises AssertionError for the first thing that is wrong."""
    assert decision == world.decide(observed), "not deterministic"
    if decision.assignment is not None:
        _is_valid(observed, decision.assignment)
        _grants_only_to_ready(observed, decision.assignment)
        _raises_only_with_evidence(observed, decision.assignment)
        assert decision.status is None
        assert not decision.replicas
    else:
        _is_a_fixed_point(world, observed, decision)
    _reverts_first(observed, decision)


def _is_valid(observed: Observed, table: AssignmentSpec) -> None:
    assert AssignmentSpec.model_validate(table.to_json()) == table, "not what the API server would keep"
    assert observed.stored is None or table.epoch > observed.stored.spec.epoch
    spans = sorted((r.start, r.end) for r in table.ranges)
    assert all(a[1] < b[0] for a, b in pairwise(spans)), "ranges overlap"
    assert sum(end - start + 1 for start, end in spans) <= BUCKETS


def _owner(table: AssignmentSpec | None, bucket: int) -> tuple[str, str | None]:
    for r in table.ranges if table else []:
        if r.start <= bucket <= r.end:
            return r.owner, r.next
    return NOBODY, None


def _cuts(*tables: AssignmentSpec | None) -> list[int]:
    return sorted({0} | {b for t in tables if t for r in t.ranges for b in (r.start, r.end + 1) if b < BUCKETS})


def _grants_only_to_ready(observed: Observed, table: AssignmentSpec) -> None:
    before = observed.stored.spec if observed.stored else None
    for bucket in _cuts(before, table):
        (had, _), (has, moving) = _owner(before, bucket), _owner(table, bucket)
        if has not in (had, NOBODY) and moving is None:
            workload = observed.workloads.get(has)
            assert workload is not None, f"bucket {bucket} is granted to {has}, which has no pods"
            assert workload.ready > 0, f"bucket {bucket} is granted to {has}, which has no ready pod"


def _weight(table: AssignmentSpec | None, revision: str) -> int:
    """Owned and on its way."""
    return sum(r.end - r.start + 1 for r in (table.ranges if table else []) if revision in (r.owner, r.next))


def _granted(table: AssignmentSpec | None, revision: str) -> int:
    ranges = table.ranges if table else []
    return sum(r.end - r.start + 1 for r in ranges if r.owner == revision and r.next is None)


def _raises_only_with_evidence(observed: Observed, table: AssignmentSpec) -> None:
    """A share of a candidate rises, or begins to, only on a fresh passing sample and with nothing wrong."""
    attempt, before = table.record.attempt, observed.stored.spec if observed.stored else None
    if attempt is None:
        return
    rises = _weight(table, attempt.revision) > _weight(before, attempt.revision)
    rises = rises or _granted(table, attempt.revision) > _granted(before, attempt.revision)
    if not rises:
        return
    assert observed.spec is not None, "a share rises by a spec that cannot be read"
    assert not observed.spec.paused, "a share rises while paused"
    assert not observed.problems, "a share rises while something is wrong with the spec"
    assert observed.spec.rollback is None, "a share rises while a rollback is pinned"
    for reading in observed.gates:
        gate = reading.gate
        fresh = max(gate.query.max_age, 2 * gate.query.interval)
        recent = [s for s in reading.samples if observed.now - s.at <= fresh and s.at >= attempt.started_at]
        assert recent, f"a share rises without a fresh sample of {gate.name}"
        assert recent[-1].values, f"a share rises on an empty answer of {gate.name}"
        assert all(v.is_finite() for v in recent[-1].values), f"a share rises on {recent[-1].values}"
        assert gate.above is None or max(recent[-1].values) <= gate.above, f"a share rises on a breach of {gate.name}"


def _is_a_fixed_point(world: World, observed: Observed, decision: Decision) -> None:
    """A pass right after this one asks for nothing and says nothing."""
    if decision.status is None:
        return
    again = world.decide(replace(observed, status=decision.status))
    assert again.assignment is None, f"a second pass writes {again.assignment.cause}"
    assert again.replicas == decision.replicas
    assert again.notices == (), "said twice"
    assert again.status == decision.status


def must_revert(observed: Observed) -> bool:
    """Whether a candidate has to go now: a fresh breach, or a rollback that nobody has acted upon."""
    record = observed.stored.spec.record if observed.stored else Record()
    if record.attempt is None or observed.deleting or not observed.assignment_known:
        return False
    for request in observed.requests:
        handled = record.handled.get(request.key) == request.value or any(
            entry.split("=")[0] == request.key for entry in record.objects
        )
        if request.verb == "Rollback" and request.to == "Previous" and not handled:
            return True
    for reading in observed.gates:
        usable = [s for s in reading.samples if s.at >= record.attempt.started_at and s.values]
        finite = [s for s in usable if all(v.is_finite() for v in s.values)]
        fresh = max(reading.gate.query.max_age, 2 * reading.gate.query.interval)
        above = reading.gate.above
        if finite and above is not None and max(finite[-1].values) > above and observed.now - finite[-1].at <= fresh:
            return True
    return False


def _reverts_first(observed: Observed, decision: Decision) -> None:
    """The Freeze is in the same decision, whatever else is wrong."""
    if not must_revert(observed) or any(r.source == "Override" for r in observed.requests):
        return  # a person at the wheel has the last word, also to the candidate
    assert observed.stored is not None
    attempt = observed.stored.spec.record.attempt
    assert attempt is not None
    table = decision.assignment
    assert table is not None, "a reason to revert, and nothing is written"
    if table.cause.kind == "Repair":
        return  # everything is frozen
    assert table.record.attempt is None
    assert not any(r.owner == attempt.revision and r.next is None for r in table.ranges), "the candidate still serves"
    assert not any(r.next == attempt.revision for r in table.ranges), "something is still on its way to the candidate"
