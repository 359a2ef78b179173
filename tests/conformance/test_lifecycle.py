"""Starting, holding, waiting for pods and for people: cases 1 to 8."""

from __future__ import annotations

import pytest

from tests.conformance.conftest import MakeDesk
from tests.conformance.desk import Desk
from tests.conformance.manifests import steps

pytestmark = pytest.mark.cluster

HELD = steps(("10%", ""), ("50%", ""))


@pytest.mark.parametrize(("initial", "shares"), [("Direct", [0, 10_000]), ("Gated", [0, 1_000, 5_000, 10_000])])
async def test_case_01_a_new_object_becomes_healthy_in_the_mode_it_asks_for(
    desk: Desk, initial: str, shares: list[int]
) -> None:
    await desk.promoted("1.0.0", initial=initial)
    assert desk.weights("1.0.0") == shares
    assert (desk.condition("Ready"), desk.condition("Promoted"), desk.condition("Available")) == ("True",) * 3
    await desk.serve("1.0.0")


async def test_case_02_one_rollout_starts_and_the_old_version_keeps_everything_until_a_step_moves_it(
    desk: Desk,
) -> None:
    await desk.promoted("1.0.0")
    await desk.apply("2.0.0", env={"READY": "0"}, method=HELD)
    await desk.reaches("Starting")
    await desk.stays(1, "v1 keeps everything", lambda: desk.weight("1.0.0") == 10_000)
    await desk.command("2.0.0", "/ready?1")
    await desk.reaches("AwaitingResume", weight="10%")
    assert (desk.weight("1.0.0"), desk.weight("2.0.0")) == (9_000, 1_000)
    assert len(desk.attempts("2.0.0")) == 1
    await desk.serve("1.0.0", "2.0.0")


async def test_case_03_a_step_waits_for_pods_at_the_share_before(desk: Desk) -> None:
    await desk.promoted("1.0.0")
    await desk.apply("2.0.0", gates=[], method=steps(("10%", "2s"), ("50%", "1s")))
    await desk.reaches("Holding", weight="10%")
    await desk.unready("2.0.0")
    await desk.stays(4, "it stays at 10 %", lambda: desk.weight("2.0.0") == 1_000)
    await desk.command("2.0.0", "/ready?1")
    await desk.reaches("Promoted", version="2.0.0")


async def test_case_04_a_hold_that_is_over_ends_within_a_second(desk: Desk) -> None:
    await desk.promoted("1.0.0", gates=[])
    await desk.promoted("2.0.0", gates=[], method=steps(("10%", "2s"), ("50%", "1s")))
    for hold, weight in ((2_000, 1_000), (1_000, 5_000)):
        held = next(t.record.attempt for t in desk.tables if t.record.attempt and t.record.attempt.weight == weight)
        assert held.held_from is not None
        left = next(t for t in desk.tables if t.epoch > held.held_from and any(r.next for r in t.ranges))
        assert hold <= left.cause.at - held.held_from < hold + 1_000


async def test_case_05_one_resume_ends_one_hold(desk: Desk) -> None:
    await desk.promoted("1.0.0")
    await desk.apply("2.0.0", method=HELD)
    await desk.reaches("AwaitingResume", weight="10%")
    await desk.annotate("resume", "first")
    await desk.reaches("AwaitingResume", weight="50%")
    await desk.stays(2, "it waits again", lambda: desk.weight("2.0.0") == 5_000)
    assert desk.condition("Ready") == "True"
    await desk.annotate("resume", "second")
    await desk.reaches("Promoted", version="2.0.0")


async def test_case_06_a_hold_is_no_lack_of_progress(desk: Desk) -> None:
    await desk.promoted("1.0.0")
    await desk.apply("2.0.0", method=steps(("10%", "4s")))
    await desk.reaches("Holding", weight="10%")
    before = len(desk.statuses)
    await desk.apply("2.0.0", method=steps(("10%", "4s")), progressDeadline="1s")
    await desk.reaches("Promoted", version="2.0.0")
    assert "ProgressDeadlineExceeded" not in {status.get("state") for _, status in desk.statuses[before:]}


async def test_case_07_late_pods_are_degraded_and_recover(desk: Desk) -> None:
    await desk.promoted("1.0.0")
    await desk.apply("2.0.0", env={"READY": "0"}, progressDeadline="2s", method=HELD)
    status = await desk.reaches("ProgressDeadlineExceeded")
    assert "0/1 pods ready" in status["message"]
    assert (desk.condition("Stalled"), desk.condition("Available")) == ("True", "True")
    await desk.command("2.0.0", "/ready?1")
    await desk.reaches("AwaitingResume", weight="10%")
    assert desk.condition("Stalled") == "False"


async def test_case_08_a_deadline_reverts_only_where_it_was_asked_to(desks: MakeDesk) -> None:
    for policy, state in (("Revert", "Reverted"), ("Report", "ProgressDeadlineExceeded")):
        desk = await desks(policy.lower())
        await desk.promoted("1.0.0")
        await desk.apply("2.0.0", env={"READY": "0"}, progressDeadline="2s", onDeadline=policy)
        await desk.reaches(state)
        await desk.stays(1, state, lambda desk=desk, state=state: desk.status["state"] == state)  # type: ignore[misc]
        assert len(desk.attempts("2.0.0")) == 1
        assert desk.weight("1.0.0") == 10_000


async def test_a_rollout_deleted_and_applied_again_at_once_begins_anew(desk: Desk) -> None:
    await desk.promoted("1.0.0", gates=[])
    await desk.api.delete(desk.path())
    await desk.until("it is gone", lambda: not desk.exists)
    desk.statuses.clear()
    await desk.apply("1.0.0", gates=[])
    await desk.reaches("Promoted", version="1.0.0", seconds=60)
