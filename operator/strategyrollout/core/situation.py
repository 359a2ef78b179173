"""One sentence and one reason for where a rollout is: what a tired person reads first.

A chain from most to least important; each rule looks at the view and either tells the situation or passes on. The
three kstatus conditions follow from `kind`, by the table of DESIGN 3.
"""

from strategyrollout.api.conditions import Reason
from strategyrollout.api.scalars import format_duration, format_percent
from strategyrollout.core.advance import Trial, has_capacity, hold_ends, wanted_replicas
from strategyrollout.core.buckets import is_frozen
from strategyrollout.core.moves import Barrier
from strategyrollout.core.observed import Consumer
from strategyrollout.core.quarantine import is_blocked
from strategyrollout.core.reached import as_reached
from strategyrollout.core.revert import is_late, running
from strategyrollout.core.view import Situation, View

_SILENT_MS = 180_000  # a router renews its Lease every minute


def situation(view: View) -> Situation:
    """The first rule that has something to say."""
    for rule in (_going_back, _taken_back, _problem, _blind, _on_trial, _idle):
        told = rule(view)
        if told is not None:
            return as_reached(view, told)
    return Situation(Reason.STARTING, "Moving", "waiting for the first pass")


def _going_back(view: View) -> Situation | None:
    world = view.world
    if world.stored is None or not running(world.stored.spec.record):
        return None
    revert = world.stored.spec.record.revert
    assert revert is not None
    state = view.barrier
    words = f"Reverting to {view.version(revert.to)}: {revert.cause.message}"
    if revert.cause.kind == "Repair":
        words = f"The assignment was lost or went back in time; all units are refused until {view.version(revert.to)}"
        return Situation(Reason.REPAIRING, "Moving", f"{words} is confirmed{_waiting(view, state)}")
    if state is not None and state.waiting and not revert.timeout:
        return Situation(Reason.WAITING_FOR_CONSUMER, "Moving", words + _waiting(view, state))
    if state is not None and state.complete:
        return Situation(Reason.REVERTING, "Moving", f"{words}; waiting for {_pods_to_come(view, revert.to)}")
    return Situation(Reason.REVERTING, "Moving", words + _waiting(view, state))


def _pods_to_come(view: View, revision: str) -> str:
    """What a target lacks before it may be granted."""
    workload, spec = view.world.workloads.get(revision), view.world.spec
    if spec is None or workload is None or workload.ready == 0:
        return f"a ready pod of {view.version(revision)}"
    return (
        f"all pods of {view.version(revision)}, {workload.ready}/{spec.replicas} are ready"
        f" (onRevert.unready: {spec.on_revert.unready})"
    )


def _short_of_pods(view: View, revision: str) -> str:
    workload, spec = view.world.workloads.get(revision), view.world.spec
    if workload is None or spec is None or workload.ready >= spec.replicas:
        return ""
    return f" with {workload.ready} of {spec.replicas} pods ready"


def _waiting(view: View, state: Barrier | None) -> str:
    if state is None or not state.waiting:
        return ""
    return "; waiting for " + ", ".join(_named(view, c) for c in state.waiting[:3])


def _named(view: View, consumer: Consumer) -> str:
    """A router by its pod; one that is silent with what only a person can say of it."""
    if not consumer.renewed_at or view.world.now - consumer.renewed_at < _SILENT_MS:
        return consumer.pod
    last = f"silent since {_clock(consumer.renewed_at)}"
    command = f"kubectl strategyrollout override {view.world.name} --close-router {consumer.pod} --reason ..."
    return f"{consumer.pod} ({last}; if its process has certainly ended: {command})"


def _problem(view: View) -> Situation | None:
    world = view.world
    if not world.problems:
        return None
    first = world.problems[0]
    more = f" (and {len(world.problems) - 1} more)" if len(world.problems) > 1 else ""
    where = f"{first.path}: " if first.path and not first.message.startswith(first.path) else ""
    return Situation(Reason(first.reason), "Stopped", f"{where}{first.message}{more}{_still_judged(view)}")


def _still_judged(view: View) -> str:
    """What goes on although the spec cannot be read: the candidate keeps its share, and whoever judges it."""
    record = view.world.stored.spec.record if view.world.stored else None
    if view.world.spec is not None or record is None or record.attempt is None:
        return ""
    gates = ", ".join(judged.gate.name for judged in view.health.gates)
    stays = f"; {view.version(record.attempt.revision)} stays at {format_percent(record.attempt.weight)}"
    if not gates:
        return f"{stays}, and no gate can be read to judge it"
    unjudged = ", ".join(view.world.unjudged)
    return f"{stays}, judged by {gates}" + (f", but not by {unjudged}, which cannot be read" if unjudged else "")


def _blind(view: View) -> Situation | None:
    world = view.world
    if world.blind_since is None or world.spec is None or view.trial is None:
        return None
    since = world.now - world.blind_since
    if since < world.spec.on_blind.after or not view.trial.holding:
        return None
    words = f"Prometheus has not answered for {format_duration(since // 1000 * 1000)}"
    return Situation(Reason.BLIND, "Steady", f"{words}; onBlind: {world.spec.on_blind.action}")


def _on_trial(view: View) -> Situation | None:
    trial, world = view.trial, view.world
    if trial is None or world.stored is None or world.spec is None:
        return None
    attempt = trial.attempt
    name = f"{view.version(attempt.revision)} step {max(trial.at, 0) + 1}/{len(trial.recipe)}"
    if is_frozen(world.stored.spec.ranges):
        words = f"{name}: moving to {format_percent(trial.step.weight)}{_waiting(view, view.barrier)}"
        return Situation(Reason.STEPPING, "Moving", words)
    if not trial.holding:
        return _entering(view, trial, name)
    return _holding(view, trial, name)


def _entering(view: View, trial: Trial, name: str) -> Situation:
    world, attempt = view.world, trial.attempt
    workload = world.workloads.get(attempt.revision)
    replicas = wanted_replicas(world, trial)
    pods = f"{workload.ready if workload else 0}/{replicas} pods ready"
    trouble = f"; {workload.problem}" if workload and workload.problem else ""
    if is_late(world, attempt):
        words = f"{name}: no progress for longer than progressDeadline, {pods}{trouble}"
        return Situation(Reason.DEADLINE_EXCEEDED, "Stopped", words)
    if world.spec is not None and world.spec.paused:
        return Situation(Reason.PAUSED, "Steady", f"{name}: paused before {format_percent(trial.step.weight)}")
    if attempt.retry_at is not None and world.now < attempt.retry_at:
        cause = world.stored.spec.cause.message if world.stored else ""
        return Situation(Reason.STEPPING, "Moving", f"{name}: withdrawn and tried again shortly, {cause}")
    if not has_capacity(world, trial, replicas):
        return Situation(Reason.STARTING, "Moving", f"{name}: {pods}{trouble}")
    return Situation(Reason.AWAITING_GATES, "Moving", f"{name}: {_gates(view)}")


def _holding(view: View, trial: Trial, name: str) -> Situation:
    world = view.world
    share = format_percent(trial.attempt.weight)
    if world.spec is not None and world.spec.paused:
        return Situation(Reason.PAUSED, "Steady", f"{name}: paused at {share}")
    ends = hold_ends(trial, world)
    if ends is None:
        return Situation(Reason.AWAITING_RESUME, "Steady", f"{name}: {share} until resumed")
    if world.now < ends:
        until = _clock(ends)
        if trial.last:
            return Situation(Reason.BAKING, "Steady", f"{name}: 100%, baking until {until}")
        if trial.step.preview and trial.at >= 0:
            return Situation(Reason.PREVIEWING, "Steady", f"{name}: preview until {until}")
        return Situation(Reason.HOLDING, "Steady", f"{name}: {share} until {until}")
    if view.awaiting:
        return Situation(Reason.AWAITING_GATES, "Steady", f"{name}: {share}, {_gates(view)}")
    return Situation(Reason.STEPPING, "Moving", f"{name}: leaving {share}")


def _gates(view: View) -> str:
    if not view.awaiting:
        return "gates pass"
    told = [f"{g.gate.name} {g.judgement.verdict}" for g in view.awaiting[:3]]
    detail = view.awaiting[0].judgement.message
    return "waiting for " + ", ".join(told) + (f" ({detail})" if detail else "")


def _taken_back(view: View) -> Situation | None:
    world = view.world
    record = world.stored.spec.record if world.stored else None
    if record is None or record.revert is None or record.revert.served_at is None:
        return None
    if world.target is not None and world.target.hash == record.stable:
        return None
    if is_blocked(world, record) is None and (world.spec is None or world.spec.rollback is None):
        return None
    revert, cause = record.revert, record.revert.cause
    if record.stable is None:
        words = f"Stopped: {cause.message}; there is no last good revision, its units are refused"
        return Situation(Reason.NO_LAST_GOOD, "Stopped", words)
    asked = cause.kind in ("RollbackRequested", "RollbackPinned", "Override")
    word = "Rolled back" if asked else "Reverted"
    at = f" at {format_percent(revert.weight)}" if asked else ""
    reason = Reason.ROLLED_BACK if asked else Reason.REVERTED
    serving = f"serving {view.version(record.stable)}{_short_of_pods(view, record.stable)}"
    return Situation(reason, "Stopped", f"{word}: {cause.message}{at}, {serving}")


def _idle(view: View) -> Situation | None:
    world = view.world
    record = world.stored.spec.record if world.stored else None
    if record is None or world.spec is None:
        return None
    serving = f"serving {view.version(record.stable)}" if record.stable else "nothing serves yet"
    if world.target is None:
        return Situation(Reason.SETTLING, "Moving", f"{world.spec.version} is being examined, {serving}")
    version = world.target.version
    if world.target.hash == record.stable:
        return Situation(Reason.PROMOTED, "Steady", f"{version} serves everything")
    if world.spec.rollback is not None:
        return Situation(Reason.PINNED, "Stopped", f"spec.rollback is set: {version} does not start, {serving}")
    blocked = is_blocked(world, record)
    if blocked is not None:
        words = f"{version} was taken back before ({blocked.reason}), {serving}; retry it by name, or apply a fix"
        return Situation(Reason.QUARANTINED, "Stopped", words)
    if world.spec.paused:
        return Situation(Reason.PAUSED, "Steady", f"paused before {version}, {serving}")
    if view.settles_at is not None:
        return Situation(Reason.SETTLING, "Moving", f"{version} starts once its inputs are quiet, {serving}")
    return Situation(Reason.STARTING, "Moving", f"{version} is about to start, {serving}")


def _clock(ms: int) -> str:
    hours, rest = divmod(ms // 1000 % 86_400, 3_600)
    return f"{hours:02}:{rest // 60:02}:{rest % 60:02}Z"
