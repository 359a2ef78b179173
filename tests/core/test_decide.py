"""Scenarios of whole rollouts, told by what happens to whom; the numbers in names are conformance cases."""

import pytest

from strategyrollout.core.observed import Request
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


def test_case_1_the_first_revision_serves_everything_directly() -> None:
    sim = promoted()
    assert sim.share("v1") == 10_000
    assert not any(r.leased for r in sim.table.ranges)  # type: ignore[union-attr]


def test_case_1_a_gated_first_revision_runs_the_recipe_against_nothing() -> None:
    sim = Simulation(canary("10%", initial="Gated"), gates=(gate(),))
    sim.until("Holding")
    assert sim.share("v1") == 1_000
    sim.until("Promoted")
    assert sim.share("v1") == 10_000


def test_case_2_a_second_revision_gets_nothing_until_a_step_says_so() -> None:
    sim = promoted()
    sim.starts = False
    sim.apply("v2")
    sim.run(20 * SECOND)
    assert sim.share("v1") == 10_000
    assert len({t.record.attempt.id for t in sim.history if t.record.attempt and t.record.stable}) == 1


def test_case_3_weight_stays_while_the_candidate_is_not_ready() -> None:
    sim = on_canary(hold="10s")
    sim.starts = False
    sim.ready[REVISIONS["v2"]] = 1
    sim.run(30 * SECOND)
    assert sim.share("v2") == 1_000
    sim.ready[REVISIONS["v2"]] = 2
    sim.run(3 * SECOND)
    assert sim.share("v2") == 5_000


def test_case_4_a_timed_hold_ends_within_a_second() -> None:
    sim = on_canary(hold="1m")
    held = sim.table.record.attempt.held_from or 0  # type: ignore[union-attr]
    while sim.share("v2") == 1_000:
        sim.run(SECOND)
    assert 0 <= sim.now - (held + MINUTE) <= SECOND


def test_case_5_one_resume_advances_exactly_one_step() -> None:
    sim = promoted(spec=canary("10%", "50%", hold=None), gates=(gate(),))
    sim.apply("v2")
    sim.until("AwaitingResume")
    sim.run(10 * MINUTE, every=30 * SECOND)
    assert sim.share("v2") == 1_000
    sim.requests = [annotation("Resume", "looks fine")]
    sim.run(5 * MINUTE, every=10 * SECOND)
    assert sim.share("v2") == 5_000
    assert sim.status.state == "AwaitingResume"


def test_case_6_a_hold_longer_than_the_deadline_is_not_stalled() -> None:
    sim = on_canary(hold="30m", progressDeadline="1m")
    sim.run(10 * MINUTE, every=10 * SECOND)
    assert sim.status.state == "Holding"


def test_case_7_late_pods_stall_and_recover() -> None:
    sim = promoted(spec=canary("10%", progressDeadline="1m"))
    sim.starts = False
    sim.apply("v2")
    sim.until("ProgressDeadlineExceeded")
    sim.ready[REVISIONS["v2"]] = 2
    sim.until("Holding", 10 * SECOND)


def test_case_8_the_deadline_reverts_only_when_told_to() -> None:
    sim = promoted(spec=canary("10%", progressDeadline="1m", onDeadline="Revert"))
    sim.starts = False
    sim.apply("v2")
    sim.until("Reverted")
    assert "no progress" in sim.status.message


def test_case_9_a_breach_reverts_in_the_same_pass_with_value_and_limit() -> None:
    sim = on_canary()
    sim.value["reject-rate"] = "0.081"
    sim.now += SECOND
    sim.sample()
    decision = sim.step()
    assert decision.assignment is not None
    assert all(r.next == REVISIONS["v1"] for r in decision.assignment.ranges if r.owner == REVISIONS["v2"])
    sim.run(5 * SECOND)
    assert sim.status.message == "Reverted: reject-rate 0.081 > 0.05 at 10%, serving 1.0.0"
    assert sim.share("v1") == 10_000


def test_case_10_tolerated_failures_do_nothing_and_one_more_reverts() -> None:
    sim = promoted(gates=(gate(breaches=3, of=3),))
    sim.apply("v2")
    sim.until("Holding")
    sim.value["reject-rate"] = "0.9"
    sim.run(2 * SECOND)
    assert sim.share("v2") == 1_000
    sim.run(3 * SECOND)
    assert sim.share("v2") == 0


def test_case_12_an_observing_gate_is_recorded_and_never_acts() -> None:
    sim = promoted(gates=(gate(severity="Observe"),))
    sim.value["reject-rate"] = "0.9"
    sim.apply("v2")
    sim.until("Baking")
    assert sim.status.gates[0].verdict == "Breach"


@pytest.mark.parametrize("value", [None, "NaN", "Infinity"], ids=["case_13_empty", "case_14_nan", "case_14_infinite"])
def test_no_data_never_advances(value: str | None) -> None:
    sim = on_canary()
    sim.value["reject-rate"] = value
    sim.run(30 * MINUTE, every=10 * SECOND)
    assert sim.share("v2") == 1_000
    assert sim.status.gates[0].verdict == "NoData"
    assert sim.status.state == "AwaitingGates"


def test_case_13_no_data_reverts_when_declared() -> None:
    sim = promoted(gates=(gate(no_data="Revert", no_data_after=20 * SECOND),))
    sim.apply("v2")
    sim.until("Holding")
    sim.value["reject-rate"] = None
    sim.run(10 * SECOND)
    assert sim.share("v2") == 1_000
    sim.run(15 * SECOND)
    assert sim.share("v2") == 0


@pytest.mark.parametrize(("action", "share"), [("Hold", 1_000), ("Revert", 0), ("Continue", 10_000)])
def test_case_16_the_blind_policy_applies_on_time(action: str, share: int) -> None:
    sim = on_canary(onBlind={"action": action, "after": "2m"})
    sim.blind_since = sim.now
    sim.value["reject-rate"] = None
    sim.run(2 * MINUTE - 5 * SECOND, every=5 * SECOND)
    assert sim.share("v2") == 1_000
    sim.run(10 * MINUTE, every=5 * SECOND)
    assert sim.share("v2") == share


def test_case_19_a_failing_gate_before_the_switch_leaves_the_active_version_alone() -> None:
    sim = promoted(spec=blue_green(), gates=(gate(when=frozenset({"PreTrade"})),))
    sim.apply("v2")
    sim.until("Previewing")
    sim.value["reject-rate"] = "0.9"
    sim.run(5 * MINUTE, every=5 * SECOND)
    assert sim.share("v1") == 10_000
    assert sim.status.state == "Reverted"
    assert all(not t.ranges or t.ranges[0].owner == REVISIONS["v1"] for t in sim.history)


def test_case_20_a_failing_gate_after_the_switch_returns_to_the_version_before() -> None:
    sim = promoted(spec=blue_green(), gates=(gate(),))
    sim.apply("v2")
    sim.until("Baking")
    assert sim.share("v2") == 10_000
    sim.value["reject-rate"] = "0.9"
    sim.run(3 * SECOND)
    assert sim.share("v1") == 10_000


def test_case_21_a_crash_looping_candidate_does_not_hold_up_the_way_back() -> None:
    sim = promoted(spec=blue_green())
    sim.apply("v2")
    sim.until("Baking")
    sim.ready[REVISIONS["v2"]] = 0
    sim.requests = [annotation("Rollback", "it crashes")]
    sim.run(3 * SECOND)
    assert sim.share("v1") == 10_000
    assert sim.status.state == "RolledBack"


@pytest.mark.parametrize(("policy", "moved"), [("MoveIfAnyReady", True), ("Freeze", False)])
def test_case_22_with_one_unready_pod_of_stable_the_policy_decides(policy: str, moved: bool) -> None:
    sim = on_canary(onRevert={"unready": policy})
    sim.ready[REVISIONS["v1"]] = 1
    sim.starts = False
    sim.requests = [annotation("Rollback", "now")]
    sim.run(5 * SECOND)
    assert (sim.share("v1") == 10_000) is moved
    assert not sim.served("v2", 0)


def test_a_revert_waits_frozen_for_a_target_without_pods() -> None:
    sim = on_canary()
    sim.ready[REVISIONS["v1"]] = 0
    sim.requests = [annotation("Rollback", "now")]
    sim.run(20 * SECOND)
    assert not sim.served("v2", 0)
    assert sim.share("v2") == 1_000
    sim.ready[REVISIONS["v1"]] = 1
    sim.run(2 * SECOND)
    assert sim.share("v1") == 10_000


def test_case_24_a_rollback_outranks_a_promotion() -> None:
    sim = on_canary()
    sim.requests = [annotation("Promote", "go"), annotation("Rollback", "no")]
    sim.run(10 * SECOND)
    assert sim.share("v2") == 0
    assert sim.status.state == "RolledBack"


def test_case_25_a_reverted_image_does_not_come_back_by_labels_or_steps() -> None:
    sim = on_canary()
    sim.value["reject-rate"] = "0.9"
    sim.until("Reverted")
    sim.value["reject-rate"] = "0.01"
    sim.shared_digests["v3"] = f"sha256:{REVISIONS['v2']}"
    sim.apply("v3", replicas=3)
    sim.run(10 * MINUTE, every=5 * SECOND)
    assert sim.share("v1") == 10_000
    assert sim.status.state == "Reverted"


def test_case_25_quarantine_running_out_starts_nothing() -> None:
    sim = on_canary(onRevert={"quarantine": "1m"})
    sim.value["reject-rate"] = "0.9"
    sim.until("Reverted")
    sim.value["reject-rate"] = "0.01"
    sim.run(20 * MINUTE, every=10 * SECOND)
    assert sim.share("v1") == 10_000


def test_case_26_a_fix_starts_cleanly_from_stable() -> None:
    sim = on_canary()
    sim.value["reject-rate"] = "0.9"
    sim.until("Reverted")
    sim.value["reject-rate"] = "0.01"
    sim.apply("v3")
    sim.until("Holding")
    assert (sim.share("v1"), sim.share("v3")) == (9_000, 1_000)


def test_case_27_a_retry_starts_at_zero_with_fresh_evidence() -> None:
    sim = on_canary()
    sim.value["reject-rate"] = "0.9"
    sim.until("Reverted")
    sim.value["reject-rate"] = "0.01"
    sim.requests = [annotation("Retry", "v2 again")]
    sim.run(20 * SECOND)
    assert sim.share("v2") == 1_000
    assert len({t.record.attempt.id for t in sim.history if t.record.attempt and t.record.stable}) == 2


def test_case_28_an_abort_after_completion_goes_to_the_previous_revision_only_when_asked_for() -> None:
    sim = promoted(spec=canary("10%"), gates=(gate(),))
    sim.apply("v2")
    sim.run(6 * SECOND)
    sim.until("Promoted")
    sim.requests = [annotation("Rollback", "second thoughts")]
    sim.run(5 * SECOND)
    assert sim.share("v1") == 10_000
    assert sim.status.state == "RolledBack"
    assert sim.status.last_revert is not None
    assert not sim.table.record.revert.timeout  # type: ignore[union-attr]


def test_case_28_nothing_to_roll_back_to_changes_nothing() -> None:
    sim = promoted()
    sim.requests = [annotation("Rollback", "hm")]
    sim.run(5 * SECOND)
    assert sim.share("v1") == 10_000
    assert sim.status.state == "Promoted"


def test_case_29_a_third_revision_takes_everything_from_the_second_and_is_judged_against_the_first() -> None:
    sim = on_canary()
    sim.apply("v3")
    sim.run(4 * SECOND)
    assert sim.share("v2") == 1_000  # settling
    sim.until("Holding", 30 * SECOND)
    sim.run(10 * SECOND)
    assert (sim.share("v1"), sim.share("v2"), sim.share("v3")) == (9_000, 0, 1_000)


def test_case_30_applying_the_first_again_reverts_at_once() -> None:
    sim = on_canary()
    sim.apply("v1")
    sim.run(2 * SECOND)
    assert sim.share("v1") == 10_000
    assert sim.status.state == "Promoted"


def test_case_33_pods_of_the_reverted_stay_for_keep_and_then_go() -> None:
    sim = on_canary(onRevert={"keep": "1m"})
    sim.requests = [annotation("Rollback", "now")]
    sim.until("RolledBack")
    assert sim.desired[REVISIONS["v2"]] == 2
    sim.run(70 * SECOND)
    assert sim.desired[REVISIONS["v2"]] == 0


def test_case_33_keep_zero_means_keep() -> None:
    sim = on_canary(onRevert={"keep": "0s"})
    sim.requests = [annotation("Rollback", "now")]
    sim.run(MINUTE * 60, every=MINUTE)
    assert sim.desired[REVISIONS["v2"]] == 2


def test_an_annotation_left_in_place_never_acts_on_a_later_release() -> None:
    sim = on_canary()
    sim.requests = [annotation("Rollback", "fills look wrong")]
    sim.until("RolledBack")
    sim.apply("v3")
    sim.run(2 * MINUTE)
    assert sim.share("v3") == 5_000


def test_an_annotation_taken_away_undoes_nothing() -> None:
    sim = on_canary()
    sim.requests = [annotation("Rollback", "fills look wrong")]
    sim.until("RolledBack")
    sim.requests = []
    sim.run(10 * MINUTE, every=5 * SECOND)
    assert sim.share("v2") == 0


def test_a_second_rollback_after_the_first_goes_no_further_back() -> None:
    sim = promoted(spec=canary("10%"), gates=(gate(),))
    for version in ("v2", "v3"):
        sim.apply(version)
        sim.run(6 * SECOND)
        sim.until("Promoted" if version == "v2" else "Holding")
    sim.value["reject-rate"] = "0.9"
    sim.until("Reverted")
    sim.requests = [annotation("Rollback", "bad fills"), Request("Object", "Rollback", "uid-1", "momentum-x")]
    sim.run(10 * SECOND)
    assert sim.share("v2") == 10_000


def test_a_pin_keeps_everything_from_starting() -> None:
    sim = promoted()
    sim.requests = [Request("Pin", "Rollback", "spec.rollback", "Previous|freeze", reason="freeze")]
    sim.apply("v2", rollback={"reason": "freeze"})
    sim.run(MINUTE)
    assert sim.share("v1") == 10_000
    assert sim.status.state == "Pinned"


def test_a_pin_that_names_the_revision_on_trial_says_so_and_keeps_it_where_it_is() -> None:
    sim = on_canary()
    sim.requests = [Request("Pin", "Rollback", "spec.rollback", "2.0.0|fills", to="2.0.0", reason="fills")]
    sim.apply("v2", rollback={"to": "2.0.0", "reason": "fills"})
    sim.run(10 * MINUTE, every=5 * SECOND)
    assert sim.share("v2") == 1_000
    assert sim.status.state == "Pinned"
    assert sim.status.message.startswith("spec.rollback.to: 2.0.0 is the revision on trial")
    assert next(c.status for c in sim.status.conditions if c.type == "Stalled") == "True"
    sim.value["reject-rate"] = "0.9"
    sim.run(3 * SECOND)
    assert sim.share("v1") == 10_000


def test_a_silent_router_is_timed_out_for_a_revert_of_a_candidate() -> None:
    sim = on_canary()
    sim.run(3 * SECOND)
    sim.routers[1].reachable = False
    sim.value["reject-rate"] = "0.9"
    sim.run(3 * SECOND)
    assert sim.share("v2") == 1_000  # frozen, not granted: router-1 may still hold a right
    sim.run(10 * SECOND)
    assert sim.share("v1") == 10_000
    assert not sim.served("v2", 0)


def test_a_silent_router_withdraws_an_increase() -> None:
    sim = on_canary(hold="10s", traffic={"unit": {"header": "A"}, "haproxy": {}, "drain": "250ms", "ackTimeout": "5s"})
    sim.routers[1].reachable = False
    sim.run(30 * SECOND)
    assert sim.share("v2") == 1_000
    assert any(t.cause.kind == "Withdrawn" for t in sim.history)
    assert not any(r.next for r in sim.table.ranges)  # type: ignore[union-attr]


def test_a_silent_router_is_waited_for_after_promotion() -> None:
    sim = promoted(spec=canary("10%"), gates=(gate(),))
    sim.apply("v2")
    sim.run(6 * SECOND)
    sim.until("Promoted")
    sim.routers[1].reachable = False
    sim.requests = [annotation("Rollback", "now")]
    sim.run(30 * MINUTE, every=10 * SECOND)
    assert sim.share("v2") == 10_000
    assert sim.status.state == "WaitingForConsumer"
    assert "router-1" in sim.status.message


def test_a_lost_assignment_freezes_everything_towards_the_last_good() -> None:
    sim = on_canary()
    sim.table = None
    sim.now += SECOND
    sim.step()
    assert sim.table is not None
    assert {r.next for r in sim.table.ranges} == {REVISIONS["v1"]}
    sim.run(5 * SECOND)
    assert sim.share("v1") == 10_000
    sim.run(10 * MINUTE, every=10 * SECOND)
    assert sim.share("v2") == 0


def test_steps_edited_under_a_rollout_keep_the_position_and_the_hold() -> None:
    sim = on_canary("10%", "50%")
    held = sim.table.record.attempt.held_from  # type: ignore[union-attr]
    sim.raw = sim.raw | {"method": canary("5%", "8%", "20%")["method"]}
    sim.run(10 * SECOND)
    assert sim.share("v2") == 1_000
    assert sim.table.record.attempt.held_from == held  # type: ignore[union-attr]
    while sim.share("v2") == 1_000:
        sim.run(SECOND)
    assert sim.share("v2") == 2_000


def test_a_settled_rollout_is_silent() -> None:
    sim = promoted(gates=(gate(),))
    writes, said = len(sim.history), len(sim.notices)
    sim.run(10 * MINUTE, every=10 * SECOND)
    assert (len(sim.history), len(sim.notices)) == (writes, said)


def test_an_annotation_that_is_not_seen_is_forgotten_only_after_a_while() -> None:
    """A leader whose watch is a moment behind must not act on it once more when it comes."""
    sim = on_canary()
    asked = annotation("Rollback", "fills diverge")
    sim.requests = [asked]
    sim.until("RolledBack")
    sim.requests = []
    sim.run(5 * SECOND)
    assert sim.table is not None
    assert sim.table.record.handled == {asked.key: asked.value}
    sim.run(20 * SECOND)
    assert sim.table.record.handled == {}
