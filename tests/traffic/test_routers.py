"""Routers are killed, deleted, rolled and join while traffic moves; nobody is served by two revisions at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from strategyrollout.api.meta import ANNOTATION_ACKED, ANNOTATION_CONSUMER, CONSUMER_CLOSED
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.traffic.desk import ACCOUNTS, Desk, Times, desk_of
from tests.traffic.load import Load, Shape, running

pytestmark = pytest.mark.cluster

DRAIN = 400
SHAPE = Shape(connections=4, pause=0.01, slow_share=0.1, slow_most=DRAIN // 4)


@dataclass
class Scene:
    """Two routers under load and a candidate at 30 %."""

    desk: Desk
    stable: str
    candidate: str
    load: Load

    async def up(self) -> None:
        """The next step has begun and is not granted."""
        await self.desk.ask("resume")
        await self.desk.record.until("it is on its way up", lambda: self.desk.record.frozen)

    async def back(self) -> None:
        """The way back has begun."""
        before = self.desk.record.table.epoch
        await self.desk.roll_back()
        await self.desk.record.until("it is on its way back", lambda: self.desk.record.table.epoch > before)

    async def at_the_next_step(self) -> None:
        """The step is granted."""
        await self.desk.record.until("it holds at the next step", lambda: self.desk.holds_at("60%"), 30)

    async def taken_back(self) -> None:
        """The revert is done."""
        await self.desk.record.until("it is taken back", self.desk.taken_back, 30)
        assert self.desk.record.share(self.stable) == 10_000


@contextlib.asynccontextmanager
async def scene(cluster: Cluster, namespace: str, folder: Path) -> AsyncIterator[Scene]:
    times = Times(routers=2, lease="10s", drain=f"{DRAIN}ms", ack_timeout="30s")
    async with desk_of(cluster, namespace, folder, times, tolerance=DRAIN) as desk:
        stable = await desk.stable()
        async with running(folder, await desk.routers_ready(), ACCOUNTS, SHAPE) as load:
            candidate = await desk.candidate()
            yield Scene(desk, stable, candidate, load)


@pytest.mark.parametrize("part", ["agent", "proxy"])
async def test_a_router_whose_processes_are_killed_in_mid_move_comes_back_and_confirms(
    part: str, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with scene(cluster, namespace, tmp_path) as s:
        name = str((await s.desk.routers())[0]["metadata"]["name"])

        async def lives() -> bool:
            return cluster.node.running(namespace, name, part)

        for begin, end in ((s.up, s.at_the_next_step), (s.back, s.taken_back)):
            await until(f"{part} is there", lives, 20)
            await begin()
            cluster.node.kill(namespace, name, part)
            await end()
            await s.desk.routers_ready()
        routers = await s.desk.routers_ready()
        await asyncio.sleep(0.5)
        answers = await s.load.stop()
        s.desk.judge()
        lost = [answer for answer in answers if answer.lost]
        assert {answer.router for answer in lost} <= ({routers[0]} if part == "proxy" else set()), lost
        # At most what was under way on each connection, each of the two times.
        assert len(lost) <= 2 * SHAPE.connections
        last = max(answer.sent_at for answer in answers) - 300
        assert {(a.router, a.status) for a in answers if a.sent_at > last} == {(router, 200) for router in routers}


async def test_a_router_that_is_deleted_in_mid_move_leaves_tidily_and_loses_nothing(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with scene(cluster, namespace, tmp_path) as s:
        desk, gone = s.desk, []
        for begin, end in ((s.up, s.at_the_next_step), (s.back, s.taken_back)):
            pod = (await desk.routers())[0]
            gone.append(str(pod["metadata"]["uid"]))
            await begin()
            await cluster.kubectl("delete", "pod", pod["metadata"]["name"], "-n", namespace, "--wait=false")
            await end()
            await desk.routers_ready(2, without=gone)
        answers = await s.load.stop()
        desk.judge()
        assert not [a for a in answers if a.lost]
        leases = await desk.leases()
        assert {leases[uid]["metadata"]["annotations"][ANNOTATION_CONSUMER] for uid in gone} == {CONSUMER_CLOSED}


async def test_routers_that_are_rolled_while_traffic_goes_back_and_forth_lose_nothing(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with scene(cluster, namespace, tmp_path) as s:
        desk = s.desk
        old = [str(pod["metadata"]["uid"]) for pod in await desk.routers()]
        await cluster.kubectl("rollout", "restart", "statefulset/momentum-router", "-n", namespace)
        moves = 0
        while any(pod["metadata"]["uid"] in old for pod in await desk.routers()):
            await desk.roll_back()
            await s.taken_back()
            await desk.ask("retry")
            await desk.record.until("it holds again", lambda: desk.holds_at("30%"), 30)
            moves += 2
        await desk.routers_ready(2, without=old)
        answers = await s.load.stop()
        desk.judge()
        assert moves >= 2
        assert not [a for a in answers if a.lost]


async def test_a_router_that_joins_during_a_freeze_serves_only_what_stays_and_is_waited_for(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with scene(cluster, namespace, tmp_path) as s:
        desk, record = s.desk, s.desk.record
        known = {pod["metadata"]["uid"]: pod for pod in await desk.routers()}
        # One router does not confirm, so that the Freeze lasts as long as it takes another one to join.
        silent = str(next(iter(known.values()))["metadata"]["name"])
        cluster.node.sigstop(namespace, silent, "agent")
        await s.up()
        frozen = record.table.epoch
        await desk.apply("2.0.0", traffic=_with_routers(desk, 3))
        (address,) = await desk.routers_ready(1, without=list(known))
        async with running(tmp_path, [address], ACCOUNTS, SHAPE) as joining:
            await asyncio.sleep(1)
            assert record.table.epoch == frozen
            leases = await desk.leases()
            (joined,) = leases.keys() - known.keys()
            assert leases[joined]["metadata"]["annotations"][ANNOTATION_ACKED] == str(frozen)
            cluster.node.sigcont(namespace, silent, "agent")
            await s.at_the_next_step()
            granted = record.table.epoch
            await s.back()
            await s.taken_back()
            answers = await joining.stop()
        await s.load.stop()
        desk.judge()
        during = [a for a in answers if a.answered_at < granted]
        assert {a.status for a in during} == {200, 423}
        table = next(table for table in record.tables if table.epoch == frozen)
        for answer in during:
            bucket = record.bucket(answer.account)
            r = next(r for r in table.ranges if r.start <= bucket <= r.end)
            assert (answer.status, answer.revision) == ((423, "") if r.next else (200, r.owner))


def _with_routers(desk: Desk, count: int) -> dict[str, object]:
    return {**dict(desk.record.rollout["spec"]["traffic"]), "haproxy": {"replicas": count}}
