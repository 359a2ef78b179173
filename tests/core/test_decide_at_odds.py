"""Scenarios in which several things happen at once, or in which something about the rollout itself is broken."""

from dataclasses import replace
from decimal import Decimal

import pytest

from strategyrollout.core.decide import decide
from strategyrollout.core.gates import Sample
from strategyrollout.core.observed import GateReading, Problem, Request
from tests.core.simulation import (
    MINUTE,
    REVISIONS,
    SECOND,
    Simulation,
    annotation,
    blue_green,
    canary,
    gate,
    on_canary,
    promoted,
)


def test_a_request_that_leads_nowhere_does_not_hold_up_a_rollback_behind_it() -> None:
    sim = on_canary()
    nowhere = Request("Object", "Rollback", "uid-1", "momentum-a", to="2.0.0")
    sim.requests = [nowhere, annotation("Rollback", "now")]
    sim.now += SECOND
    table = sim.step().assignment
    assert table is not None
    assert [r.next for r in table.ranges if r.owner == REVISIONS["v2"]] == [REVISIONS["v1"]]
    sim.run(3 * SECOND)
    assert sim.share("v1") == 10_000


def test_a_rollback_that_cannot_lead_anywhere_still_takes_the_candidate_away_first() -> None:
    sim = on_canary()
    sim.requests = [Request("Object", "Rollback", "uid-1", "momentum-a", to="9.9.9")]
    sim.run(3 * SECOND)
    assert sim.share("v1") == 10_000


def test_a_flood_of_rollback_objects_acts_once_and_comes_to_rest() -> None:
    sim = on_canary()
    sim.requests = [Request("Object", "Rollback", f"uid-{n:03}", f"alert-{n}") for n in range(120)]
    sim.run(3 * SECOND)
    assert sim.share("v1") == 10_000
    for _ in range(5):  # those reported as done are no longer among the requests
        done = {name for d in sim.decisions for name, s in d.rollbacks.items() if s.outcome != "Running"}
        sim.requests = [r for r in sim.requests if r.value not in done]
        sim.run(3 * SECOND)
    writes = len(sim.history)
    sim.run(10 * SECOND)
    assert sim.requests == []
    assert len(sim.history) == writes


@pytest.mark.parametrize("verb", ["Promote", "Resume"])
def test_what_is_asked_for_while_moving_does_not_cut_the_next_hold_short(verb: str) -> None:
    sim = on_canary("10%", "50%", hold="30s")
    while not any(r.next for r in sim.table.ranges):  # type: ignore[union-attr]
        sim.now += SECOND
        sim.sample()
        sim.step()
    sim.requests = [annotation(verb, "go on")]
    before = len(sim.history)
    sim.step()
    assert len(sim.history) == before, "a write while frozen would make every router acknowledge anew"
    sim.run(6 * SECOND)
    assert sim.share("v2") == (10_000 if verb == "Promote" else 5_000)


def test_promote_goes_to_the_end_without_the_steps_between() -> None:
    sim = promoted(spec=canary("10%", "20%", "50%", hold=None), gates=(gate(),))
    sim.apply("v2")
    sim.until("AwaitingResume")
    sim.requests = [annotation("Promote", "go")]
    sim.until("Promoted")
    assert {sum(r.end - r.start + 1 for r in t.ranges if r.owner == REVISIONS["v2"]) for t in sim.history} == {
        0,
        1_000,
        10_000,
    }


def test_a_retry_seen_together_with_a_rollback_does_not_undo_it() -> None:
    sim = on_canary()
    sim.requests = [annotation("Retry", "again"), annotation("Rollback", "no")]
    sim.run(2 * MINUTE)
    assert sim.share("v2") == 0
    sim.requests = [annotation("Retry", "now really"), annotation("Rollback", "no")]
    sim.run(20 * SECOND)
    assert sim.share("v2") == 1_000


def test_case_31_a_rollback_after_promotion_waits_for_pods_of_its_target() -> None:
    sim = promoted(spec=canary("10%"), gates=(gate(),))
    sim.apply("v2")
    sim.run(6 * SECOND)
    sim.until("Promoted")
    assert sim.desired[REVISIONS["v1"]] == 0
    sim.starts = False
    sim.ready[REVISIONS["v1"]] = 0
    sim.requests = [annotation("Rollback", "now")]
    sim.run(20 * SECOND)
    assert sim.desired[REVISIONS["v1"]] == 2
    assert sim.share("v1") == 0
    assert "waiting for a ready pod of 1.0.0" in sim.status.message
    sim.ready[REVISIONS["v1"]] = 1
    sim.run(2 * SECOND)
    assert sim.share("v1") == 10_000


def test_a_rollback_to_a_target_that_never_comes_up_can_be_sent_elsewhere() -> None:
    sim = promoted(spec=canary("10%"), gates=(gate(),))
    for version in ("v2", "v3"):
        sim.apply(version)
        sim.run(6 * SECOND)
        sim.until("Promoted")
    sim.ready[REVISIONS["v2"]] = 0
    sim.requests = [annotation("Rollback", "now")]
    sim.run(30 * SECOND)
    assert sim.share("v3") == 10_000
    assert not sim.served("v3", 0)
    sim.requests.append(Request("Object", "Rollback", "uid-2", "momentum-b", to="1.0.0"))
    sim.run(5 * SECOND)
    assert sim.share("v1") == 10_000
    assert sim.table.record.stable == REVISIONS["v1"]  # type: ignore[union-attr]


def test_a_rollback_names_only_what_was_trusted_before() -> None:
    sim = on_canary()
    sim.value["reject-rate"] = "0.9"
    sim.until("Reverted")
    sim.requests = [Request("Object", "Rollback", "uid-1", "momentum-a", to="2.0.0")]
    sim.run(10 * SECOND)
    assert sim.share("v1") == 10_000
    outcome = sim.decisions[-1].rollbacks["momentum-a"]
    assert (outcome.outcome, "retry" in outcome.message) == ("NothingToDo", True)


def test_case_34_scaling_in_the_middle_of_a_rollout_changes_no_share() -> None:
    sim = on_canary()
    for replicas in (6, 1, 3):
        sim.apply("v2", replicas=replicas)
        sim.run(3 * SECOND)
        assert (sim.share("v1"), sim.share("v2")) == (9_000, 1_000)
        assert {sim.desired[REVISIONS[v]] for v in ("v1", "v2")} == {replicas}


def test_case_34_scaling_in_the_middle_of_a_revert_changes_no_share() -> None:
    sim = on_canary()
    sim.routers[1].reachable = False
    sim.requests = [annotation("Rollback", "now")]
    sim.run(3 * SECOND)
    sim.apply("v2", replicas=5)
    sim.run(3 * SECOND)
    assert (sim.share("v1"), sim.share("v2")) == (9_000, 1_000)
    sim.run(10 * SECOND)
    assert sim.share("v1") == 10_000


def test_a_gated_first_revision_that_breaches_freezes_and_a_fix_starts_from_nothing() -> None:
    sim = Simulation(canary("10%", initial="Gated"), gates=(gate(),))
    sim.until("Holding")
    sim.value["reject-rate"] = "0.9"
    sim.until("NoLastGood")
    assert sim.share("v1") == 0
    assert not sim.served("v1", 0)
    sim.value["reject-rate"] = "0.01"
    sim.run(20 * MINUTE, every=10 * SECOND)
    assert sim.share("v1") == 0
    sim.apply("v2")
    sim.until("Holding")
    assert (sim.share("v1"), sim.share("v2")) == (0, 1_000)
    sim.until("Promoted")


@pytest.mark.parametrize("problem", ["InvalidGate", "MissingInput", "InvalidTemplate", "InvalidSpec"])
def test_case_23_whatever_is_wrong_with_the_spec_a_breach_reverts(problem: str) -> None:
    sim = on_canary()
    sim.problems = (Problem(problem, "about the next revision", "spec"),)
    sim.target = None
    sim.value["reject-rate"] = "0.9"
    sim.run(3 * SECOND)
    assert sim.share("v1") == 10_000


def test_a_spec_that_cannot_be_read_keeps_no_breach_from_reverting_and_no_unit_frozen() -> None:
    sim = on_canary("10%", "50%", hold="10s")
    while not any(r.next for r in sim.table.ranges):  # type: ignore[union-attr]
        sim.now += SECOND
        sim.sample()
        sim.step()
    world = replace(sim.observe(), spec=None, target=None)
    table = decide(world).assignment
    assert table is not None
    assert table.cause.kind == "Withdrawn"
    assert not any(r.next for r in table.ranges)
    breach = GateReading(gate(), REVISIONS["v2"], (Sample(world.now, (Decimal("0.9"),)),))
    table = decide(replace(world, gates=(breach,))).assignment
    assert table is not None
    assert table.cause.kind == "GateBreached"


@pytest.mark.parametrize("wrong", ["paused", "problem", "silence", "blind"])
def test_a_move_that_may_no_longer_be_granted_is_withdrawn(wrong: str) -> None:
    sim = on_canary("10%", "50%", hold="10s")
    while not any(r.next for r in sim.table.ranges):  # type: ignore[union-attr]
        sim.now += SECOND
        sim.sample()
        sim.step()
    if wrong == "paused":
        sim.apply("v2", paused=True)
    elif wrong == "problem":
        sim.problems = (Problem("InvalidGate", "gone", "spec.gates"),)
    elif wrong == "blind":
        sim.blind_since = sim.now
    sim.value["reject-rate"] = "0.01" if wrong in ("paused", "problem") else None
    sim.run(2 * SECOND)
    assert sim.share("v2") == 1_000
    assert sim.history[-1].cause.kind == "Withdrawn"


def test_a_value_of_hundreds_of_digits_still_reverts() -> None:
    sim = on_canary()
    sim.value["reject-rate"] = "1" + "0" * 300
    sim.run(3 * SECOND)
    assert sim.share("v1") == 10_000
    assert "reject-rate 1.000000e+300 > 0.05" in sim.status.message


def test_case_25_an_image_whose_quarantine_runs_out_does_not_start_by_itself_under_other_labels() -> None:
    sim = on_canary(onRevert={"quarantine": "1m"})
    sim.value["reject-rate"] = "0.9"
    sim.until("Reverted")
    sim.value["reject-rate"] = "0.01"
    sim.shared_digests["v3"] = f"sha256:{REVISIONS['v2']}"
    sim.apply("v3")
    sim.run(30 * MINUTE, every=10 * SECOND)
    assert sim.share("v1") == 10_000
    sim.requests = [annotation("Retry", "it was the market")]
    sim.run(20 * SECOND)
    assert sim.share("v3") == 1_000


def test_pods_of_an_owner_whose_record_was_deleted_are_left_alone() -> None:
    sim = on_canary()
    world = sim.observe()
    world = replace(world, revisions={h: r for h, r in world.revisions.items() if h != REVISIONS["v1"]})
    assert decide(world).replicas.get(REVISIONS["v1"]) is None


def test_nothing_is_scaled_down_while_a_lost_table_is_repaired() -> None:
    sim = on_canary()
    sim.routers[1].reachable = False
    sim.table = None
    sim.run(5 * SECOND)
    assert sim.status.state == "Repairing"
    assert sim.desired[REVISIONS["v2"]] == 2


def test_a_service_is_switched_back_in_one_write_and_its_pods_go_once_endpoints_exclude_them() -> None:
    spec = blue_green(traffic={"service": {"name": "momentum"}, "drain": "2s"}, onRevert={"keep": "0s"})
    sim = promoted(spec=spec, gates=(gate(),))
    sim.apply("v2")
    sim.until("Baking")
    sim.value["reject-rate"] = "0.9"
    sim.now += SECOND
    sim.sample()
    table = sim.step().assignment
    assert table is not None
    assert {(r.owner, r.next) for r in table.ranges} == {(REVISIONS["v1"], None)}
    sim.step()
    assert sim.desired[REVISIONS["v2"]] == 2
    sim.run(4 * SECOND)
    assert sim.desired[REVISIONS["v2"]] == 0
