"""The way up: start an attempt, enter a step, hold it, bake, promote. One step machine for every recipe.

Each function looks at one situation and returns the table to write, or None when the time has not come. Nothing here
runs in a pass that has a reason to revert.
"""

from dataclasses import dataclass

from strategyrollout.api.assignment import AssignmentSpec, Attempt, Cause, Record
from strategyrollout.api.meta import BUCKETS, NOBODY
from strategyrollout.api.scalars import format_duration, format_percent
from strategyrollout.core.buckets import is_frozen, weight
from strategyrollout.core.health import Health, advance_blockers, is_unheard
from strategyrollout.core.moves import Barrier, barrier, granted, next_epoch, raised, thawed, written
from strategyrollout.core.observed import Observed, Stored
from strategyrollout.core.quarantine import is_blocked
from strategyrollout.core.recipe import Step, position, recipe_of
from strategyrollout.core.requests import all_fresh, fresh, latched
from strategyrollout.core.revert import is_settled

RETRY_AFTER_WITHDRAWN_MS = 30_000


@dataclass(frozen=True)
class Trial:
    """An attempt with where it is."""

    attempt: Attempt
    recipe: tuple[Step, ...]
    at: int
    """Position; -1 before the first step."""

    @property
    def step(self) -> Step:
        """The step held or being entered."""
        return self.recipe[max(self.at, 0)]

    @property
    def holding(self) -> bool:
        """Whether the step's share is in force."""
        return self.attempt.held_from is not None

    @property
    def last(self) -> bool:
        """Whether it is at 100 %."""
        return self.holding and self.at == len(self.recipe) - 1


def trial_of(world: Observed, stored: Stored | None) -> Trial | None:
    """The attempt under way, with its position in the recipe as it is written now."""
    record = stored.spec.record if stored else None
    if record is None or record.attempt is None or world.spec is None:
        return None
    recipe = recipe_of(world.spec, first=record.stable is None)
    if record.attempt.promote:
        recipe = recipe[-1:]
    return Trial(record.attempt, recipe, position(recipe, record.attempt))


def started(world: Observed, stored: Stored) -> AssignmentSpec | None:
    """Begin an attempt of what the spec asks for."""
    record, target, spec = stored.spec.record, world.target, world.spec
    if record.attempt is not None or target is None or spec is None or target.hash == record.stable:
        return None
    if any(p.lasting for p in world.problems) or spec.paused or spec.rollback is not None:
        return None
    if is_blocked(world, record):
        return None
    if not is_settled(world, first=record.stable is None):
        return None
    attempt = Attempt(
        id=world.attempt_id, revision=target.hash, started_at=world.now, step_at=world.now, templates=world.templates
    )
    update = {
        "attempt": attempt,
        "revert": None,
        "router_image": world.router_image or record.router_image,
        "routers": world.routers or record.routers,
    }
    cause = Cause(kind="Started", message=f"{target.version} ({target.hash})", at=world.now)
    table = stored.spec.model_copy(update={"drain": spec.traffic.drain})
    return written(
        table,
        world.now,
        ranges=table.ranges,
        record=record.model_copy(update=update),
        cause=cause,
        lease=spec.traffic.lease.rollout,
    )


def wanted_replicas(world: Observed, trial: Trial) -> int:
    """Pods the candidate should have: all of them as soon as it may carry traffic, fewer only while it is previewed."""
    assert world.spec is not None
    previewing = trial.step.preview and not _may_leave(world, trial)
    few = trial.step.replicas if previewing else None
    return world.spec.replicas if few is None else few


def has_capacity(world: Observed, trial: Trial, replicas: int) -> bool:
    """Whether the candidate can carry what the step gives it."""
    workload = world.workloads.get(trial.attempt.revision)
    return workload is not None and workload.ready > 0 and workload.ready >= replicas


def hold_ends(trial: Trial, world: Observed) -> int | None:
    """When the hold in force is over (ms); None while it waits for a person."""
    attempt, step = trial.attempt, trial.step
    if attempt.held_from is None:
        return None
    if attempt.promote and not trial.last:
        return attempt.held_from
    if step.manual and not attempt.resumed and trial.at >= 0:
        return None
    bake = world.spec.bake.duration if trial.last and world.spec and not attempt.promote else 0
    hold = 0 if trial.at < 0 or (trial.last and attempt.promote) else step.hold
    return attempt.held_from + hold + bake


def _may_leave(world: Observed, trial: Trial) -> bool:
    ends = hold_ends(trial, world)
    return ends is not None and world.now >= ends and not (world.spec and world.spec.paused)


def progressed(world: Observed, stored: Stored, trial: Trial, health: Health, *, flip: bool) -> AssignmentSpec | None:
    """Whatever the attempt can do next without a revert: enter its step, leave it, or be promoted.

    While anything about the spec is wrong nothing advances: a gate that cannot be read is not a gate that passes.
    """
    if world.problems or is_frozen(stored.spec.ranges) or (world.spec and world.spec.paused):
        return None
    if trial.holding:
        if not _may_leave(world, trial) or advance_blockers(health, world):
            return None
        return (
            _promoted(world, stored, trial) if trial.last else _entered(world, stored, trial, trial.at + 1, flip=flip)
        )
    return _enter(world, stored, trial, health, flip=flip)


def _enter(world: Observed, stored: Stored, trial: Trial, health: Health, *, flip: bool) -> AssignmentSpec | None:
    assert world.spec is not None
    step, attempt = trial.step, trial.attempt
    if attempt.retry_at is not None and world.now < attempt.retry_at:
        return None
    replicas = step.replicas if step.preview and step.replicas is not None else world.spec.replicas
    if not has_capacity(world, trial, replicas):
        return None
    first = stored.spec.record.stable is None
    if not step.preview and not (first and world.spec.initial == "Direct") and advance_blockers(health, world):
        return None
    return _moved(world, stored, trial, trial.at, flip=flip)


def _entered(world: Observed, stored: Stored, trial: Trial, to: int, *, flip: bool) -> AssignmentSpec:
    """Leave a held step: at once into the next one where the pods are there, else the step is recorded first."""
    assert world.spec is not None
    ahead = Trial(trial.attempt, trial.recipe, to)
    if has_capacity(world, ahead, world.spec.replicas):
        return _moved(world, stored, ahead, to, flip=flip)
    update = {"step": to, "step_at": world.now, "held_from": None, "resumed": False}
    record = stored.spec.record.model_copy(update={"attempt": trial.attempt.model_copy(update=update)})
    cause = Cause(kind="Step", message=f"step {to + 1}: waiting for pods", at=world.now)
    return written(stored.spec, world.now, ranges=stored.spec.ranges, record=record, cause=cause)


def _moved(world: Observed, stored: Stored, trial: Trial, to: int, *, flip: bool) -> AssignmentSpec:
    """Freeze what the step moves; where nobody can be serving it, or flips are declared, grant in the same write."""
    assert world.spec is not None
    spec, record, step = stored.spec, stored.spec.record, trial.recipe[to]
    entering = {"step": to, "step_at": world.now, "held_from": None, "resumed": False, "retry_at": None}
    attempt = trial.attempt.model_copy(update=entering)
    ranges = raised(spec, attempt.revision, step.weight, record.stable)
    moving = Stored(spec.model_copy(update={"ranges": ranges}), stored.resource_version)
    unserved = all(r.owner == NOBODY for r in ranges if r.next)
    if unserved or flip:
        return _granted(world, moving, Trial(attempt, trial.recipe, to))
    cause = Cause(kind="Step", message=f"step {to + 1}: {format_percent(step.weight)}", at=world.now)
    return written(spec, world.now, ranges=ranges, record=record.model_copy(update={"attempt": attempt}), cause=cause)


def _granted(world: Observed, stored: Stored, trial: Trial) -> AssignmentSpec:
    assert world.spec is not None
    spec, record = stored.spec, stored.spec.record
    direct = record.stable is None and world.spec.initial == "Direct"
    leased = frozenset() if direct else frozenset({trial.attempt.revision})
    ranges = granted(spec.ranges, next_epoch(spec.epoch, world.now), leased)
    if direct:  # it may have begun as `initial: Gated`
        ranges = [r.model_copy(update={"leased": False}) for r in ranges]
    for resume in all_fresh(world, record, "Resume"):  # asked for while moving: there was no hold to end
        record = latched(world, record, resume)
    share = weight(ranges, trial.attempt.revision)
    update = {"held_from": world.now, "weight": share, "withdrawn": 0, "retry_at": None}
    attempt = trial.attempt.model_copy(update=update)
    baking = share == BUCKETS and world.spec.bake.duration > 0
    lease = max(spec.lease, world.spec.traffic.lease.bake) if baking else spec.lease
    cause = Cause(kind="Initial" if direct else "Step", message=f"granted {format_percent(share)}", at=world.now)
    record = record.model_copy(update={"attempt": attempt})
    if direct:
        record = record.model_copy(
            update={"attempt": None, "stable": attempt.revision, "history": [*record.history, attempt.revision][-10:]}
        )
    return written(spec, world.now, ranges=ranges, record=record, cause=cause, lease=lease)


def continued(world: Observed, stored: Stored, trial: Trial, health: Health) -> tuple[AssignmentSpec | None, Barrier]:
    """An increase under way: grant it, or withdraw it in one write when it may not or cannot be granted.

    No consumer is ever timed out for an increase: whoever is silent may still be serving the trusted revision.
    """
    state = barrier(stored, world.consumers, world.now, timeout=None)
    against = _against(world, stored, trial, health, state)
    if against:
        return withdrawn(world, stored, trial.attempt, against), state
    unheard = any(is_unheard(judged, world) for judged in advance_blockers(health, world))
    return (_granted(world, stored, trial) if state.complete and not unheard else None), state


def _against(world: Observed, stored: Stored, trial: Trial, health: Health, state: Barrier) -> str:
    """Why an increase under way may not be granted, in words: what would have kept it from beginning, or silence."""
    assert world.spec is not None
    if world.problems:
        return f"{world.problems[0].path}: {world.problems[0].message}"
    if world.spec.paused:
        return "paused"
    if not has_capacity(world, trial, 1):
        return "the candidate lost its ready pods before it was granted anything"
    for blocking in advance_blockers(health, world):
        # Its silence counts from this step on, so it cannot be old enough yet; it was when the step was left.
        declared = blocking.judgement.verdict == "NoData" and blocking.gate.no_data == "Continue"
        if not declared and not is_unheard(blocking, world):
            return f"{blocking.gate.name} {blocking.judgement.verdict}: {blocking.judgement.message}"
    frozen_at = stored.spec.record.frozen_at or world.now
    if state.stopped_at is None and world.now >= frozen_at + world.spec.traffic.ack_timeout:
        silent = ", ".join(c.pod for c in state.waiting) or "routers that could not be listed"
        return f"not acknowledged within {format_duration(world.spec.traffic.ack_timeout)} by {silent}"
    return ""


def withdrawn(world: Observed, stored: Stored, attempt: Attempt, message: str) -> AssignmentSpec:
    """Every moving unit back to whom it had been taken from; the step is tried again after a while."""
    update = {"withdrawn": attempt.withdrawn + 1, "retry_at": world.now + RETRY_AFTER_WITHDRAWN_MS}
    record = stored.spec.record.model_copy(update={"attempt": attempt.model_copy(update=update)})
    cause = Cause(kind="Withdrawn", message=message[:512], at=world.now)
    return written(stored.spec, world.now, ranges=thawed(stored.spec.ranges), record=record, cause=cause)


def _promoted(world: Observed, stored: Stored, trial: Trial) -> AssignmentSpec:
    """The one write that ends the lease: from here on the candidate is trusted."""
    record, revision = stored.spec.record, trial.attempt.revision
    ranges = [r.model_copy(update={"leased": False}) for r in stored.spec.ranges]
    history = [*(h for h in record.history if h != revision), revision][-10:]
    record = record.model_copy(update={"attempt": None, "stable": revision, "history": history})
    cause = Cause(kind="Promoted", message=f"{revision} is trusted", at=world.now)
    return written(stored.spec, world.now, ranges=ranges, record=record, cause=cause)


def nudged(world: Observed, stored: Stored, trial: Trial | None) -> AssignmentSpec | None:
    """`resume`, `promote` and `retry`: each latched once, each only on what is there when it is seen."""
    record = stored.spec.record
    if (retry := fresh(world, record, "Retry")) is not None:
        target = world.target.hash if world.target else None
        left = [q for q in record.quarantine if q.revision != target and not _shares_image(world, q.digests)]
        revert = None if record.revert and record.revert.served_at is not None else record.revert
        record = latched(world, record.model_copy(update={"quarantine": left, "revert": revert}), retry)
        return _latched(world, stored, record, "retry")
    if (promote := fresh(world, record, "Promote")) is not None:
        if trial is not None:
            attempt = trial.attempt.model_copy(update={"promote": True})
            record = record.model_copy(update={"attempt": attempt})
        return _latched(world, stored, latched(world, record, promote), "promote")
    if (resume := fresh(world, record, "Resume")) is not None:
        if trial is not None and trial.holding and trial.step.manual:
            attempt = trial.attempt.model_copy(update={"resumed": True})
            record = record.model_copy(update={"attempt": attempt})
        return _latched(world, stored, latched(world, record, resume), "resume")
    return None


def _shares_image(world: Observed, digests: list[str]) -> bool:
    return world.target is not None and bool(world.target.digests & set(digests))


def _latched(world: Observed, stored: Stored, record: Record, word: str) -> AssignmentSpec:
    cause = Cause(kind="Bookkeeping", message=f"{word} was asked for", at=world.now)
    return written(stored.spec, world.now, ranges=stored.spec.ranges, record=record, cause=cause)
