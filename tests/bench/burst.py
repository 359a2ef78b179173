"""Many rollouts breach at the same instant: how long until the last candidate is stopped."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.bench.crowd import Crowd
from tests.bench.figures import Report
from tests.bench.footprint import tell

_GATE, _SCRAPE = "250ms", "230ms"  # not the same, so that each round meets another phase
_ROUNDS = {100: 3, 500: 2}
_TARGETS = {100: 1.5, 500: 6.0}


async def run(folder: Path, size: int) -> Report:
    """The same rollouts breach, are reverted, are tried again and breach again."""
    report = Report(f"burst-{size}", f"{size} rollouts at 10 % breach at the same instant, one shared gate at {_GATE}")
    lasts: list[float] = []
    stops: list[float] = []
    waits: list[float] = []
    freezes: list[float] = []
    serves: list[float] = []
    silent = 0
    async with Crowd(folder, size, routers=2, gate=_GATE, scrape=_SCRAPE).holding() as crowd:
        for number in range(_ROUNDS.get(size, 2)):
            if number:
                await crowd.again(crowd.names, f"round-{number}")
            subjects = await crowd.subjects()
            await asyncio.sleep(5)
            await crowd.forget_acks()
            began = await crowd.footprint()
            readable = await crowd.signals.breach(*(subjects[name] for name in crowd.names))
            await _settle(crowd)
            spent = await began.spent()
            acked = await crowd.stopped(crowd.names)
            records = await crowd.reverted(crowd.names, 60)
            # Of a router that was silent for a lease the operator's own word counts: it was timed out.
            stopped = {n: acked.get(n) or records[n]["record"]["revert"]["stoppedAt"] / 1000 for n in crowd.names}
            silent += len(crowd.names) - len(acked)
            reverts = [records[name]["record"]["revert"] for name in crowd.names]
            lasts.append(max(stopped.values()) - readable)
            stops += [at - readable for at in stopped.values()]
            waits += [revert["cause"]["sampledAt"] / 1000 - readable for revert in reverts]
            freezes += [revert["cause"]["at"] / 1000 - readable for revert in reverts]
            serves += [revert["servedAt"] / 1000 - readable for revert in reverts]
            crowd.say(f"round {number + 1}: the last of {size} was stopped after {lasts[-1]:.2f} s")
    report.measured("readable in Prometheus -> last candidate stopped", lasts)
    report.measured("readable in Prometheus -> each candidate stopped", stops)
    report.measured("  of it: wait for the query and its answer", waits)
    report.measured("  readable in Prometheus -> revert decided", freezes)
    report.measured("readable in Prometheus -> target granted", serves)
    report.cost("stopped by time-out of a silent router", f"{silent} of {len(stops)}")
    tell(report, spent)
    target, worst = _TARGETS.get(size), max(lasts)
    if target is not None:
        report.target(
            f"the last one within {target:g} s, in each of {len(lasts)} rounds: {worst:.2f} s", worst < target
        )
    return report


async def _settle(crowd: Crowd) -> None:
    """Waits until all were stopped; looks seldom, because looking costs."""
    deadline = time.monotonic() + 30
    while len(await crowd.stopped(crowd.names)) < len(crowd.names):
        if time.monotonic() > deadline:
            await crowd.reverted(crowd.names, 150)
            return
        await asyncio.sleep(0.5)
