"""What gates do when they fail, and what happens when they cannot tell: cases 9 to 16."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from strategyrollout.api.scalars import parse_duration
from tests.cluster.cluster import Cluster
from tests.conformance.conftest import MakeDesk, side_by_side
from tests.conformance.desk import Desk, now
from tests.conformance.manifests import Object, gate, steps
from tests.conformance.sources import Door, Mode

pytestmark = pytest.mark.cluster

HELD_MS = 8_000
HELD_AT_TEN = steps(("10%", f"{HELD_MS}ms"), ("50%", "500ms"))  # long enough to be judged before it is told to go wrong
LONG_AT_TEN = steps(("10%", "1h"))


@pytest_asyncio.fixture
async def door(cluster: Cluster) -> AsyncIterator[Door]:
    async with Door(cluster.prometheus_url).listening() as door:
        yield door


async def test_case_09_a_breach_reverts_at_once_and_says_metric_value_and_threshold(desk: Desk) -> None:
    await desk.promoted("1.0.0")
    await desk.apply("2.0.0", method=LONG_AT_TEN)
    await desk.reaches("Holding", weight="10%")
    await desk.serve("1.0.0", "2.0.0")
    await desk.judged("Pass")
    await desk.signal("2.0.0", "rejects", "0.9")
    status = await desk.reaches("Reverted")
    first = next(t for t in desk.tables if t.record.revert is not None)
    cause = first.cause
    assert (cause.kind, cause.gate, cause.value, cause.limit) == ("GateBreached", "rejects", "0.9", "> 0.5")
    assert cause.sampled_at is not None
    assert 0 <= cause.at - cause.sampled_at < 500
    assert desk.weight("2.0.0", first) == 0
    assert all(r.next == desk.hashes["1.0.0"] for r in first.ranges if r.owner == desk.hashes["2.0.0"])
    assert status["message"] == "Reverted: rejects 0.9 > 0.5 at 10%, serving 1.0.0"
    assert (desk.condition("Stalled"), desk.condition("Available")) == ("True", "True")
    await desk.serve("1.0.0")


async def test_case_10_tolerated_failures_do_nothing_and_one_more_reverts(desk: Desk) -> None:
    tolerant = gate(interval="1s", failures={"breaches": 3, "of": 3})
    await desk.promoted("1.0.0", gates=[tolerant])
    await desk.apply("2.0.0", gates=[tolerant], method=LONG_AT_TEN)
    await desk.reaches("Holding", weight="10%")
    await desk.judged("Pass")
    await desk.signal("2.0.0", "rejects", "0.9")
    await desk.judged("Inconclusive")
    await desk.signal("2.0.0", "rejects", "0")
    await desk.judged("Pass")
    assert desk.weight("2.0.0") == 1_000
    began = now()
    await desk.signal("2.0.0", "rejects", "0.9")
    await desk.reaches("Reverted")
    assert desk.table.record.revert is not None
    assert (desk.table.record.revert.cause.sampled_at or 0) - began >= 2_000


async def test_case_11_a_revert_does_not_wait_for_another_gate_that_hangs(desk: Desk, door: Door) -> None:
    gates = [gate(), gate("slow", signal="rejects", address=door.address)]
    await desk.promoted("1.0.0", gates=gates)
    await desk.apply("2.0.0", gates=gates, method=LONG_AT_TEN)
    await desk.reaches("Holding", weight="10%")
    await desk.judged("Pass")
    door.set("hang")
    await asyncio.sleep(1)
    await desk.signal("2.0.0", "rejects", "0.9")
    began = now()
    await desk.reaches("Reverted", seconds=5)
    frozen = next(t for t in desk.tables if t.record.revert is not None)
    assert frozen.cause.gate == "rejects"
    assert frozen.cause.at - began < 1_500


async def test_case_12_an_observing_gate_is_recorded_and_never_acts(desk: Desk) -> None:
    gates = [gate(), gate("costs", severity="Observe")]
    await desk.promoted("1.0.0", gates=gates, env={"SIGNALS": "rejects=0,costs=0"})
    await desk.promoted("2.0.0", gates=gates, env={"SIGNALS": "rejects=0,costs=9"})
    seen = [g for _, status in desk.statuses for g in status.get("gates", []) if g["name"] == "costs"]
    assert ("Breach", "9") in {(g["verdict"], g.get("value")) for g in seen}
    assert not any(t.record.revert for t in desk.tables)


async def test_case_13_an_empty_answer_has_the_declared_consequence_and_is_shown(desks: MakeDesk) -> None:
    await side_by_side(desks, {action: action for action in ("Hold", "Revert", "Continue")}, _empty)


async def _empty(desk: Desk, action: str) -> None:
    # A revert must not come before Prometheus has found the new pod, which takes it up to five seconds.
    gates = [gate(noData={"action": action, "after": "9s" if action == "Revert" else "2s"})]
    await desk.promoted("1.0.0", gates=gates)
    await desk.apply("2.0.0", gates=gates, method=LONG_AT_TEN if action == "Revert" else HELD_AT_TEN)
    await desk.reaches("Holding", weight="10%")
    await desk.judged("Pass")
    await desk.signal("2.0.0", "rejects", "absent")
    await desk.judged("NoData")
    if action == "Hold":
        await desk.reaches("AwaitingGates")
        assert "rejects NoData" in desk.status["message"]
        await desk.stays(3, "it stays at 10 %", lambda: desk.weight("2.0.0") == 1_000)
        await desk.signal("2.0.0", "rejects", "0")
        await desk.reaches("Promoted", version="2.0.0")
    elif action == "Revert":
        await desk.reaches("Reverted", seconds=20)
        assert desk.table.cause.kind == "NoData"
    else:
        await desk.reaches("Promoted", version="2.0.0", seconds=40)


async def test_case_14_what_is_no_number_is_no_data(desks: MakeDesk) -> None:
    await side_by_side(desks, {value: value for value in ("NaN", "+Inf", "-Inf")}, _no_number)


async def _no_number(desk: Desk, value: str) -> None:
    await desk.promoted("1.0.0")
    await desk.apply("2.0.0", method=HELD_AT_TEN)
    await desk.reaches("Holding", weight="10%")
    await desk.judged("Pass")
    await desk.signal("2.0.0", "rejects", value)
    await desk.judged("NoData")
    assert "not a finite number" in desk.gate()["message"]
    await desk.stays(2, "it neither advances nor reverts", lambda: desk.weight("2.0.0") == 1_000)
    await desk.reaches("AwaitingGates")
    await desk.stays(1, "it neither advances nor reverts", lambda: desk.weight("2.0.0") == 1_000)


async def test_case_15_a_stale_sample_is_no_data(desk: Desk) -> None:
    gates = [gate(maxAge="1s")]
    await desk.promoted("1.0.0", gates=gates)
    await desk.apply("2.0.0", gates=gates, method=HELD_AT_TEN)
    await desk.reaches("Holding", weight="10%")
    await desk.judged("Pass")
    await desk.command("2.0.0", "/stamp")
    await desk.judged("NoData")
    await desk.reaches("AwaitingGates")
    await desk.stays(2, "it stays at 10 %", lambda: desk.weight("2.0.0") == 1_000)


BLIND: dict[str, tuple[Mode, str]] = {
    "Hold": ("hang", "1s"),
    "Revert": ("refuse", "2s"),
    "Continue": ("hang", "3s"),
}


async def test_case_16_the_policy_for_being_blind_applies_on_time(desks: MakeDesk, cluster: Cluster) -> None:
    async def blind(desk: Desk, action: str) -> None:
        async with Door(cluster.prometheus_url).listening() as door:
            await _blind(desk, door, action)

    await side_by_side(desks, {action: action for action in BLIND}, blind)


async def _blind(desk: Desk, door: Door, action: str) -> None:
    fault, after = BLIND[action]
    spec: Object = {"gates": [gate(address=door.address)], "onBlind": {"action": action, "after": after}}
    await desk.promoted("1.0.0", **spec)
    await desk.apply("2.0.0", method=HELD_AT_TEN, **spec)
    await desk.reaches("Holding", weight="10%")
    await desk.judged("Pass")
    door.set(fault)
    began, due = now(), parse_duration(after)
    if action == "Hold":
        await desk.reaches("Blind", seconds=6)
        assert (desk.condition("Blind"), desk.condition("Ready")) == ("True", "True")
        await desk.stays(3, "it stays at 10 %", lambda: desk.weight("2.0.0") == 1_000)
        door.set("open")
        await desk.reaches("Promoted", version="2.0.0")
        assert desk.condition("Blind") == "False"
        return
    if action == "Revert":
        await desk.reaches("Reverted", seconds=10)
        decided = next(t.cause.at for t in desk.tables if t.record.revert)
    else:
        attempt = desk.table.record.attempt
        assert attempt is not None
        assert attempt.held_from is not None
        due = max(due, attempt.held_from + HELD_MS - began)  # blind or not, the hold comes first
        await desk.until("it goes on", lambda: desk.weight("2.0.0") == 5_000, 15)
        decided = next(t.cause.at for t in desk.tables if any(r.next for r in t.ranges) and t.cause.at > began)
    # A question hangs for a second before it counts as unanswered; the count begins when it was asked.
    assert due - 500 <= decided - began < due + 2_500


async def test_case_16_no_step_advances_while_prometheus_hangs(desks: MakeDesk, cluster: Cluster) -> None:
    desk = await desks()
    await desk.promoted("1.0.0")
    await desk.apply("2.0.0", method=HELD_AT_TEN)
    await desk.reaches("Holding", weight="10%")
    await desk.judged("Pass")
    cluster.freeze_prometheus()
    try:
        await desk.stays(10, "it stays at 10 %", lambda: desk.weight("2.0.0") == 1_000)
        await desk.rollback("blind")
        await desk.until("a rollback needs no Prometheus", lambda: desk.weight("1.0.0") == 10_000, 5)
    finally:
        cluster.thaw_prometheus()
