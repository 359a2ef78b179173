"""Moves of ranges through a real proxy under load, and the end of a router."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections import defaultdict
from pathlib import Path

import pytest

from strategyrollout.core.routing import bucket_of
from tests.router.fake_api import FakeApi
from tests.router.router import (
    CANDIDATE,
    SALT,
    STABLE,
    Order,
    Router,
    Strategy,
    assignment,
    span,
    until,
)

DRAIN = 0.5
ALL_STABLE = (span(0, 9999, STABLE),)
FROZEN = (span(0, 4999, STABLE, to=CANDIDATE), span(5000, 9999, STABLE))
GRANTED = (span(0, 4999, CANDIDATE, token=3, leased=True), span(5000, 9999, STABLE))
MOVING = [str(n) for n in range(300) if bucket_of(SALT, str(n)) < 5000]
STAYING = [str(n) for n in range(300) if bucket_of(SALT, str(n)) >= 5000]


async def long_watched(router: Router, api: FakeApi) -> None:
    """In-flight zero needs a proxy that was looked at for a drain, and no request broken off in it."""
    api.put_assignment(assignment(1, *ALL_STABLE))
    await router.acked(1)
    await asyncio.sleep(DRAIN + 1.1)


async def test_in_flight_zero_is_acknowledged_as_soon_as_it_is_true(router: Router, api: FakeApi) -> None:
    await long_watched(router, api)
    slow = asyncio.create_task(router.send(MOVING[0], query="for=0.3"))
    await asyncio.sleep(0.05)
    api.put_assignment(assignment(2, *FROZEN))
    await router.acked(2)
    assert router.lease["in-flight-zero"] == "false"
    await until(lambda: router.lease["in-flight-zero"] == "true", "in-flight zero")
    assert (await asyncio.wait_for(slow, 0.05)).status == 200
    # Idle, it is said with the acknowledgement itself.
    api.put_assignment(assignment(3, *GRANTED))
    await router.acked(3)
    assert router.lease["in-flight-zero"] == "false"
    api.put_assignment(assignment(4, span(0, 4999, CANDIDATE, to=STABLE), span(5000, 9999, STABLE)))
    await router.acked(4)
    assert (4, True) in {(epoch, empty) for _, epoch, empty in api.acks}
    assert (4, False) not in {(epoch, empty) for _, epoch, empty in api.acks}


async def test_a_request_that_was_cut_may_go_on_at_the_strategy_so_zero_is_not_said(
    router: Router, api: FakeApi
) -> None:
    await long_watched(router, api)
    assert (await router.send(MOVING[0], query="for=0.7")).status == 504
    api.put_assignment(assignment(2, *FROZEN))
    await router.acked(2)
    began = time.monotonic()
    await until(lambda: router.lease["in-flight-zero"] == "true", "in-flight zero")
    assert time.monotonic() - began >= DRAIN - 0.1


async def test_an_answer_that_never_ends_is_cut_a_drain_after_the_freeze(
    router: Router, api: FakeApi, stable: Strategy
) -> None:
    api.put_assignment(assignment(1, *ALL_STABLE))
    await router.acked(1)
    endless = asyncio.create_task(router.send(MOVING[0], query="drip"))
    await asyncio.sleep(DRAIN + 0.3)
    assert not endless.done(), "it never fell silent for as long as the proxy's own limit"
    api.put_assignment(assignment(2, *FROZEN))
    await router.acked(2)
    acked = time.monotonic()
    assert (await endless).status == 0
    await until(lambda: stable.orders[0].ended < float("inf"), "the end at the strategy")
    assert time.monotonic() - acked >= DRAIN - 0.1, "what was let in has its drain"
    await until(lambda: "cut 1 requests" in router.said, "the router says what it cut")


async def test_a_request_on_a_connection_kept_from_before_the_freeze_is_not_cut(router: Router, api: FakeApi) -> None:
    api.put_assignment(assignment(1, *ALL_STABLE))
    await router.acked(1)
    assert (await router.send(STAYING[0])).status == 200
    await asyncio.sleep(0.1)
    api.put_assignment(assignment(2, *FROZEN))
    await router.acked(2)
    await asyncio.sleep(DRAIN - 0.2)
    assert (await router.send(STAYING[0], query="for=0.4")).status == 200
    assert "cut " not in router.said


async def load(router: Router, until_set: asyncio.Event, replies: list[tuple[str, int]], unit: str) -> None:
    while not until_set.is_set():
        reply = await router.send(unit, query="for=0.03", data=b"{}")
        replies.append((unit, reply.status))


def overlaps(orders: list[Order]) -> list[tuple[Order, Order]]:
    """Pairs of orders of one unit that two revisions worked on at once."""
    of_unit = defaultdict(list)
    for order in orders:
        of_unit[order.unit].append(order)
    pairs = []
    for mine in of_unit.values():
        mine.sort(key=lambda order: order.began)
        pairs += [(a, b) for a, b in itertools.pairwise(mine) if a.revision != b.revision and b.began < a.ended]
    return pairs


async def test_twenty_moves_under_load_lose_no_order_and_never_serve_a_unit_twice(
    router: Router, api: FakeApi, stable: Strategy, candidate: Strategy
) -> None:
    drain = 0.3  # ten times an order, so that a busy machine is not taken for one that lasts too long
    api.put_assignment(assignment(1, *ALL_STABLE, drain="300ms"))
    await router.acked(1)
    stop, replies = asyncio.Event(), list[tuple[str, int]]()
    clients = [asyncio.create_task(load(router, stop, replies, unit)) for unit in (*MOVING[:12], *STAYING[:12])]
    sides = itertools.cycle([(STABLE, CANDIDATE), (CANDIDATE, STABLE)])
    for epoch in range(2, 42, 2):
        was, to = next(sides)
        api.put_assignment(
            assignment(epoch, span(0, 4999, was, to=to, token=epoch), span(5000, 9999, STABLE), drain="300ms")
        )
        await router.acked(epoch)
        await asyncio.sleep(drain)
        api.put_assignment(
            assignment(epoch + 1, span(0, 4999, to, token=epoch + 1), span(5000, 9999, STABLE), drain="300ms")
        )
        await router.acked(epoch + 1)
        await asyncio.sleep(0.08)
    stop.set()
    await asyncio.gather(*clients)
    orders = stable.orders + candidate.orders
    assert len(candidate.orders) > 100
    assert {status for _, status in replies} == {200, 423}
    assert {status for unit, status in replies if unit in STAYING} == {200}
    assert len(orders) == sum(status == 200 for _, status in replies), "every order sent on was answered"
    assert overlaps(orders) == []


async def test_a_router_that_ends_refuses_finishes_closes_its_lease_and_only_then_is_gone(
    router: Router, api: FakeApi
) -> None:
    api.put_assignment(assignment(1, *ALL_STABLE))
    await router.acked(1)
    slow = asyncio.create_task(router.send(query="for=0.4"))
    await asyncio.sleep(0.1)
    assert router.agent
    assert router.proxy
    for process in (router.proxy, router.agent):
        process.send_signal(signal.SIGTERM)
    await router.says("refusing everything")
    await asyncio.sleep(0.02)
    refused = await router.send()
    assert (refused.status, refused.headers.get("Connection")) == (503, "close")
    assert router.lease["consumer"] == "Open"
    assert (await slow).status == 200
    assert await asyncio.wait_for(router.agent.wait(), 2) == 0
    assert router.lease["consumer"] == "Closed"
    assert await asyncio.wait_for(router.proxy.wait(), 2) == 0


async def test_a_router_told_to_end_before_it_ever_served_ends_at_once(
    api: FakeApi, tmp_path: Path, stable: Strategy
) -> None:
    router = Router(tmp_path, api)
    await router.start()
    await until(lambda: router.lease.get("consumer") == "Open", "an open lease")
    assert router.agent
    router.signal_agent(signal.SIGTERM)
    assert await asyncio.wait_for(router.agent.wait(), 3) == 0
    assert router.lease["consumer"] == "Closed"
    await router.stop()


async def test_a_proxy_that_cannot_live_is_given_up(api: FakeApi, tmp_path: Path, stable: Strategy) -> None:
    router = Router(tmp_path, api)
    (tmp_path / "haproxy.cfg").write_text("frontend broken\n    bind nowhere\n")
    await router.start_proxy()
    assert router.proxy
    assert await asyncio.wait_for(router.proxy.wait(), 3) == 1
    await router.stop()


@pytest.mark.parametrize("missing", ["ROLLOUT", "POD_UID", "PORT_NAME"])
async def test_a_missing_setting_is_named(api: FakeApi, tmp_path: Path, missing: str) -> None:
    router = Router(tmp_path, api, without=missing)
    await router.start_agent()
    assert router.agent
    assert await asyncio.wait_for(router.agent.wait(), 5) == 1
    assert router.said == f"environment variable {missing} is not set; the routers' StatefulSet sets it\n"
