"""A router that a network rule cuts off from the API server while a revert is asked for."""

from __future__ import annotations

import pytest

from tests.cluster.providers import Faults
from tests.e2e.desk import Desk

pytestmark = pytest.mark.cluster


async def test_a_revert_waits_for_a_router_that_is_cut_off_no_longer_than_it_may_serve_alone(
    desk: Desk, faults: Faults
) -> None:
    stable = await desk.stable()
    await desk.candidate()
    lost = (await desk.routers())[-1]
    await faults.cut_off(lost)
    try:
        await desk.roll_back()
        await desk.record.until("it is taken back", desk.taken_back, 30)
        revert = desk.record.table.record.revert
        assert revert is not None
        assert revert.stopped_at is not None
        asked = next(table.epoch for table in desk.record.tables if table.record.revert is not None)
        assert revert.stopped_at - asked >= 4_000 * 1.01 + 500  # its lease, and what the operator adds
        name = lost["metadata"]["name"]
        assert any(name in message for _, _, message in desk.record.said), desk.record.said
    finally:
        await faults.heal(lost)
    await desk.routers_ready()
    await desk.everyone_is_served_by(stable)
