"""Forty rollouts breach one after another: what one revert takes when the operator has other rollouts to mind."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from tests.bench.crowd import Crowd
from tests.bench.figures import Report
from tests.bench.footprint import tell

# Scrapes at another pace than queries, so that the wait for the next query is any part of the interval.
_SIZE, _GATE_MS, _SCRAPE = 40, 250, "230ms"
_TARGET = 0.3


async def run(folder: Path) -> Report:
    """Each waits for the one before to be over, and then for a random part of the gate's interval."""
    report = Report("sequence", f"{_SIZE} rollouts at 10 % breach one after another, one shared gate at {_GATE_MS} ms")
    async with Crowd(folder, _SIZE, routers=2, gate=f"{_GATE_MS}ms", scrape=_SCRAPE).holding() as crowd:
        subjects = await crowd.subjects()
        began = await crowd.footprint()
        readable = {}
        for name in crowd.names:
            await asyncio.sleep(random.uniform(0, _GATE_MS / 1000))
            readable[name] = await crowd.signals.breach(subjects[name])
            await _served(crowd, name)
        spent = await began.spent()
        stopped = await crowd.stopped(crowd.names)
        records = await crowd.assignments()
    total = report.measured(
        "readable in Prometheus -> last router acked the Freeze",
        [stopped[name] - readable[name] for name in crowd.names],
    )
    reverts = {name: records[name]["record"]["revert"] for name in crowd.names}
    report.measured(
        "  of it: wait for the next query and its answer",
        [reverts[n]["cause"]["sampledAt"] / 1000 - readable[n] for n in crowd.names],
    )
    report.measured(
        "  of it: answer readable at the operator -> last ack",
        [stopped[n] - reverts[n]["cause"]["sampledAt"] / 1000 for n in crowd.names],
    )
    report.measured(
        "readable in Prometheus -> target granted", [reverts[n]["servedAt"] / 1000 - readable[n] for n in crowd.names]
    )
    tell(report, spent)
    report.target(f"median under {_TARGET:g} s, the wait included: {total.median:.3f} s", total.median < _TARGET)
    return report


async def _served(crowd: Crowd, name: tuple[str, str]) -> None:
    deadline = time.monotonic() + 30
    while name not in await crowd.stopped([name]):
        if time.monotonic() > deadline:
            raise AssertionError(f"{name} was not stopped within 30 s\n{crowd.operator.last_words()}")
        await asyncio.sleep(0.1)
    await crowd.reverted([name], 30)
