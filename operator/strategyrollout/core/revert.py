"""The one revert. Gates, people, deadlines and newer revisions all end up here; nothing else takes traffic back.

`cause` answers whether and why, `first_write` freezes, `second_write` grants. Nothing here asks whether the failing
side is ready, whether a template exists or whether Prometheus answers (rule 1).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from strategyrollout.api.assignment import (
    AssignmentSpec,
    Attempt,
    Cause,
    Range,
    Record,
    Revert,
)
from strategyrollout.api.meta import BUCKETS, NOBODY
from strategyrollout.api.scalars import format_duration, format_percent
from strategyrollout.core.buckets import is_frozen, owners, size, weight
from strategyrollout.core.health import Health, breach_cause
from strategyrollout.core.moves import Barrier, barrier, granted, next_epoch, taken_back, taken_over, written
from strategyrollout.core.observed import Observed, Request, Stored
from strategyrollout.core.quarantine import entered
from strategyrollout.core.repair import knows_more
from strategyrollout.core.requests import (
    all_answered,
    answered,
    asked_cause,
    due_rollback,
    is_taken_back,
    latched,
    previous,
    redirection,
    rollback_target,
    without_retries,
)


@dataclass(frozen=True)
class Away:
    """A revert that should begin."""

    away: str
    to: str
    cause: Cause
    everything: bool = False
    """By override: nobody else keeps anything, trusted or not."""


def override_due(world: Observed) -> bool:
    """Whether anything is left to do for an override, which is among the requests: a revert to begin or to end."""
    if world.deleting or not world.assignment_known:
        return False
    if world.stored is None:
        return world.spec is not None and knows_more(world, 0) is not None
    record = world.stored.spec.record
    due = due_rollback(world, record)
    lost = knows_more(world, world.stored.spec.epoch) is not None
    return lost or running(record) or (due is not None and due[0].source == "Override")


def wanted(world: Observed, record: Record, health: Health) -> Away | None:
    """Whether traffic must go back now, and why; the order is who outranks whom."""
    due = due_rollback(world, record)
    if due is not None:
        asked, target = due
        assert target.away is not None
        return Away(target.away, target.to or NOBODY, asked_cause(world, asked), everything=asked.source == "Override")
    if record.attempt is not None:
        cause = _attempt_cause(world, record, record.attempt, health)
        return Away(record.attempt.revision, record.stable or NOBODY, cause) if cause else None
    return _after_promotion(world, record, health)


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
    if away.everything:
        return _everything(world, stored, away, revert, flip=flip)
    record = record.model_copy(
        update={"attempt": None, "revert": revert, "quarantine": entered(world, record, away.away, away.to, away.cause)}
    )
    record = answered(world, record, away.to) if record.stable == away.to or not leaving_candidate else record
    if world.target is None or world.target.hash == away.away:
        record = without_retries(world, record)
    return _begun(world, spec, record, taken_back(spec.ranges, away.away, away.to), flip=flip)


def _everything(world: Observed, stored: Stored, away: Away, revert: Revert, *, flip: bool) -> AssignmentSpec:
    """An override's first write, also into the middle of another revert, which it takes over.

    Silent consumers may be timed out only if all that moves was a candidate's, never promoted: whoever may serve a
    trusted revision without limit is waited for.
    """
    spec, record = stored.spec, stored.spec.record
    before = record.revert if running(record) else None
    if before is not None:
        same = before.away == revert.away
        update = {"id": before.id, "weight": before.weight if same else revert.weight, "timeout": before.timeout}
        revert = revert.model_copy(update=update | {"lease": max(before.lease, revert.lease)})
    ranges = taken_over(spec.ranges, away.to, thaw=before is None)
    on_trial = {before.away if before else revert.away, NOBODY}
    timeout = revert.timeout and all(r.owner in on_trial for r in ranges if r.next)
    left = (owners(spec.ranges) | {revert.away}) - {away.to, NOBODY}
    kept = record.model_copy(update={"quarantine": [q for q in record.quarantine if q.revision != away.to]})
    for revision in sorted(left, key=lambda r: r == revert.away):
        kept = kept.model_copy(update={"quarantine": entered(world, kept, revision, away.to, away.cause)})
    update = {
        "attempt": None,
        "revert": revert.model_copy(update={"timeout": timeout}),
        "history": [h for h in kept.history if h not in left or h == record.stable],
    }
    return _begun(world, spec, all_answered(world, kept.model_copy(update=update)), ranges, flip=flip)


def _begun(world: Observed, spec: AssignmentSpec, record: Record, ranges: list[Range], *, flip: bool) -> AssignmentSpec:
    """The table with the revert in it: frozen, or finished where nobody has to be waited for."""
    revert = record.revert
    assert revert is not None
    if is_frozen(ranges) and not (flip and (is_ready(world, revert.to) or revert.to == NOBODY)):
        return written(spec, world.now, ranges=ranges, record=record, cause=revert.cause)
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


def _redirected(world: Observed, stored: Stored, revert: Revert, request: Request, to: str) -> AssignmentSpec:
    """The Freeze in force with another target. A new epoch, so everybody acks and drains anew."""
    spec, record = stored.spec, stored.spec.record
    cause = asked_cause(world, request)
    if request.source == "Override":
        away = rollback_target(world, record, request).away or NOBODY
        return first_write(world, stored, Away(away, to, cause, everything=True), flip=False)
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
    left = {revert.away, stable, record.stable if revert.cause.kind == "Override" else None}
    history = [h for h in record.history if h not in left]
    record = record.model_copy(
        update={"revert": done, "stable": stable, "history": [*history, stable] if stable else history}
    )
    table = granted(ranges, next_epoch(spec.epoch, world.now), frozenset())
    # Only an override makes a candidate trusted, and part of it may be the candidate's already.
    table = [r.model_copy(update={"leased": False}) if r.owner == revert.to else r for r in table]
    return written(spec, world.now, ranges=table, record=record, cause=revert.cause)
