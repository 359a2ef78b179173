"""The operator killed at any moment, and left without news: cases 40 and 41."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conformance.between import Between, When, Write
from tests.conformance.conftest import Floor
from tests.conformance.desk import Desk
from tests.conformance.manifests import Object, steps
from tests.operator_process import Operator
from tests.router.image import add_router_image

pytestmark = pytest.mark.cluster

HOLD_MS = 1_500
SPEC: Object = {"method": steps(("10%", f"{HOLD_MS}ms"), ("50%", f"{HOLD_MS}ms")), "bake": {"duration": "1s"}}
Choice = Callable[[Write, When], bool]


class Victim:
    """An operator behind a proxy, which ends it by SIGKILL whenever `choose` says so, and starts it again."""

    def __init__(self, operator: Operator, between: Between) -> None:
        self.operator = operator
        self.between = between
        self.kills = 0
        self.choose: Choice = lambda _write, _when: False
        self.dead = asyncio.Event()
        between.at_write = self._at_write

    async def _at_write(self, write: Write, when: When) -> bool:
        if self.dead.is_set():
            return True  # asked in the last moment of the one that is dead
        if not self.choose(write, when):
            return False
        self.dead.set()
        self.kills += 1
        await self.operator.kill()
        return True

    async def keep_alive(self) -> None:
        """Starts it again after every death, until cancelled."""
        while True:
            await self.dead.wait()
            await self.operator.start(ready=False)
            self.dead.clear()


@pytest_asyncio.fixture
async def victim(floor: Floor, namespace: str, tmp_path: Path) -> AsyncIterator[Victim]:
    async with Between(floor.cluster).running() as between:
        kubeconfig = between.kubeconfig(tmp_path)
        image, url = add_router_image(floor.cluster.images), floor.cluster.prometheus_url
        operator = Operator(
            floor.cluster, tmp_path, kubeconfig, namespaces=namespace, prometheus=url, router_image=image
        )
        async with operator.running():
            yield Victim(operator, between)


@pytest_asyncio.fixture
async def desk(floor: Floor, namespace: str) -> AsyncIterator[Desk]:
    async with Desk(floor.cluster, floor.api, namespace, "momentum").recorded() as desk:
        yield desk


class EveryWrite:
    """Kills before and after each write of the table, and once after each other write.

    What every life begins with (objects that nobody watches are applied again) must not be the end of each.
    """

    def __init__(self) -> None:
        self._spared = False
        self._done: set[str] = set()

    def __call__(self, write: Write, when: When) -> bool:
        if write.of_assignment:
            self._spared = when == "before" and not self._spared
            return self._spared or when == "after"
        name = f"{write.path} {json.dumps(write.body)}"
        if when == "before" or name in self._done:
            return False
        self._done.add(name)
        return True


async def _with_deaths(victim: Victim, choose: Choice, work: Callable[[], object]) -> None:
    victim.choose = choose
    reviving = asyncio.create_task(victim.keep_alive())
    try:
        await work()  # type: ignore[misc]
    finally:
        victim.choose = lambda _write, _when: False
        await asyncio.sleep(0.1)
        reviving.cancel()
        await asyncio.gather(reviving, return_exceptions=True)
        if victim.operator._process is None:
            await victim.operator.start()


def _holds_are_kept(desk: Desk) -> None:
    """Every step of the last attempt was held to its end before anything moved on."""
    for weight in (1_000, 5_000):
        held = next(t.record.attempt for t in desk.tables if t.record.attempt and t.record.attempt.weight == weight)
        assert held.held_from is not None
        left = next(t for t in desk.tables if t.epoch > held.held_from and any(r.next for r in t.ranges))
        assert left.cause.at - held.held_from >= HOLD_MS


async def test_case_40_killed_at_every_write_a_rollout_ends_as_if_nothing_had_been(victim: Victim, desk: Desk) -> None:
    await desk.promoted("1.0.0", **SPEC)

    async def roll() -> None:
        await desk.apply("2.0.0", **SPEC)
        await desk.reaches("Promoted", version="2.0.0", seconds=240)

    await _with_deaths(victim, EveryWrite(), roll)
    assert victim.kills >= 20
    assert desk.weights("2.0.0") == [0, 1_000, 5_000, 10_000]
    assert len(desk.attempts("2.0.0")) == 1
    _holds_are_kept(desk)
    await desk.serve("2.0.0")


async def test_case_40_killed_at_every_write_a_revert_ends_as_if_nothing_had_been(victim: Victim, desk: Desk) -> None:
    await desk.promoted("1.0.0", **SPEC)
    await desk.apply("2.0.0", method=steps(("10%", "1h")))
    await desk.reaches("Holding", weight="10%")
    await desk.judged("Pass")

    async def revert() -> None:
        await desk.signal("2.0.0", "rejects", "0.9")
        await desk.reaches("Reverted", seconds=120)

    await _with_deaths(victim, EveryWrite(), revert)
    assert victim.kills >= 4
    assert desk.weights("2.0.0") == [0, 1_000, 0]
    assert len(desk.attempts("2.0.0")) == 1
    await desk.serve("1.0.0")


async def test_case_40_killed_after_the_first_write_of_a_revert_the_candidate_stays_at_zero(
    victim: Victim, desk: Desk
) -> None:
    await desk.promoted("1.0.0", **SPEC)
    await desk.apply("2.0.0", method=steps(("10%", "1h")))
    await desk.reaches("Holding", weight="10%")
    await desk.judged("Pass")
    victim.choose = lambda write, when: (
        when == "after" and write.of_assignment and "revert" in write.body["spec"]["record"]
    )
    await desk.signal("2.0.0", "rejects", "0.9")
    await asyncio.wait_for(victim.dead.wait(), 20)
    victim.choose = lambda _write, _when: False
    await desk.until("it is frozen", lambda: any(r.next for r in desk.table.ranges))
    await desk.signal("2.0.0", "rejects", "0")
    await asyncio.sleep(1)
    victim.dead.clear()
    await victim.operator.start()
    await desk.reaches("Reverted")
    await desk.stays(3, "it stays at zero", lambda: desk.weight("2.0.0") == 0 and desk.table.record.attempt is None)
    assert desk.weight("1.0.0") == 10_000
    await desk.serve("1.0.0")


async def test_case_41_lost_watch_events_are_made_up_for_within_seconds(victim: Victim, desk: Desk) -> None:
    await desk.promoted("1.0.0", **SPEC)
    victim.between.silent = True
    await desk.apply("2.0.0", method=steps(("10%", "1h")))
    await desk.reaches("Holding", weight="10%", seconds=20)
    await desk.rollback("unheard")
    await desk.until("it is back", lambda: desk.weight("1.0.0") == 10_000, 15)
    await desk.reaches("RolledBack")
    await desk.api.delete(desk.path())
    metric = "strategyrollout_rollouts"

    async def forgotten() -> bool:
        return await victim.operator.metric(metric) == 0

    await desk.until_async("the deletion is noticed", forgotten, 10)
