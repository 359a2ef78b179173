"""A spec that nobody can read while a candidate is out: it goes on being judged, and what is decided can be done."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from strategyrollout.api.rollout import OnBlind, RolloutSpec
from strategyrollout.core.decide import decide
from strategyrollout.core.gates import Gate, Sample
from strategyrollout.core.observed import GateReading, Observed, Problem
from strategyrollout.core.resolve import in_force, kept_on_blind, kept_with_attempt
from tests.core.simulation import MINUTE, REVISIONS, SECOND, Simulation, blue_green, canary, gate, on_canary, promoted

UNREADABLE = Problem("InvalidSpec", "must be an integer", "spec.replicas")
BREACH = (Decimal("0.9"),)


def unreadable(sim: Simulation, *readings: tuple[Gate, Sample], **more: Any) -> Observed:
    """The world with a spec that cannot be read, and these answers about whoever is judged."""
    world = sim.observe()
    record = world.stored.spec.record if world.stored is not None else None
    assert record is not None
    about = record.attempt.revision if record.attempt else record.stable or ""
    gates = tuple(GateReading(g, about, (sample,)) for g, sample in readings)
    return replace(world, spec=None, target=None, problems=(UNREADABLE,), gates=gates, **more)


def baking() -> Simulation:
    sim = promoted(spec=blue_green(), gates=(gate(),))
    sim.apply("v2")
    sim.until("Baking")
    return sim


def previewed() -> Simulation:
    sim = promoted(spec=blue_green(preview="1h"), gates=(gate(),))
    sim.apply("v2")
    sim.until("Previewing")
    return sim


@pytest.mark.parametrize(
    ("at", "when", "stops"),
    [
        (previewed, "PreTrade", True),
        (previewed, "Bake", False),
        (on_canary, "Rollout", True),
        (on_canary, "Always", True),
        (on_canary, "PreTrade", False),
        (on_canary, "Bake", False),
        (baking, "Bake", True),
        (baking, "Rollout", True),
        (baking, "PreTrade", False),
    ],
)
def test_a_breach_of_a_gate_in_force_by_its_share_takes_traffic_back(at: Any, when: Any, stops: bool) -> None:
    sim: Simulation = at()
    told = (gate(when=frozenset({when})), Sample(sim.now, BREACH))
    table = decide(unreadable(sim, told)).assignment
    assert (table is not None and table.cause.kind == "GateBreached") is stops


def test_a_gate_that_reverts_on_no_data_does_so() -> None:
    sim = on_canary()
    silent = gate(no_data="Revert", no_data_after=10 * SECOND)
    assert decide(unreadable(sim, (silent, Sample(sim.now)))).assignment is None
    sim.now += 30 * SECOND
    world = unreadable(sim, (silent, Sample(sim.now)), watching_since=sim.now - 20 * SECOND)
    table = decide(world).assignment
    assert table is not None
    assert table.cause.kind == "NoData"


@pytest.mark.parametrize(("action", "reverts"), [("Revert", True), ("Hold", False), ("Continue", False), (None, False)])
def test_the_policy_for_being_blind_that_the_attempt_began_with_holds(action: Any, reverts: bool) -> None:
    sim = on_canary()
    policy = OnBlind(action=action, after=MINUTE) if action else None
    asked = (gate(), Sample(sim.now, blind=True))
    world = unreadable(sim, asked, blind_since=sim.now - 2 * MINUTE, on_blind=policy)
    table = decide(world).assignment
    assert (table is not None and table.cause.kind == "Blind") is reverts
    early = replace(world, blind_since=sim.now - 30 * SECOND)
    assert decide(early).assignment is None
    if policy is not None:
        assert decide(early).look_again_at == sim.now + 30 * SECOND


def test_nothing_advances_and_the_object_says_what_stays_and_who_judges_it() -> None:
    sim = on_canary()
    sim.now += 10 * MINUTE
    decision = decide(unreadable(sim, (gate(), Sample(sim.now, (Decimal("0.01"),)))))
    assert decision.assignment is None
    assert decision.status is not None
    assert decision.status.state == "InvalidSpec"
    assert decision.status.message == "spec.replicas: must be an integer; 2.0.0 stays at 10%, judged by reject-rate"
    assert decision.status.gates_passing == "1/1"
    partly = unreadable(sim, (gate(), Sample(sim.now, (Decimal("0.01"),))), unjudged=("latency",))
    told = decide(partly).status
    assert told is not None
    assert told.message.endswith("judged by reject-rate, but not by latency, which cannot be read")
    alone = decide(unreadable(sim)).status
    assert alone is not None
    assert alone.message.endswith("2.0.0 stays at 10%, and no gate can be read to judge it")


def test_a_service_is_switched_back_in_one_write_without_its_spec() -> None:
    spec = blue_green(traffic={"service": {"name": "momentum"}, "drain": "2s"})
    sim = promoted(spec=spec, gates=(gate(),))
    sim.apply("v2")
    sim.until("Baking")
    table = decide(unreadable(sim, (gate(), Sample(sim.now, BREACH)))).assignment
    assert table is not None
    assert {(r.owner, r.next) for r in table.ranges} == {(REVISIONS["v1"], None)}


def test_a_revert_after_promotion_gets_pods_for_its_target_and_no_other_side_is_scaled() -> None:
    for_life = gate(when=frozenset({"Rollout", "Always"}))
    sim = promoted(spec=canary("10%"), gates=(for_life,))
    sim.apply("v2")
    sim.run(6 * SECOND)
    sim.until("Promoted")
    assert sim.desired[REVISIONS["v1"]] == 0
    told = (for_life, Sample(sim.now, BREACH))
    assert decide(unreadable(sim)).replicas == {}
    table = decide(unreadable(sim, told)).assignment
    assert table is not None
    sim.store(table)
    assert decide(unreadable(sim)).replicas == {REVISIONS["v1"]: 2}


REF = {"kind": "GateTemplate", "name": "shared"}
BY_TEMPLATE = {"name": "shared", "template": REF, "params": {"limit": "3"}}
OWN = {"name": "own", "prometheus": {"query": "up"}, "limit": {"above": "1"}}
TEMPLATES = {
    "GateTemplate/shared": {"query": "q", "limit": {"above": "{limit}"}, "params": [{"name": "limit", "default": "2"}]}
}


def written(*gates: dict[str, Any]) -> RolloutSpec:
    return RolloutSpec.model_validate(canary("10%", gates=gates, onBlind={"action": "Revert", "after": "7s"}))


BEGAN = written(BY_TEMPLATE, OWN)
KEPT = kept_with_attempt(BEGAN.gates, BEGAN.on_blind, TEMPLATES)


@pytest.mark.parametrize(
    ("now", "whole", "limits"),
    [
        ((BY_TEMPLATE, OWN), True, {"shared": "3", "own": "1"}),
        ((BY_TEMPLATE, {**OWN, "limit": {"above": "9"}}), True, {"shared": "3", "own": "9"}),
        ((BY_TEMPLATE,), True, {"shared": "3"}),
        ((BY_TEMPLATE,), False, {"shared": "3", "own": "1"}),
        ((), True, {}),
        ((), False, {"shared": "3", "own": "1"}),
        (({**BY_TEMPLATE, "template": {**REF, "name": "gone"}}, OWN), True, {"shared": "3", "own": "1"}),
        (({**BY_TEMPLATE, "params": {"limmit": "5"}}, OWN), False, {"shared": "3", "own": "1"}),
        (({**OWN, "name": "new"},), False, {"shared": "3", "own": "1", "new": "1"}),
    ],
    ids=[
        "as it began",
        "another limit acts at once",
        "one taken away",
        "one that cannot be read",
        "all taken away",
        "none that can be read",
        "one whose template is not there",
        "one with a mistake in its numbers",
        "one more",
    ],
)
def test_a_gate_that_cannot_be_used_stays_as_the_attempt_began_with_it(
    now: tuple[dict[str, Any], ...], whole: bool, limits: dict[str, str]
) -> None:
    gates, problems = in_force(written(*now).gates, {**TEMPLATES, **KEPT}, KEPT, whole=whole)
    assert {g.name: str(g.above) for g in gates} == limits
    assert len(problems) == sum("gone" in str(g) or "limmit" in str(g) for g in now)


def test_what_a_newer_operator_kept_is_read_as_far_as_it_can_be() -> None:
    kept = {**KEPT, "gates": [{**OWN, "severity": "Page"}, {**BY_TEMPLATE, "onWeekend": "Hold"}], "onBlind": {"x": 1}}
    gates, _ = in_force((), {}, kept, whole=False)
    assert [g.name for g in gates] == ["shared"]
    assert kept_on_blind({**kept, "onBlind": {"action": "Shrug"}}) == OnBlind()


def test_the_policy_for_being_blind_is_kept_with_the_attempt_and_an_older_one_kept_none() -> None:
    assert kept_on_blind(KEPT) == OnBlind(action="Revert", after=7 * SECOND)
    assert kept_on_blind(TEMPLATES) == OnBlind()
    assert in_force((), TEMPLATES, TEMPLATES, whole=False) == ((), ())
