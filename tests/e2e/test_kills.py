"""Whatever carries a rollout is killed in the middle of it: the operator, a router, the kubelet, the whole node."""

from __future__ import annotations

import asyncio

import pytest

from tests.cluster.processes import ClusterError
from tests.cluster.providers import Faults
from tests.e2e.desk import Desk

pytestmark = pytest.mark.cluster


async def test_the_leading_operator_is_killed_and_a_rollback_asked_for_at_that_moment_is_done_by_the_other(
    desk: Desk, faults: Faults
) -> None:
    stable = await desk.stable()
    await desk.candidate()
    faults.kill(await desk.site.product.leader())
    await desk.roll_back()
    await desk.record.until("it is taken back", desk.taken_back, 30)
    await desk.everyone_is_served_by(stable)
    await desk.site.product.ready()


async def test_a_killed_router_comes_back_with_the_table_and_the_rollout_goes_on(desk: Desk, faults: Faults) -> None:
    desk.may_lose_orders = True  # those it was passing on
    await desk.stable()
    candidate = await desk.candidate()
    router = (await desk.routers())[0]
    faults.kill(router, "proxy")
    faults.kill(router, "agent")

    async def counted() -> bool:
        found = {pod["metadata"]["name"]: pod for pod in await desk.routers()}
        states = found[router["metadata"]["name"]]["status"]["containerStatuses"]
        return all(state["restartCount"] > 0 for state in states)

    await desk.eventually_so("both containers were started again", counted, 30)
    await desk.routers_ready()
    await desk.ask("resume")
    await desk.record.until("it holds at 60 %", lambda: desk.holds_at("60%"), 60)
    await desk.promoted("2.0.0")
    await desk.everyone_is_served_by(candidate)


async def test_a_killed_kubelet_delays_nothing_that_runs_and_a_rollback_needs_none(desk: Desk, faults: Faults) -> None:
    stable = await desk.stable()
    await desk.candidate()
    await faults.kill_kubelet()
    try:
        await desk.roll_back()
        await desk.record.until("it is taken back", desk.taken_back, 30)
        await desk.everyone_is_served_by(stable)
    finally:
        faults.start_kubelet()
    await desk.site.product.ready()


async def test_a_node_that_is_taken_for_lost_moves_no_traffic_and_comes_back_as_it_was(
    desk: Desk, faults: Faults
) -> None:
    await desk.stable()
    candidate = await desk.candidate()
    before = desk.record.share(candidate)
    await desk.sender.stop()  # routers are told that no pod is ready
    await faults.kill_kubelet()
    try:
        await desk.eventually_so("the node is not ready", lambda: _node_is(desk, "Unknown"), 60)
        await asyncio.sleep(5)
        assert desk.record.share(candidate) == before
    finally:
        faults.start_kubelet()
    await desk.eventually_so("the node is ready", lambda: _node_is(desk, "True"), 60)
    await desk.site.product.ready()
    await desk.routers_ready()
    assert desk.record.share(candidate) == before
    await desk.promoted("2.0.0")
    await desk.everyone_is_served_by(candidate)


async def _node_is(desk: Desk, status: str) -> bool:
    code, listed = await desk.cluster.request("GET", "/api/v1/nodes")
    if code != 200:
        raise ClusterError(f"nodes cannot be listed: {listed.get('message')}")
    conditions = [c for node in listed["items"] for c in node["status"]["conditions"] if c["type"] == "Ready"]
    return all(condition["status"] == status for condition in conditions)


async def test_the_api_server_is_restarted_in_mid_rollout_and_nothing_moves_wrongly(desk: Desk, faults: Faults) -> None:
    stable = await desk.stable()
    candidate = await desk.candidate()
    await faults.restart_apiserver(down_for=1.0)
    await desk.site.product.ready()
    await desk.roll_back()
    await desk.record.until("it is taken back", desk.taken_back, 60)
    assert desk.moves(candidate, up=True) == 1
    await desk.everyone_is_served_by(stable)
