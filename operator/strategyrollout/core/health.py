"""What the gates say about the revision on trial: which are in force now, whether to revert, whether to advance.

PreTrade gates must pass before the first unit of traffic; Rollout gates at every step; Bake gates at 100 %; Always
gates at all of these and for life. A breach counts as soon as it is seen; a pass counts for advancing only if the
sample was taken after the step's share was in force.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from strategyrollout.api.assignment import Attempt, Cause
from strategyrollout.api.gates import When
from strategyrollout.api.meta import BUCKETS
from strategyrollout.api.rollout import OnBlind
from strategyrollout.api.scalars import format_duration
from strategyrollout.core.gates import Gate, Judgement, judge, no_data_since, outside
from strategyrollout.core.observed import GateReading, Observed
from strategyrollout.core.recipe import Step

_LONGEST_NUMBER = 32
FIRST_ANSWER_MS = 2_000


@dataclass(frozen=True)
class Judged:
    """A gate in force and its verdict about the revision on trial."""

    gate: Gate
    judgement: Judgement
    no_data_since: int | None
    """Since when it has had no usable sample; None while it has one."""


@dataclass(frozen=True)
class Health:
    """All gates in force."""

    gates: tuple[Judged, ...] = ()
    needed: frozenset[str] = frozenset()
    """Names of those that must pass before the next step."""
    held_from: int | None = None

    @property
    def breached(self) -> Judged | None:
        """The first gate that asks for a revert."""
        return next((g for g in self.gates if g.gate.severity == "Stop" and g.judgement.verdict == "Breach"), None)

    @property
    def passing(self) -> int:
        """How many pass."""
        return sum(g.judgement.verdict == "Pass" for g in self.gates)


def phases(recipe: tuple[Step, ...], at: int, attempt: Attempt, now: int) -> frozenset[When]:
    """The kinds of gate in force for an attempt. `at` is its position."""
    if attempt.weight == 0:
        return frozenset({"PreTrade", "Rollout", "Always"})
    last = at == len(recipe) - 1 and attempt.held_from is not None
    if last and attempt.held_from is not None and now >= attempt.held_from + recipe[at].hold:
        return frozenset({"Bake", "Always"})
    return frozenset({"Rollout", "Always"})


def trial(world: Observed, attempt: Attempt, recipe: tuple[Step, ...], at: int) -> Health:
    """Health of a candidate."""
    in_force = phases(recipe, at, attempt, world.now)
    readings = [r for r in world.gates if r.revision == attempt.revision and r.gate.when & in_force]
    before_traffic = attempt.weight == 0
    judged = tuple(_judged(world, r, attempt.started_at, attempt.held_from or attempt.step_at) for r in readings)
    needed = {
        r.gate.name
        for r in readings
        if r.gate.severity != "Observe" and (not before_traffic or "PreTrade" in r.gate.when or "Always" in r.gate.when)
    }
    return Health(judged, frozenset(needed), attempt.held_from)


def unread(world: Observed, attempt: Attempt) -> Health:
    """Health of a candidate while the spec cannot be read: what its share alone tells may stop it, nothing advances.

    At 100 % nobody knows whether its last hold is over, so gates of both hold and bake may stop it.
    """
    in_force: set[When] = {"Rollout", "Always"}
    if attempt.weight == 0:
        in_force.add("PreTrade")
    if attempt.weight == BUCKETS:
        in_force.add("Bake")
    readings = [r for r in world.gates if r.revision == attempt.revision and r.gate.when & in_force]
    judged = tuple(_judged(world, r, attempt.started_at, attempt.held_from or attempt.step_at) for r in readings)
    return Health(judged, frozenset(r.gate.name for r in readings), attempt.held_from)


def for_life(world: Observed, stable: str) -> Health:
    """Health of a promoted revision: only Always gates are left, and nothing waits for them."""
    readings = [r for r in world.gates if r.revision == stable and "Always" in r.gate.when]
    return Health(tuple(_judged(world, r, 0, world.watching_since) for r in readings))


def _judged(world: Observed, reading: GateReading, since: int, armed_at: int) -> Judged:
    gate, samples = reading.gate, reading.samples
    judgement = judge(gate, samples, world.now, since)
    if judgement.verdict != "NoData":
        return Judged(gate, judgement, None)
    # A fresh process has no samples; only what an earlier one reported makes the silence older than itself.
    reported = next((g for g in world.status.gates if g.name == gate.name and g.verdict == "NoData" and g.since), None)
    floor = max(armed_at, _millis(reported.since) if reported and reported.since else world.watching_since)
    return Judged(gate, judgement, no_data_since(gate, samples, floor))


def _millis(text: str) -> int:
    """A time of an earlier status, in milliseconds since 1970; 0 when it cannot be read, so another floor decides."""
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        return 0


def advance_blockers(health: Health, world: Observed) -> tuple[Judged, ...]:
    """Needed gates that do not yet allow the next step."""
    spec = world.spec
    blind_for = None if world.blind_since is None else world.now - world.blind_since

    def allows(g: Judged) -> bool:
        if g.judgement.verdict == "Pass":
            return health.held_from is None or (g.judgement.at is not None and g.judgement.at >= health.held_from)
        if g.judgement.verdict != "NoData" or spec is None:
            return False
        blind = blind_for is not None and spec.on_blind.action == "Continue" and blind_for >= spec.on_blind.after
        silent = g.no_data_since is not None and world.now - g.no_data_since >= g.gate.no_data_after
        return blind or (g.gate.no_data == "Continue" and silent)

    return tuple(g for g in health.gates if g.gate.name in health.needed and not allows(g))


def is_unheard(judged: Judged, world: Observed) -> bool:
    """Whether this process is too young to have had any answer of the gate: no reason to go on, and none to give up."""
    unasked = judged.judgement.verdict == "NoData" and judged.judgement.at is None
    return unasked and world.now - world.watching_since < FIRST_ANSWER_MS


def breach_cause(health: Health, world: Observed, share: str) -> Cause | None:
    """Why the gates want traffic back, or None."""
    worst = health.breached
    if worst is not None:
        j = worst.judgement
        return Cause(
            kind="GateBreached",
            message=f"{worst.gate.name} {_rounded(worst.gate, j.value)} {j.limit} at {share}",
            gate=worst.gate.name,
            value=_number(j.value),
            limit=j.limit,
            sampled_at=j.at,
            at=world.now,
        )
    return _silence_cause(health, world)


def _rounded(gate: Gate, value: Decimal | None) -> str:
    """Four digits are enough for a sentence, unless they would no longer show that the limit is broken."""
    if value is None or not value.is_finite():
        return _number(value)
    few = format(value, ".4g") if Decimal("0.0001") <= abs(value) < 1000 else format(value, ".1f")
    return few if len(few) < len(str(value)) and outside(gate, Decimal(few)) else _number(value)


def _number(value: Decimal | None) -> str:
    """A value as people read it. Prometheus may answer with hundreds of digits; a revert must not fail for that."""
    text = str(value)
    return text if len(text) <= _LONGEST_NUMBER or value is None else f"{value:.6e}"


def _silence_cause(health: Health, world: Observed) -> Cause | None:
    """Policies for not knowing. Being blind is the operator's state, so it is looked at before blaming a gate."""
    if world.blind_since is not None:
        policy = _on_blind(world)
        if policy is not None and policy.action == "Revert" and world.now - world.blind_since >= policy.after:
            message = f"Prometheus could not be asked for {format_duration(policy.after)} (onBlind: Revert)"
            return Cause(kind="Blind", message=message, at=world.now)
        return None
    for g in health.gates:
        if g.gate.no_data != "Revert" or g.gate.severity != "Stop" or g.no_data_since is None:
            continue
        if g.gate.name in health.needed and world.now - g.no_data_since >= g.gate.no_data_after:
            after = format_duration(g.gate.no_data_after)
            message = f"{g.gate.name} had no data for {after} (noData: Revert): {g.judgement.message}"
            return Cause(kind="NoData", gate=g.gate.name, message=message[:512], at=world.now)
    return None


def _on_blind(world: Observed) -> OnBlind | None:
    return world.spec.on_blind if world.spec is not None else world.on_blind


def look_again(health: Health, world: Observed) -> int | None:
    """When a policy about silence is due, or a sample that is waited for may be there."""
    times = []
    policy = _on_blind(world)
    if policy is not None and world.blind_since is not None:
        times.append(world.blind_since + policy.after)
    for g in health.gates:
        if g.no_data_since is not None:
            times.append(g.no_data_since + g.gate.no_data_after)
        elif g.judgement.at is not None:  # it turns into NoData by age alone
            times.append(g.judgement.at + max(g.gate.query.max_age, 2 * g.gate.query.interval) + 1)
    return min((t for t in times if t > world.now), default=None)
