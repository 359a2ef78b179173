"""The other ways a release goes: all at once after a look, and back again after 100 %."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.e2e.desk import Desk

pytestmark = pytest.mark.cluster

BLUE_GREEN = {"type": "BlueGreen", "blueGreen": {"preview": {"duration": "1s"}, "promote": "Automatic"}}


async def test_blue_green_moves_everyone_in_one_step(desk: Desk) -> None:
    stable = await desk.stable(method=BLUE_GREEN)
    await desk.apply("2.0.0", method=BLUE_GREEN)
    await desk.record.until("2.0.0 is promoted", lambda: desk.state("Promoted", "2.0.0"), 60)
    green = str(desk.record.status["stable"])
    assert green != stable
    assert desk.moves(green, up=True) == 1
    await desk.everyone_is_served_by(green)


async def test_a_rollback_from_the_bake_goes_back_to_warm_pods(desk: Desk) -> None:
    desk.times = replace(desk.times, steps=("30%",), bake="1h")
    stable = await desk.stable()
    warm = {pod["metadata"]["uid"] for pod in await desk.pods(stable)}
    candidate = await desk.candidate("2.0.0")
    await desk.ask("resume")
    await desk.record.until("it bakes", lambda: desk.holds_at("100%"), 60)
    await desk.everyone_is_served_by(candidate)
    rollback = await desk.roll_back()
    await desk.record.until("it is taken back", desk.taken_back, 60)
    await desk.everyone_is_served_by(stable)
    assert {pod["metadata"]["uid"] for pod in await desk.pods(stable)} == warm

    async def told() -> bool:
        return await desk.outcome(rollback) == "Succeeded"

    await desk.eventually_so("the Rollback says so", told, 15)
