"""Status and notices: a report for people and tools, made anew from the world each time and never decided from.

Only times that say since when something has been so are carried over from the status before.
"""

from typing import Literal

from strategyrollout.api.assignment import Revert
from strategyrollout.api.conditions import Condition, ConditionType, Reason
from strategyrollout.api.meta import LABEL_ROLLOUT, NOBODY
from strategyrollout.api.scalars import format_percent, format_time
from strategyrollout.api.status import (
    ConsumerStatus,
    GateStatus,
    Pending,
    RevertStatus,
    RevisionStatus,
    RolloutStatus,
    TrafficStatus,
)
from strategyrollout.core.buckets import frozen_weight, weight
from strategyrollout.core.decision import Notice
from strategyrollout.core.health import Health, Judged
from strategyrollout.core.observed import Observed
from strategyrollout.core.situation import situation
from strategyrollout.core.view import Situation, View

__all__ = ["View", "notices", "status", "waiting"]

WARNINGS = frozenset(
    {
        Reason.REVERTED, Reason.ROLLED_BACK, Reason.REVERTING, Reason.NO_LAST_GOOD, Reason.REPAIRING, Reason.BLIND,
        Reason.DEADLINE_EXCEEDED, Reason.INVALID_SPEC, Reason.MISSING_INPUT, Reason.INVALID_TEMPLATE,
        Reason.INVALID_GATE, Reason.NOT_OWNED, Reason.WAITING_FOR_CONSUMER, Reason.QUARANTINED,
    }
)  # fmt: skip

WAITING = frozenset({Reason.REVERTING, Reason.REPAIRING, Reason.WAITING_FOR_CONSUMER})
"""Whom these wait for is news as well."""

_LONGEST_MESSAGE = 1_000


def status(view: View) -> RolloutStatus:
    """The whole status."""
    world, told = view.world, situation(view)
    stored = world.stored
    ranges = stored.spec.ranges if stored else []
    record = stored.spec.record if stored else None
    target = world.target
    shown = record.attempt.revision if record and record.attempt else (target.hash if target else "")
    stable = record.stable if record else None
    total = [w for w in world.workloads.values() if w.desired > 0]
    return RolloutStatus(
        observed_generation=world.generation,
        conditions=_conditions(view, told),
        state=told.reason.value,
        message=told.message[:_LONGEST_MESSAGE],
        step=f"{max(view.trial.at, 0) + 1}/{len(view.trial.recipe)}" if view.trial else "",
        weight=format_percent(weight(ranges, shown)) if shown else "",
        gates_passing=f"{view.health.passing}/{len(view.health.gates)}" if view.health.gates else "",
        stable_version=view.version(stable) if stable else "",
        image=target.images[0] if target and target.images else "",
        attempt=record.attempt.id if record and record.attempt else None,
        revisions=_revisions(view),
        gates=[_gate(view, g) for g in view.health.gates],
        traffic=_traffic(view),
        last_revert=_revert(record.revert, told) if record and record.revert else world.status.last_revert,
        pending=_pending(view),
        epoch=stored.spec.epoch if stored else world.status.epoch,
        stable=stable if stored else world.status.stable,
        replicas=sum(w.replicas for w in total),
        ready_replicas=sum(w.ready for w in total),
        selector=f"{LABEL_ROLLOUT}={world.name}",
    )


def waiting(world: Observed, words: str) -> RolloutStatus:
    """The status while something of an earlier rollout of this name is in the way."""
    told = Situation(Reason.STARTING, "Moving", words[:_LONGEST_MESSAGE])
    conditions = _conditions(View(world, None, Health()), told)
    update = {"observed_generation": world.generation, "state": told.reason.value, "message": told.message}
    return world.status.model_copy(update={**update, "conditions": conditions})


def notices(view: View) -> tuple[Notice, ...]:
    """One notice when the situation has changed since the status before; silence otherwise."""
    told, before = situation(view), view.world.status
    telling = told.kind == "Stopped" or told.reason in WAITING
    if told.reason.value == before.state and (told.message == before.message or not telling):
        return ()
    return (Notice(told.reason.value, told.message, warning=told.reason in WARNINGS),)


def _conditions(view: View, told: Situation) -> list[Condition]:
    world = view.world
    ready = told.kind == "Steady"
    serving = _serving(view)
    breached, silent = view.health.breached, [g for g in view.health.gates if g.judgement.verdict == "NoData"]
    blind = world.blind_since is not None
    promoted = told.reason is Reason.PROMOTED
    rows: list[tuple[ConditionType, bool | None, Reason, str]] = [
        (ConditionType.READY, ready, told.reason, told.message),
        (ConditionType.RECONCILING, told.kind == "Moving", told.reason, told.message),
        (ConditionType.STALLED, told.kind == "Stopped", told.reason, told.message),
        (
            ConditionType.AVAILABLE,
            serving is not None,
            Reason.SERVING if serving else Reason.NOT_SERVING,
            serving or "",
        ),
        (ConditionType.PROMOTED, promoted, told.reason, ""),
        (ConditionType.BLIND, blind, Reason.BLIND if blind else Reason.SEEING, ""),
    ]
    if breached is not None:
        rows.append((ConditionType.GATES_PASSING, False, Reason.BREACHED, f"{breached.gate.name} is breached"))
    elif silent:
        rows.append((ConditionType.GATES_PASSING, None, Reason.NO_DATA, f"{silent[0].gate.name} has no data"))
    else:
        passing = view.health.passing == len(view.health.gates)
        rows.append(
            (
                ConditionType.GATES_PASSING,
                passing,
                (Reason.ALL_PASS if passing else Reason.AWAITING_GATES) if view.health.gates else Reason.NO_GATES,
                "",
            )
        )
    return [_condition(view, *row) for row in rows]


def _condition(view: View, kind: ConditionType, holds: bool | None, reason: Reason, message: str) -> Condition:
    value: Literal["True", "False", "Unknown"] = "Unknown" if holds is None else "True" if holds else "False"
    name = kind.value  # once: reading it off an enum is slow, and this runs thousands of times a minute
    before = next((c for c in view.world.status.conditions if c.type == name), None)
    since = (
        before.last_transition_time if before is not None and before.status == value else format_time(view.world.now)
    )
    return Condition(
        type=name,
        status=value,
        reason=reason.value,
        message=message[:_LONGEST_MESSAGE],
        observed_generation=view.world.generation,
        last_transition_time=since or "",
    )


def _serving(view: View) -> str | None:
    """Which revisions have buckets and ready pods, in words; None when some unit is served by nobody."""
    world = view.world
    if world.routers_ready == 0:
        return None
    ranges = world.stored.spec.ranges if world.stored else []
    sides = {r.owner for r in ranges} if world.service_selects is None else {world.service_selects}
    covered = sum(r.end - r.start + 1 for r in ranges) == 10_000
    ready = all(side != NOBODY and (w := world.workloads.get(side)) is not None and w.ready > 0 for side in sides)
    if not sides or not covered or not ready:
        return None
    return " and ".join(sorted(view.version(s) for s in sides))


def _revisions(view: View) -> list[RevisionStatus]:
    world, stored = view.world, view.world.stored
    if stored is None:
        return []
    record = stored.spec.record
    named = [record.stable, record.attempt.revision if record.attempt else None, *reversed(record.history)]
    named += [record.revert.away if record.revert else None, *world.workloads]
    out: dict[str, RevisionStatus] = {}
    for revision in named:
        if revision is None or revision == NOBODY or revision in out:
            continue
        known, workload = world.revisions.get(revision), world.workloads.get(revision)
        role: Literal["Stable", "Candidate", "Previous", "Reverted", "Retired"] = "Retired"
        if revision == record.stable:
            role = "Stable"
        elif record.attempt and revision == record.attempt.revision:
            role = "Candidate"
        elif record.revert and revision == record.revert.away:
            role = "Reverted"
        elif revision in record.history:
            role = "Previous"
        out[revision] = RevisionStatus(
            revision=revision,
            version=view.version(revision),
            role=role,
            weight=format_percent(weight(stored.spec.ranges, revision)),
            replicas=workload.replicas if workload else 0,
            ready=workload.ready if workload else 0,
            images=list(known.images) if known else [],
            message=(workload.problem if workload else "")[:500],
        )
    return list(out.values())[:64]


def _gate(view: View, judged: Judged) -> GateStatus:
    j, name = judged.judgement, judged.gate.name
    before = next((g for g in view.world.status.gates if g.name == name), None)
    same = before is not None and before.verdict == j.verdict and before.since
    since = format_time(judged.no_data_since) if judged.no_data_since is not None else format_time(view.world.now)
    return GateStatus(
        name=name,
        verdict=j.verdict,
        value=None if j.value is None else str(j.value)[:64],
        limit=j.limit[:64],
        sampled_at=format_time(j.at),
        since=before.since if same and before else since,
        message=j.message[:500],
    )


def _traffic(view: View) -> TrafficStatus | None:
    stored, consumers = view.world.stored, view.world.consumers
    if stored is None:
        return None
    seen = consumers.open if consumers else ()
    silent = [c for c in seen if c.acked != stored.spec.epoch]
    return TrafficStatus(
        epoch=stored.spec.epoch,
        frozen=format_percent(frozen_weight(stored.spec.ranges)),
        consumers=len(seen),
        acked=len(seen) - len(silent),
        waiting_for=[ConsumerStatus(pod=c.pod, acked=c.acked) for c in silent[:16]],
    )


def _revert(revert: Revert, told: Situation) -> RevertStatus:
    return RevertStatus(
        attempt=revert.id,
        away=revert.away,
        to=revert.to,
        reason=revert.cause.kind,
        message=revert.cause.message or told.message,
        weight=format_percent(revert.weight),
        sampled_at=format_time(revert.cause.sampled_at),
        decided_at=format_time(revert.cause.at),
        stopped_at=format_time(revert.stopped_at),
        served_at=format_time(revert.served_at),
    )


def _pending(view: View) -> Pending | None:
    target, before = view.world.target, view.world.status.pending
    stored = view.world.stored
    serving = stored.spec.record.stable if stored else None
    on_trial = stored.spec.record.attempt.revision if stored and stored.spec.record.attempt else None
    if target is None or target.hash in (serving, on_trial):
        return None
    if before is not None and before.revision == target.hash:
        return before
    return Pending(revision=target.hash, since=view.world.now)
