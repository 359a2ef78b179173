"""The one revert. Gates, people, deadlines and newer revisions all end up here; nothing else takes traffic back.

`cause` answers whether and why, `first_write` freezes, `second_write` grants. Nothing here asks whether the failing
side is ready, whether a template exists or whether Prometheus answers (rule 1).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from strategyrollout.api.assignment import AssignmentSpec, Attempt, Cause, Quarantine, Range, Record, Revert
from strategyrollout.api.meta import BUCKETS, NOBODY
from strategyrollout.api.scalars import format_duration, format_percent
from strategyrollout.core.buckets import filled, is_frozen, size, weight
from strategyrollout.core.health import Health, breach_cause
from strategyrollout.core.moves import Barrier, barrier, granted, next_epoch, taken_back, written
from strategyrollout.core.observed import Observed, Request, Stored
from strategyrollout.core.quarantine import entered
from strategyrollout.core.requests import (
    all_fresh,
    answered,
    due_rollback,
    is_taken_back,
    latched,
    previous,
    redirection,
)


@dataclass(frozen=True)
class Away:
    """A revert that should begin."""

    away: str
    to: str
    cause: Cause


def wanted(world: Observed, record: Record, health: Health) -> Away | None:
    """Whether traffic must go back now, and why; the order is who outranks whom."""
    due = due_rollback(world, record)
    if due is not None:
        asked, target = due
        assert target.away is not None
        return Away(target.away, target.to or NOBODY, _asked_cause(world, asked))
    if record.attempt is not None:
        cause = _attempt_cause(world, record, record.attempt, health)
        return Away(record.attempt.revision, record.stable or NOBODY, cause) if cause else None
    return _after_promotion(world, record, health)


def _asked_cause(world: Observed, request: Request) -> Cause:
    kind = "RollbackPinned" if request.source == "Pin" else "RollbackRequested"
    return Cause(kind=kind, message=request.reason[:512], key=request.key, at=world.now)


def _attempt_cause(world: Observed, record: Record, attempt: Attempt, health: Health) -> Cause | None:
    breach = breach_cause(health, world, format_percent(attempt.weight))
    if breach is not None:
        return breach
    spec, target = world.spec, world.target
    if target is not None and target.hash == record.stable:
        return Cause(kind="Reapplied", message=f"{target.version} was applied again", at=world.now)
    if spec is None:
        return None
    if target is not None and target.hash != attempt.revision and is_settled(world, first=record.stable is None):
        return Cause(kind="Superseded", message=f"{target.version} was applied", at=world.now)
    if spec.on_deadline == "Revert" and is_late(world, attempt):
        message = f"no progress for {format_duration(spec.progress_deadline)} (onDeadline: Revert)"
        return Cause(kind="DeadlineExceeded", message=message, at=world.now)
    return None


def _after_promotion(world: Observed, record: Record, health: Health) -> Away | None:
    """A promoted revision goes back when a gate for life breaks, or when the revision before it is applied again.

    One step only: what was taken back is not taken back further by itself, or a fault of the market would walk through
    the whole history.
    """
    if record.stable is None or is_taken_back(world, record):
        return None
    back = previous(world, record)
    if back is None:
        return None
    if world.target is not None and world.target.hash == back:
        cause = Cause(kind="Reapplied", message=f"{world.target.version} was applied again", at=world.now)
        return Away(record.stable, back, cause)
    worst = health.breached
    if worst is None:
        return None
    breach = breach_cause(health, world, "100%")
    return Away(record.stable, back, breach) if breach else None


def is_settled(world: Observed, *, first: bool) -> bool:
    """Whether the inputs of the target have been quiet for `settle`; the very first revision need not wait."""
    if first or world.spec is None or world.target is None:
        return True
    pending = world.status.pending
    since = pending.since if pending is not None and pending.revision == world.target.hash else world.now
    return world.now - since >= world.spec.settle


def is_late(world: Observed, attempt: Attempt) -> bool:
    """Whether a step could not be entered within the progress deadline. A hold never counts."""
    if world.spec is None or attempt.held_from is not None:
        return False
    return world.now - attempt.step_at > world.spec.progress_deadline


def first_write(world: Observed, stored: Stored, away: Away, *, flip: bool) -> AssignmentSpec:
    """Freeze everything `away` owns, thaw what was never granted, latch the attempt: one write, waiting for nothing.

    `flip`: the provider has no acknowledgements or `drain` is 0, so a target with a ready pod is granted in this write.
    """
    spec, record = stored.spec, stored.spec.record
    attempt = record.attempt
    leaving_candidate = attempt is not None and attempt.revision == away.away
    revert = Revert(
        id=attempt.id if attempt is not None and leaving_candidate else world.attempt_id,
        away=away.away,
        to=away.to,
        cause=away.cause,
        weight=min(BUCKETS, weight(spec.ranges, away.away) + sum(size(r) for r in spec.ranges if r.next == away.away)),
        timeout=leaving_candidate,
        lease=spec.lease,
    )
    record = record.model_copy(
        update={"attempt": None, "revert": revert, "quarantine": entered(world, record, away.away, away.to, away.cause)}
    )
    record = answered(world, record, away.to) if record.stable == away.to or not leaving_candidate else record
    if world.target is None or world.target.hash == away.away:
        record = _without_retries(world, record)
    ranges = taken_back(spec.ranges, away.away, away.to)
    if is_frozen(ranges) and not (flip and (is_ready(world, away.to) or away.to == NOBODY)):
        return written(spec, world.now, ranges=ranges, record=record, cause=away.cause)
    return _finished(world, spec, record, revert, ranges, stopped_at=None if is_frozen(ranges) else world.now)


def second_write(world: Observed, stored: Stored) -> tuple[AssignmentSpec | None, Barrier]:
    """Grant the frozen ranges to the target once everyone has let go and the target can take them."""
    spec, record = stored.spec, stored.spec.record
    revert = record.revert
    assert revert is not None
    if (redirected := redirection(world, spec)) is not None:
        return _redirected(world, stored, revert, *redirected), Barrier(False, None, (), None)
    timeout = revert.lease if revert.timeout else None
    state = barrier(stored, world.consumers, world.now, timeout=timeout)
    if not state.complete or not can_take(world, revert.to):
        return None, state
    record = answered(world, record, revert.to)
    return _finished(world, spec, record, revert, spec.ranges, stopped_at=state.stopped_at), state


def _without_retries(world: Observed, record: Record) -> Record:
    """The record with every retry that is visible taken as answered: who asked did not know of this yet."""
    for retry in all_fresh(world, record, "Retry"):
        record = latched(world, record, retry)
    return record


def _redirected(world: Observed, stored: Stored, revert: Revert, request: Request, to: str) -> AssignmentSpec:
    """The Freeze in force with another target. A new epoch, so everybody acks and drains anew."""
    spec, record = stored.spec, stored.spec.record
    cause = _asked_cause(world, request)
    aimed = revert.model_copy(update={"to": to, "cause": cause})
    trusted = [q for q in record.quarantine if q.revision != to]
    record = latched(world, record.model_copy(update={"revert": aimed, "quarantine": trusted}), request)
    ranges = [r.model_copy(update={"next": to}) if r.next else r for r in spec.ranges]
    return written(spec, world.now, ranges=ranges, record=record, cause=cause)


def can_take(world: Observed, revision: str) -> bool:
    """Whether a revert's target may be granted: never without a ready pod, and by `onRevert.unready` with only some."""
    if revision == NOBODY:
        return True
    workload = world.workloads.get(revision)
    if workload is None or workload.ready == 0:
        return False
    if world.spec is not None and world.spec.on_revert.unready == "Freeze":
        return workload.ready >= world.spec.replicas
    return True


def is_ready(world: Observed, revision: str) -> bool:
    """Whether any pod of it can take requests."""
    workload = world.workloads.get(revision)
    return workload is not None and workload.ready > 0


def running(record: Record) -> bool:
    """Whether a revert has begun and is not finished."""
    return record.revert is not None and record.revert.served_at is None


def _finished(
    world: Observed,
    spec: AssignmentSpec,
    record: Record,
    revert: Revert,
    ranges: Iterable[Range],
    *,
    stopped_at: int | None,
) -> AssignmentSpec:
    done = revert.model_copy(update={"stopped_at": stopped_at, "served_at": world.now})
    stable = None if revert.to == NOBODY else revert.to
    history = [h for h in record.history if h not in (revert.away, stable)]
    record = record.model_copy(
        update={"revert": done, "stable": stable, "history": [*history, stable] if stable else history}
    )
    table = granted(ranges, next_epoch(spec.epoch, world.now), frozenset())
    return written(spec, world.now, ranges=table, record=record, cause=revert.cause)


def repaired(world: Observed, stored: Stored | None, seen: int) -> AssignmentSpec:
    """The table when the stored one is gone or went back in time: everything frozen towards the last good revision.

    `seen` is the highest epoch known from anywhere. Nothing is timed out, nothing is leased, the target stays latched.
    """
    base = stored.spec if stored else first_table(world)
    good = world.status.stable or base.record.stable or NOBODY
    cause = Cause(kind="Repair", message="the assignment was lost or went back in time", at=world.now)
    barred = []
    if world.target is not None and world.target.hash != good:
        barred = [Quarantine(revision=world.target.hash, until=world.now, reason=cause.message)]
    revert = Revert(
        id=world.attempt_id, away=NOBODY, to=good, cause=cause, weight=BUCKETS, timeout=False, lease=base.lease
    )
    record = Record(
        stable=None if good == NOBODY else good,
        history=[] if good == NOBODY else [good],
        revert=revert,
        quarantine=barred,
        handled=base.record.handled,
        objects=base.record.objects,
        router_image=base.record.router_image,
    )
    record = _without_retries(world, record)
    ranges = [r.model_copy(update={"owner": good, "next": good, "leased": False}) for r in filled([])]
    return written(
        base.model_copy(update={"epoch": max(base.epoch, seen)}), world.now, ranges=ranges, record=record, cause=cause
    )


def first_table(world: Observed) -> AssignmentSpec:
    """An empty table: nobody owns anything yet."""
    traffic = world.spec.traffic if world.spec else None
    return AssignmentSpec(
        epoch=world.now,
        rollout_uid=world.uid,
        salt=world.uid,
        header=traffic.unit.header if traffic and traffic.unit else None,
        drain=traffic.drain if traffic else 0,
        lease=traffic.lease.rollout if traffic else 10_000,
        cause=Cause(kind="Started", message="created", at=world.now),
        record=Record(router_image=world.router_image),
    )


def knows_more(world: Observed, epoch: int) -> int | None:
    """The highest epoch seen anywhere if it is above `epoch`: then the object went back in time or was lost."""
    acked = [c.acked for c in world.consumers.open] if world.consumers else []
    seen = max([world.status.epoch, *acked], default=0)
    return seen if seen > epoch else None
