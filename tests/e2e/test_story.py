"""The story that everything is for: a good version is let in step by step, a bad one is thrown out."""

from __future__ import annotations

import pytest

from tests.e2e.desk import Desk
from tests.e2e.gates import REJECTS

pytestmark = pytest.mark.cluster


async def test_a_good_version_goes_to_100_percent_and_a_bad_one_is_taken_back(desk: Desk) -> None:
    first = await desk.stable("1.0.0", gates=[REJECTS])
    await desk.everyone_is_served_by(first)

    good = await desk.candidate("1.1.0")
    await desk.ask("resume")
    await desk.record.until("1.1.0 holds at 60 %", lambda: desk.holds_at("60%"), 60)
    await desk.ask("resume")
    await desk.record.until("1.1.0 is promoted", lambda: desk.state("Promoted", "1.1.0"), 60)
    assert desk.moves(good, up=True) == 3
    await desk.everyone_is_served_by(good)

    bad = await desk.candidate("1.2.0", gates=[REJECTS])
    await desk.misbehave(bad, "rejects")
    await desk.record.until("1.2.0 is taken back", desk.taken_back, 60)
    revert = desk.record.table.record.revert
    assert revert is not None
    assert (revert.cause.kind, revert.cause.gate) == ("GateBreached", "rejects")
    await desk.record.until("it says so", lambda: desk.state("Reverted", "1.1.0"), 30)
    assert "rejects" in desk.message
    await desk.everyone_is_served_by(good)
