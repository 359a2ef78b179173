"""Thousands of orders a second while traffic goes back and forth: nothing is lost, nobody is served twice."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.traffic.desk import ACCOUNTS, Desk, Times, desk_of
from tests.traffic.load import Answer, Shape, running

pytestmark = pytest.mark.cluster

ROUNDS = 20
DRAIN, SLOWEST = 500, 250
# A table is known to the watch before the last router enforces the next one, by this much at most (ms).
LATE = 1_000


async def test_twenty_moves_each_way_under_load_lose_nothing_and_serve_nobody_twice(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    times = Times(routers=2, steps=("10%", "50%"), drain=f"{DRAIN}ms", lease="10s", ack_timeout="10s")
    async with desk_of(cluster, namespace, tmp_path, times, tolerance=DRAIN) as desk:
        stable = await desk.stable()
        routers = await desk.routers_ready()
        shape = Shape(connections=16, pause=0.0, slow_share=0.02, slow_most=SLOWEST)
        async with running(tmp_path, routers, ACCOUNTS, shape) as load:
            candidate = await desk.candidate()
            began = time.monotonic()
            for number in range(ROUNDS):
                await desk.roll_back()
                await desk.record.until("it is taken back", desk.taken_back)
                assert desk.record.share(stable) == 10_000
                if number < ROUNDS - 1:
                    await desk.ask("retry")
                    await desk.record.until("it holds again", lambda: desk.holds_at("10%"))
                    if number % 2:
                        await desk.ask("resume")
                        await desk.record.until("it holds at half", lambda: desk.holds_at("50%"))
            took = time.monotonic() - began
            answers = await load.stop()
        judged = desk.judge()
        assert judged > 5_000
        assert desk.moves(candidate, up=True) >= ROUNDS
        assert desk.moves(candidate, up=False) == ROUNDS
        _judge(desk, answers)
        seconds = (answers[-1].answered_at - answers[0].sent_at) / 1000
        statuses = Counter(answer.status for answer in answers)
        print(f"{len(answers)} POST, {len(answers) / seconds:.0f}/s, {dict(statuses)}, {judged} judged, {took:.1f} s")


def _judge(desk: Desk, answers: list[Answer]) -> None:
    lost = [answer for answer in answers if answer.lost]
    assert not lost, lost[:5]
    assert {answer.status for answer in answers} <= {200, 423}
    assert any(answer.answered_at - answer.sent_at > SLOWEST * 0.8 for answer in answers)
    refused = [answer for answer in answers if answer.status == 423]
    wrong = [a for a in refused if not desk.record.moving(a.account, a.sent_at - LATE, a.answered_at)]
    assert refused
    assert not wrong, wrong[:5]
