"""What the operator costs while something goes on: CPU time, memory, requests. And who else used the processors."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.bench.figures import Report

_TICK = os.sysconf("SC_CLK_TCK")
_MIB = 1024.0
ELSE = "everything else"
"""What the machine was busy with that has nothing to do with the bench."""
WAITED = "someone waited for a disk"
"""Of all processes of the machine."""


class Measured(Protocol):
    """An operator, wherever it runs."""

    @property
    def pid(self) -> int:
        """As this process sees it."""

    async def page(self, path: str) -> tuple[int, str]:
        """Status and text of one of its pages."""


@dataclass(frozen=True)
class Spent:
    """Between two moments. `cpu` in seconds, memory in MiB."""

    seconds: float
    cpu: float
    resident: float
    peak: float
    requests: dict[tuple[str, str], int] = field(default_factory=dict)
    """(verb, resource) -> requests to the API server."""
    queries: float = 0.0
    others: dict[str, float] = field(default_factory=dict)
    """CPU seconds of the programs beside the operator, of all pods together, and of everything else on the machine."""
    disk: float = math.nan
    """Seconds in which something on the machine waited for a disk; the operator and routers write to one."""

    @property
    def core(self) -> float:
        """Share of one core, in percent."""
        return 100 * self.cpu / self.seconds


class Footprint:
    """Begin with `await Footprint.of(operator)`; `await spent()` says what was spent since."""

    def __init__(
        self, operator: Measured, folders: Sequence[Path], requests: Counter[tuple[str, str]], queries: float
    ) -> None:
        self._operator = operator
        self._requests, self._queries = requests, queries
        self._pids = {name: pid for folder in folders for name, pid in _programs(folder)} | {"the bench": os.getpid()}
        self._others, self._pods = self._cpu_of_others(), self._cpu_of_pods()
        self._disk = _waited_for_disk()
        self._cpu, self._at = cpu_seconds(operator.pid), time.monotonic()

    @classmethod
    async def of(cls, operator: Measured, *folders: Path) -> Footprint:
        """Begins now. `folders` are those in which programs keep their pid files."""
        return cls(operator, folders, *await _counters(operator))

    async def spent(self) -> Spent:
        """Since the beginning."""
        cpu, at = cpu_seconds(self._operator.pid), time.monotonic()
        resident, peak = memory(self._operator.pid)
        requests, queries = await _counters(self._operator)
        made = {key: count - self._requests[key] for key, count in requests.items() if count != self._requests[key]}
        others = {name: seconds - self._others[name] for name, seconds in self._cpu_of_others().items()}
        pods = self._cpu_of_pods()
        others["pods"] = sum(seconds - self._pods.get(pid, 0.0) for pid, seconds in pods.items())
        others[ELSE] -= cpu - self._cpu + sum(others.values()) - others[ELSE]
        disk = _waited_for_disk() - self._disk
        return Spent(at - self._at, cpu - self._cpu, resident, peak, made, queries - self._queries, others, disk)

    def _cpu_of_others(self) -> dict[str, float]:
        return {**{name: cpu_seconds(pid) for name, pid in self._pids.items()}, ELSE: busy_seconds()}

    def _cpu_of_pods(self) -> dict[int, float]:
        """By process: whatever has no name here and still runs in this namespace, where nobody else is."""
        named = {self._operator.pid, *self._pids.values()}
        found = {}
        for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
            if pid not in named:
                with contextlib.suppress(OSError):
                    found[pid] = cpu_seconds(pid)
        return found


def tell(report: Report, spent: Spent, *, requests: bool = True) -> None:
    """Adds the lines about the operator to a report."""
    report.cost("operator CPU", f"{spent.cpu:.2f} s in {spent.seconds:.1f} s = {spent.core:.1f} % of a core")
    for name, seconds in sorted(spent.others.items(), key=lambda item: -item[1]):
        if name == ELSE or seconds >= 0.01 * spent.seconds:
            report.cost(f"  beside it: {name}", f"{seconds:.2f} s = {100 * seconds / spent.seconds:.0f} % of a core")
    if not math.isnan(spent.disk):
        report.cost(WAITED, f"{spent.disk:.2f} s = {100 * spent.disk / spent.seconds:.0f} % of the time")
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


def busy_seconds() -> float:
    """What all processors of the machine have worked since it started, for whomever."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, _first_line("/proc/stat")[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICK


def _waited_for_disk() -> float:
    """Since the machine started; not a number where its kernel does not count."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/pressure/io").read_text().splitlines():
            if line.startswith("some"):
                return int(line.rpartition("total=")[2]) / 1e6
    return math.nan


def _first_line(path: str) -> list[str]:
    with Path(path).open() as file:
        return file.readline().split()


def _programs(folder: Path) -> list[tuple[str, int]]:
    return [(path.name, int(path.read_text())) for path in (folder / "pids").iterdir() if path.suffix != ".tmp"]


def memory(pid: int) -> tuple[float, float]:
    """Resident memory now and at its highest, in MiB."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(lines["VmRSS"].split()[0]) / _MIB, int(lines["VmHWM"].split()[0]) / _MIB


async def _counters(operator: Measured) -> tuple[Counter[tuple[str, str]], float]:
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
