"""The whole operator process on a real API server: what comes in, what it survives, how it ends."""

from __future__ import annotations

from tests.loop.conftest import Desk
from tests.operator_process import Operator


async def test_01_a_first_version_is_promoted_and_says_so(operator: Operator, desk: Desk) -> None:
    await desk.apply("momentum")
    status = await desk.reaches("momentum", "Promoted", "1.0.0")
    assert status["weight"] == "100%"
    service = await desk.get("services", "momentum-orders", "/api/v1")
    assert service is not None
    assert service["spec"]["selector"]["strategyrollout.io/revision"] == status["stable"]
