"""Events as people find them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from strategyrollout.cluster.access import Access
from strategyrollout.cluster.client import Api
from strategyrollout.cluster.events import BURST, REPEATS_WITHIN, Events
from strategyrollout.core.build import Owner
from strategyrollout.core.decision import Notice
from tests.cluster.cluster import Cluster
from tests.hands.conftest import World

REVERTED = Notice("Reverted", "reject-rate 0.081 > 0.05 at 10%, serving 2.3.1", warning=True)
PROMOTED = Notice("Promoted", "2.4.0 has 100 %")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def running(events: Events) -> AsyncIterator[None]:
    task = asyncio.create_task(events.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def listed(world: World) -> list[dict[str, Any]]:
    path = f"/apis/events.k8s.io/v1/namespaces/{world.namespace}/events"
    items = (await world.api.list(path))["items"]
    return [item for item in items if item["reportingController"] == "strategyrollout.io/operator"]


@pytest.mark.cluster
async def test_a_notice_is_an_event_of_the_rollout(world: World, cluster: Cluster) -> None:
    owner, events = await world.make(), Events(world.api, instance="operator-0")
    async with running(events):
        events.say(owner, REVERTED)
        events.say(owner, PROMOTED)
        await events.flush()
    found = {item["reason"]: item for item in await listed(world)}
    assert (found["Reverted"]["type"], found["Promoted"]["type"]) == ("Warning", "Normal")
    assert found["Reverted"]["regarding"]["uid"] == owner.uid
    said = await cluster.kubectl("events", "--for", "strategyrollout/momentum", "-n", world.namespace)
    assert REVERTED.message in said
    assert not events.dropped


@pytest.mark.cluster
async def test_the_same_words_become_one_event_with_a_count_until_they_are_news_again(world: World) -> None:
    clock = Clock()
    owner, events = await world.make(), Events(world.api, clock=clock)
    async with running(events):
        for _ in range(3):
            events.say(owner, REVERTED)
        await events.flush()
        (one,) = await listed(world)
        assert one["series"]["count"] == 3
        clock.now += REPEATS_WITHIN + 1
        events.say(owner, REVERTED)
        await events.flush()
    assert len(await listed(world)) == 2


@pytest.mark.cluster
async def test_a_rollout_that_flaps_does_not_silence_others(world: World) -> None:
    clock = Clock()
    noisy, quiet, events = await world.make("noisy"), await world.make("quiet"), Events(world.api, clock=clock)
    async with running(events):
        for number in range(BURST + 5):
            events.say(noisy, Notice("Reverted", f"number {number}"))
        events.say(quiet, PROMOTED)
        await events.flush()
        assert events.dropped == {"rate": 5}
        clock.now += 60
        events.say(noisy, Notice("Reverted", "later"))
        await events.flush()
    names = [item["regarding"]["name"] for item in await listed(world)]
    assert (names.count("noisy"), names.count("quiet")) == (BURST + 1, 1)


@pytest.mark.cluster
async def test_a_message_too_long_is_cut_and_not_lost(world: World) -> None:
    owner, events = await world.make(), Events(world.api)
    async with running(events):
        events.say(owner, Notice("Reverted", "x" * 5_000))
        await events.flush()
    (one,) = await listed(world)
    assert len(one["note"]) == 1024


async def test_an_api_server_that_is_away_costs_the_event_and_nothing_else() -> None:
    async with Api(Access("http://127.0.0.1:1")) as api:
        events = Events(api)
        for number in range(3_000):
            events.say(Owner("a", f"r{number}", f"u{number}"), REVERTED)
        assert events.dropped == {"full": 1_000}
        async with running(events):
            await asyncio.wait_for(events.flush(), 30)
        assert events.dropped == {"full": 1_000, "failed": 2_000}
