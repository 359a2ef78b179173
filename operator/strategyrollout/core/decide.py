"""THE function: the world in, what should be true out. One pass, one write of the assignment at the most.

The order below is the order of importance. What can take traffic back comes before what can give it; what waits for
nothing comes before what waits. A pass that writes the assignment says nothing else: the next pass reads it back.

    lost or gone back     -> repair
    a revert under way    -> finish it
    a reason to revert    -> begin it                    (the only place)
    a request             -> latch it
    an increase under way -> grant or withdraw it
    the way up            -> start, enter, hold, promote
"""

from dataclasses import replace

from strategyrollout.api.assignment import AssignmentSpec, Cause, Record
from strategyrollout.core import advance, capacity, repair, report, revert
from strategyrollout.core.buckets import is_frozen
from strategyrollout.core.decision import Decision
from strategyrollout.core.health import Health, Judged, for_life, look_again, trial, unread
from strategyrollout.core.moves import Barrier, written
from strategyrollout.core.observed import Observed, Stored
from strategyrollout.core.quarantine import barred, pruned
from strategyrollout.core.requests import forgotten, fresh, latched, pin_problem, rollback_outcomes, rollback_target

POLL_WHILE_FROZEN_MS = 1_000
ANSWER_MARGIN_MS = 50
FORGET_AFTER_MS = 10_000


def decide(world: Observed) -> Decision:
    """One pass. Total: any world that can be read has a decision."""
    if world.deleting or not world.assignment_known:
        return Decision()
    if (problem := pin_problem(world, world.stored.spec.record if world.stored else Record())) is not None:
        world = replace(world, problems=(*world.problems, problem))
    under_way = advance.trial_of(world, world.stored)
    health = _health(world, under_way)
    view = report.View(world, under_way, health)
    table = _traffic(world, view)
    if table is not None:
        urgent = table.record.revert is not None and table.record.revert.served_at is None
        return Decision(assignment=table, urgent=urgent, look_again_at=world.now)
    record = world.stored.spec.record if world.stored else Record()
    return Decision(
        replicas=capacity.replicas(world, under_way),
        remove=capacity.removable(world),
        status=report.status(view),
        notices=report.notices(view),
        rollbacks=rollback_outcomes(world, record),
        look_again_at=_next_look(world, view),
        urgent=revert.running(record),
    )


def _health(world: Observed, under_way: advance.Trial | None) -> Health:
    if under_way is not None:
        return trial(world, under_way.attempt, under_way.recipe, under_way.at)
    record = world.stored.spec.record if world.stored else Record()
    if record.attempt is not None:
        return unread(world, record.attempt)
    if record.stable and not revert.running(record):
        return for_life(world, record.stable)
    return Health()


def _traffic(world: Observed, view: report.View) -> AssignmentSpec | None:
    """What the assignment should become, or None. May note on `view` what is being waited for."""
    stored = world.stored
    if stored is None:
        return _absent(world)
    if (seen := repair.knows_more(world, stored.spec.epoch)) is not None:
        return repair.repaired(world, stored, seen)
    record = stored.spec.record
    if revert.running(record):
        table, view.barrier = revert.second_write(world, stored)
        return table
    away = revert.wanted(world, record, view.health)
    if away is not None:
        return revert.first_write(world, stored, away, flip=_flips(world, stored))
    if is_frozen(stored.spec.ranges) and record.attempt is not None:
        if view.trial is None:
            return advance.withdrawn(world, stored, record.attempt, "the spec cannot be read")
        table, view.barrier = advance.continued(world, stored, view.trial, view.health)
        return table
    return _asked(world, stored, view) or _upwards(world, stored, view)


def _absent(world: Observed) -> AssignmentSpec | None:
    if world.spec is None:  # neither its drain nor the header of its units is known
        return None
    if (seen := repair.knows_more(world, 0)) is not None:
        return repair.repaired(world, None, seen)
    return repair.first_table(world)


def _flips(world: Observed, stored: Stored) -> bool:
    # Without a spec the table tells: only routers know units, so one without a header is a Service's.
    service = stored.spec.header is None if world.spec is None else world.spec.traffic.service is not None
    return service or stored.spec.drain == 0


def _asked(world: Observed, stored: Stored, view: report.View) -> AssignmentSpec | None:
    nudge = advance.nudged(world, stored, view.trial)
    if nudge is not None:
        return nudge
    record = stored.spec.record
    asked = fresh(world, record, "Rollback")
    if asked is not None and rollback_target(world, record, asked).away is None:
        record = latched(world, record, asked, "NothingToDo")
        return _bookkeeping(world, stored, record, rollback_target(world, stored.spec.record, asked).message)
    kept = barred(world, record, pruned(world, record.quarantine))
    tidy = forgotten(world, record) if world.now >= _forgets_at(stored) else record
    if kept != record.quarantine or tidy is not record:
        return _bookkeeping(world, stored, tidy.model_copy(update={"quarantine": kept}), "forgot what is over")
    return None


def _forgets_at(stored: Stored) -> int:
    """From when on an annotation that is not seen is believed to be gone. Somebody else may have handled it a moment
    ago, who saw a newer state of the rollout than is known here; forgotten, it would act once more when it comes."""
    return stored.spec.cause.at + FORGET_AFTER_MS


def _bookkeeping(world: Observed, stored: Stored, record: Record, message: str) -> AssignmentSpec:
    cause = Cause(kind="Bookkeeping", message=message[:512], at=world.now)
    return written(stored.spec, world.now, ranges=stored.spec.ranges, record=record, cause=cause)


def _upwards(world: Observed, stored: Stored, view: report.View) -> AssignmentSpec | None:
    if world.spec is None:
        return None
    if view.trial is None:
        return advance.started(world, stored)
    return advance.progressed(world, stored, view.trial, view.health, flip=_flips(world, stored))


def _next_look(world: Observed, view: report.View) -> int | None:
    """The earliest moment at which this decision may be different although nothing has changed."""
    now = world.now
    times = [look_again(view.health, world), capacity.look_again(world), _barrier_look(world, view.barrier)]
    if view.trial is not None and world.spec is not None:
        attempt = view.trial.attempt
        ends = advance.hold_ends(view.trial, world)
        times += [ends, attempt.retry_at]
        if not view.trial.holding:
            times.append(attempt.step_at + world.spec.progress_deadline + 1)
        if view.awaiting:
            times += [_next_answer(g, now) for g in view.awaiting]
    if world.stored is not None and forgotten(world, world.stored.spec.record) is not world.stored.spec.record:
        times.append(_forgets_at(world.stored))
    if view.settles_at is not None:
        times.append(view.settles_at)
    return min((t for t in times if t is not None and t > now), default=None)


def _next_answer(gate: Judged, now: int) -> int:
    """When a gate that is waited for should have its next sample; nothing wakes the loop for one that just passes."""
    interval = max(100, gate.gate.query.interval)
    due = (gate.judgement.at or now) + interval + ANSWER_MARGIN_MS
    return due if due > now else now + interval


def _barrier_look(world: Observed, state: Barrier | None) -> int | None:
    if state is None:
        return None
    poll = world.now + POLL_WHILE_FROZEN_MS
    return min(poll, state.due) if state.due is not None and state.due > world.now else poll


def with_time(world: Observed, now: int) -> Observed:
    """The same world at another instant; replay and tests move time this way."""
    return replace(world, now=now)
