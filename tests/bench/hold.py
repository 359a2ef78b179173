"""Five hundred rollouts hold at 10 % and nothing happens: what the operator costs while it only watches."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.bench.crowd import Crowd
from tests.bench.figures import Report
from tests.bench.footprint import tell

_SIZE, _GATE, _SCRAPE, _QUIET, _SECONDS = 500, "10s", "5s", 45, 125
_CPU, _MEMORY, _QUERIES = 15.0, 250.0, 0.1


async def run(folder: Path) -> Report:
    """Two minutes, after the world has come to rest."""
    report = Report("hold", f"{_SIZE} rollouts hold at 10 %, two routers each, one shared gate at {_GATE}")
    async with Crowd(folder, _SIZE, routers=2, gate=_GATE, scrape=_SCRAPE).holding() as crowd:
        await asyncio.sleep(_QUIET)
        began = await crowd.footprint()
        await asyncio.sleep(_SECONDS)
        spent = await began.spent()
    tell(report, spent)
    rate = spent.queries / spent.seconds
    report.target(f"CPU under {_CPU:g} % of a core: {spent.core:.1f} %", spent.core < _CPU)
    report.target(f"resident memory under {_MEMORY:g} MiB: {spent.resident:.0f} MiB", spent.resident < _MEMORY)
    report.target(f"the same while {_SIZE} rollouts were made: {spent.peak:.0f} MiB", spent.peak < _MEMORY)
    report.target(f"{_QUERIES:g} Prometheus queries a second: {rate:.2f}", abs(rate - _QUERIES) < 0.02)
    return report
