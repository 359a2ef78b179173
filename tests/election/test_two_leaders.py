"""Two operators without an election at work on the same rollouts: the swap of the assignment alone keeps them apart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conformance.conftest import Floor
from tests.conformance.desk import Desk
from tests.conformance.manifests import steps
from tests.operator_process import Operator
from tests.router.image import add_router_image

pytestmark = pytest.mark.cluster


@pytest_asyncio.fixture
async def leaders(floor: Floor, namespace: str, tmp_path: Path) -> AsyncIterator[list[Operator]]:
    """Both lead, and neither knows of the other."""
    image, url = add_router_image(floor.cluster.images), floor.cluster.prometheus_url
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                Operator(
                    floor.cluster, tmp_path / str(n), namespaces=namespace, prometheus=url, router_image=image
                ).running()
            )
            for n in range(2)
        ]


def epochs(operator: Operator) -> set[int]:
    """Of the tables this one has written."""
    return {json.loads(line)["written"]["spec"]["epoch"] for line in operator.evidence.read_text().splitlines()}


async def test_two_at_once_move_nothing_wrong_and_each_table_is_written_by_one(
    floor: Floor, namespace: str, leaders: list[Operator]
) -> None:
    async with Desk(floor.cluster, floor.api, namespace, "momentum").recorded() as desk:
        await desk.promoted("1.0.0")
        # Each waits for its own answers; what one of them cannot judge yet it takes back and tries again later.
        await desk.apply("1.1.0", method=steps(("10%", "6s"), ("50%", "1s")))
        await desk.reaches("Promoted", version="1.1.0", seconds=120)
        assert desk.weights("1.1.0") == [0, 1_000, 5_000, 10_000]
        assert len(desk.attempts("1.1.0")) == 1
        await desk.apply("2.0.0", method=steps(("10%", "1h")))
        await desk.reaches("Holding", weight="10%")
        await desk.judged("Pass")
        await desk.signal("2.0.0", "rejects", "0.9")
        await desk.reaches("Reverted", seconds=40)
        assert desk.weights("2.0.0") == [0, 1_000, 0]
        await desk.rollback("enough")
        await desk.serve("1.1.0")
        await asyncio.sleep(2)
        await desk.serve("1.1.0")
        written = [epochs(leader) for leader in leaders]
        stored = {table.epoch for table in desk.tables}
    assert not written[0] & written[1]
    assert written[0] | written[1] >= stored
    lost = [await leader.metric("strategyrollout_passes_total", result="lost") for leader in leaders]
    print(f"tables by each: {[len(w) for w in written]}, swaps lost: {lost}")
    assert all(written), "one of them never came to write: this says nothing about two"
