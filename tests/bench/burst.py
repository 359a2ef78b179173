"""Many rollouts breach at the same instant: how long until the last candidate is stopped."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.crowd import Crowd
from tests.bench.figures import Report
from tests.bench.footprint import Spent, tell

_GATE, _SCRAPE = "250ms", "230ms"  # not the same, so that each round meets another phase
_ROUNDS = {100: 3, 500: 2}
_TARGETS = {100: 1.5, 500: 6.0}
_PATIENCE = 30.0


@dataclass(frozen=True)
class Round:
    """All breach once. In seconds from the breach being readable in Prometheus, by rollout."""

    stops: list[float]
    """Last router acked the Freeze, or was timed out."""
    waits: list[float]
    """The answer that decided was read."""
    decisions: list[float]
    serves: list[float]
    """The target was granted."""
    silent: int
    """Rollouts of which a router was timed out."""
    spent: Spent
    """From the breach to all being stopped."""


async def run(folder: Path, size: int) -> Report:
    """The same rollouts breach, are reverted, are tried again and breach again."""
    report = Report(f"burst-{size}", f"{size} rollouts at 10 % breach at the same instant, one shared gate at {_GATE}")
    rounds: list[Round] = []
    async with Crowd(folder, size, routers=2, gate=_GATE, scrape=_SCRAPE).holding() as crowd:
        for number in range(_ROUNDS.get(size, 2)):
            if number:
                await crowd.again(crowd.names, f"round-{number}")
            await asyncio.sleep(5)
            rounds.append(await breach(crowd))
            crowd.say(f"round {number + 1}: the last of {size} was stopped after {max(rounds[-1].stops):.2f} s")
    lasts = [max(one.stops) for one in rounds]
    report.measured("readable in Prometheus -> last candidate stopped", lasts)
    distributions(report, rounds)
    tell(report, rounds[-1].spent)
    target, worst = _TARGETS.get(size), max(lasts)
    if target is not None:
        report.target(
            f"the last one within {target:g} s, in each of {len(lasts)} rounds: {worst:.2f} s", worst < target
        )
    return report


async def breach(crowd: Crowd) -> Round:
    """All breach; returns when all are reverted."""
    subjects = await crowd.subjects()
    await crowd.forget_acks()
    began = await crowd.footprint()
    readable = await crowd.signals.breach(*(subjects[name] for name in crowd.names))
    await _settle(crowd)
    spent = await began.spent()
    acked = await crowd.stopped(crowd.names)
    records = await crowd.reverted(crowd.names, max(60.0, len(crowd.names) / 10))
    reverts = {name: records[name]["record"]["revert"] for name in crowd.names}
    # Of a router that was silent for a lease the operator's own word counts: it was timed out.
    stopped = [acked.get(name) or revert["stoppedAt"] / 1000 for name, revert in reverts.items()]
    return Round(
        stops=[at - readable for at in stopped],
        waits=[revert["cause"]["sampledAt"] / 1000 - readable for revert in reverts.values()],
        decisions=[revert["cause"]["at"] / 1000 - readable for revert in reverts.values()],
        serves=[revert["servedAt"] / 1000 - readable for revert in reverts.values()],
        silent=len(crowd.names) - len(acked),
        spent=spent,
    )


def distributions(report: Report, rounds: list[Round]) -> None:
    """The lines about every single revert."""
    report.measured("readable in Prometheus -> each candidate stopped", [s for one in rounds for s in one.stops])
    report.measured("  of it: wait for the query and its answer", [s for one in rounds for s in one.waits])
    report.measured("  readable in Prometheus -> revert decided", [s for one in rounds for s in one.decisions])
    report.measured("readable in Prometheus -> target granted", [s for one in rounds for s in one.serves])
    silent, count = sum(one.silent for one in rounds), sum(len(one.stops) for one in rounds)
    report.cost("stopped by time-out of a silent router", f"{silent} of {count}")


async def _settle(crowd: Crowd) -> None:
    """Waits until all were stopped; looks seldom, because looking costs."""
    deadline = time.monotonic() + max(_PATIENCE, len(crowd.names) / 20)
    while len(await crowd.stopped(crowd.names)) < len(crowd.names):
        if time.monotonic() > deadline:
            await crowd.reverted(crowd.names, 150)
            return
        await asyncio.sleep(0.5)
