"""The API server is away for longer than a lease: what is on trial stops, what is trusted goes on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from strategyrollout.api.assignment import AssignmentSpec
from tests.cluster.cluster import Cluster
from tests.traffic.desk import ACCOUNTS, Times, desk_of
from tests.traffic.load import Shape, running

pytestmark = pytest.mark.cluster

LEASE, DRAIN = 2_000, 300
# Of a load with pauses: between two orders of one account at one router, and for a read and a write at most (ms).
SLACK = 700


async def _away(cluster: Cluster, how: str, seconds: float) -> tuple[float, float, float]:
    """When (ms) the API server went, when it was still away for everyone, and when it was there for everyone."""
    began = time.time() * 1000
    if how == "killed":
        await cluster.stop_apiserver()
        await asyncio.sleep(seconds)
        ended = time.time() * 1000
        await cluster.start_apiserver()
    else:
        cluster.freeze_apiserver()
        await asyncio.sleep(seconds)
        ended = time.time() * 1000
        cluster.thaw_apiserver()
    return began, ended, time.time() * 1000


def _buckets_of(table: AssignmentSpec, revision: str) -> set[int]:
    return {b for r in table.ranges if r.owner == revision for b in range(r.start, r.end + 1)}


@pytest.mark.parametrize("how", ["killed", "hanging"])
async def test_an_api_server_away_for_longer_than_the_lease_stops_what_is_on_trial_alone(
    how: str, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    times = Times(routers=2, lease=f"{LEASE}ms", drain=f"{DRAIN}ms", ack_timeout="10s")
    async with desk_of(cluster, namespace, tmp_path, times, tolerance=DRAIN) as desk:
        stable = await desk.stable()
        routers = await desk.routers_ready()
        shape = Shape(connections=4, pause=0.01, slow_share=0.05, slow_most=DRAIN // 2)
        async with running(tmp_path, routers, ACCOUNTS, shape) as load:
            candidate = await desk.candidate()
            await asyncio.sleep(1)
            before = len(desk.record.tables)
            began, ended, there = await _away(cluster, how, LEASE / 1000 * 2.5)
            await asyncio.sleep(2)
            back = time.time() * 1000
            assert len(desk.record.tables) == before
            await desk.roll_back()
            await desk.record.until("it is taken back", desk.taken_back)
            answers = await load.stop()
        desk.judge()
        buckets = _buckets_of(desk.record.tables[before - 1], candidate)
        leased = {account for account in ACCOUNTS if desk.record.bucket(account) in buckets}
        away = [a for a in answers if began + LEASE + SLACK < a.sent_at and a.answered_at < ended]
        trusted = [a for a in answers if a.account not in leased]
        assert {a.status for a in away if a.account in leased} == {423}
        assert {(a.status, a.revision) for a in trusted if a.sent_at < ended} == {(200, stable)}
        assert {a.router for a in away} == set(routers)
        resumed = [a for a in answers if a.account in leased and there < a.sent_at and a.revision == candidate]
        assert {a.router for a in resumed if a.sent_at < back} == set(routers)
        assert not [a for a in answers if a.lost]
        first = min(a.sent_at for a in answers if a.status == 423 and a.sent_at > began)
        print(f"{how}: 423 from {first - began:.0f} ms on; served again {resumed[0].sent_at - there:.0f} ms after")
