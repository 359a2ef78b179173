"""What a process costs while something goes on: CPU time, memory, and the requests it counts itself."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.figures import Report
from tests.operator_process import Operator

_TICK = os.sysconf("SC_CLK_TCK")
_MIB = 1024.0


@dataclass(frozen=True)
class Spent:
    """Between two moments. `cpu` in seconds, memory in MiB."""

    seconds: float
    cpu: float
    resident: float
    peak: float
    requests: dict[tuple[str, str], float] = field(default_factory=dict)
    """(verb, resource) -> requests to the API server."""
    queries: float = 0.0

    @property
    def core(self) -> float:
        """Share of one core, in percent."""
        return 100 * self.cpu / self.seconds


class Footprint:
    """Begin with `await Footprint.of(operator)`; `await spent()` says what was spent since."""

    def __init__(self, operator: Operator, requests: Counter[tuple[str, str]], queries: float) -> None:
        self._operator = operator
        self._requests, self._queries = requests, queries
        self._cpu, self._at = cpu_seconds(operator.pid), time.monotonic()

    @classmethod
    async def of(cls, operator: Operator) -> Footprint:
        """Begins now."""
        return cls(operator, *await _counters(operator))

    async def spent(self) -> Spent:
        """Since the beginning."""
        cpu, at = cpu_seconds(self._operator.pid), time.monotonic()
        resident, peak = memory(self._operator.pid)
        requests, queries = await _counters(self._operator)
        made = {key: count - self._requests[key] for key, count in requests.items() if count != self._requests[key]}
        return Spent(at - self._at, cpu - self._cpu, resident, peak, made, queries - self._queries)


def tell(report: Report, spent: Spent, *, requests: bool = True) -> None:
    """Adds the lines about the operator to a report."""
    report.cost("operator CPU", f"{spent.cpu:.2f} s in {spent.seconds:.1f} s = {spent.core:.1f} % of a core")
    report.cost("operator memory", f"{spent.resident:.0f} MiB resident, {spent.peak:.0f} MiB at most")
    report.cost("Prometheus queries", f"{spent.queries:.0f} = {spent.queries / spent.seconds:.2f}/s")
    if requests:
        total = sum(spent.requests.values())
        report.cost("API requests", f"{total:.0f} = {total / spent.seconds:.1f}/s")
        for (verb, resource), count in sorted(spent.requests.items(), key=lambda item: -item[1]):
            report.cost(f"  {verb} {resource}", f"{count:.0f} = {count / spent.seconds:.2f}/s")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory(pid: int) -> tuple[float, float]:
    """Resident memory now and at its highest, in MiB."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(lines["VmRSS"].split()[0]) / _MIB, int(lines["VmHWM"].split()[0]) / _MIB


async def _counters(operator: Operator) -> tuple[Counter[tuple[str, str]], float]:
    _, text = await operator.page("/metrics")
    requests: Counter[tuple[str, str]] = Counter()
    queries = 0.0
    for line in text.splitlines():
        name, _, rest = line.partition("{")
        labels, _, value = rest.rpartition("} ")
        if name == "strategyrollout_api_requests_total":
            found = dict(pair.split("=", 1) for pair in labels.split(","))
            requests[found["verb"].strip('"'), found["resource"].strip('"')] += int(float(value))
        elif name == "strategyrollout_queries_total":
            queries += float(value)
    return requests, queries
