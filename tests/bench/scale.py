"""A thousand rollouts, or more: what holding costs, how long restarts take, and a breach of all at once."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench import burst
from tests.bench.crowd import Crowd
from tests.bench.figures import Report
from tests.bench.footprint import cpu_seconds, memory, tell
from tests.cluster.processes import until

_INTERVAL = 10
_GATE, _SCRAPE, _QUIET, _SECONDS = f"{_INTERVAL}s", "5s", 30, 90
_RESTARTS = 5
_CPU, _MEMORY, _RESTART = 25.0, 400.0, 5.0
DEFAULT = 1_000


async def run(folder: Path, size: int = DEFAULT) -> Report:
    """Fill, hold, restart five times, revert."""
    about = f"{size} rollouts at 10 %, two routers each, one shared gate at {_GATE}"
    report = Report(f"scale-{size}", about)
    began_at = time.monotonic()
    async with Crowd(folder, size, routers=2, gate=_GATE, scrape=_SCRAPE).holding() as crowd:
        filled = time.monotonic() - began_at
        await asyncio.sleep(_QUIET)
        began = await crowd.footprint()
        await asyncio.sleep(_SECONDS)
        spent = await began.spent()
        crowd.say(f"holding: {spent.core:.1f} % of a core, {spent.resident:.0f} MiB")
        restarts = [await _restart(crowd) for _ in range(_RESTARTS)]
        looked = await _looked(crowd, restarts[-1].began)
        crowd.say(f"restart: every rollout looked at after {looked:.1f} s")
        await asyncio.sleep(_QUIET)
        restarted = memory(crowd.operator.pid)
        reverted = await burst.breach(crowd)
    tell(report, spent)
    report.cost("set-up", f"{filled:.0f} s")
    report.cost("operator memory after a restart", f"{restarted[0]:.0f} MiB resident, {restarted[1]:.0f} MiB at most")
    ready = statistics.median(restart.ready for restart in restarts)
    report.measured("restart: process started -> everything read and watched", [r.ready for r in restarts])
    report.cost("restart: operator CPU until then", ", ".join(f"{r.cpu:.1f}" for r in restarts) + " s")
    report.cost("restart: process started -> every rollout looked at", f"{looked:.2f} s")
    burst.distributions(report, [reverted])
    answered = min(reverted.waits)
    report.measured("answer at the operator -> each candidate stopped", [at - answered for at in reverted.stops])
    rate = spent.queries / spent.seconds
    report.figures = {
        "rollouts": size,
        "cpuPercent": round(spent.core, 1),
        "residentMiB": round(spent.resident),
        "peakMiB": round(spent.peak),
        "requestsPerSecond": round(sum(spent.requests.values()) / spent.seconds, 1),
        "queriesPerSecond": round(rate, 3),
        "restartSeconds": round(ready, 2),
        "revertFirstSeconds": round(min(reverted.stops) - answered, 2),
        "revertMedianSeconds": round(sorted(reverted.stops)[size // 2] - answered, 2),
        "revertLastSeconds": round(max(reverted.stops) - answered, 2),
        "setUpSeconds": round(filled),
    }
    if size <= DEFAULT:
        report.target(f"CPU under {_CPU:g} % of a core: {spent.core:.1f} %", spent.core < _CPU)
        report.target(f"resident memory under {_MEMORY:g} MiB: {spent.resident:.0f} MiB", spent.resident < _MEMORY)
        report.target(f"restart to full watch under {_RESTART:g} s: {ready:.2f} s in the median", ready < _RESTART)
    report.target(f"one query a template and interval: {rate:.3f} a second", abs(rate - 1 / _INTERVAL) < 0.02)
    return report


@dataclass
class _Restart:
    """Of the process; `began` is by the monotonic clock, the rest in seconds."""

    began: float
    ready: float
    cpu: float


async def _restart(crowd: Crowd) -> _Restart:
    """From the start of the process until it is ready: everything is read, and every kind is watched."""
    operator = crowd.operator
    await asyncio.sleep(_QUIET)
    await operator.stop()
    began = time.monotonic()
    await operator.start()
    ready = time.monotonic() - began
    cpu = cpu_seconds(operator.pid)
    crowd.say(f"restart: ready after {ready:.1f} s")
    return _Restart(began, ready, cpu)


async def _looked(crowd: Crowd, began: float) -> float:
    """Seconds from then until the operator has looked at every rollout once."""
    operator = crowd.operator

    async def looked() -> bool:
        waiting = await operator.metric("strategyrollout_queue_depth") + await operator.metric(
            "strategyrollout_queue_busy"
        )
        return not waiting and await operator.metric("strategyrollout_passes_total") >= len(crowd.names)

    await until("every rollout was looked at", looked, 120, every=0.1)
    return time.monotonic() - began
