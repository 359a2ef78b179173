"""What a benchmark says: distributions with named ends, costs beside them, targets, and all of it once more as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Distribution:
    """One duration, measured many times. All values in seconds."""

    name: str
    """`start -> end`."""
    n: int
    least: float
    median: float
    p90: float
    p99: float
    most: float

    @classmethod
    def of(cls, name: str, seconds: Sequence[float]) -> Distribution:
        """Nearest-rank percentiles: every figure printed was measured."""
        if not seconds:
            return cls(name, 0, *[math.nan] * 5)
        ordered = sorted(seconds)

        def rank(share: float) -> float:
            return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

        return cls(name, len(ordered), ordered[0], statistics.median(ordered), rank(0.9), rank(0.99), ordered[-1])


@dataclass
class Report:
    """The figures of one benchmark."""

    name: str
    about: str
    distributions: list[Distribution] = field(default_factory=list)
    costs: list[tuple[str, str]] = field(default_factory=list)
    targets: list[tuple[str, bool]] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    """What a plot is made of."""

    def measured(self, name: str, seconds: Sequence[float]) -> Distribution:
        """Adds a distribution and keeps its samples for the JSON."""
        made = Distribution.of(name, seconds)
        self.distributions.append(made)
        self.samples[name] = [round(value, 5) for value in seconds]
        return made

    def cost(self, name: str, value: str) -> None:
        """Adds a line beside the distributions."""
        self.costs.append((name, value))

    def target(self, words: str, met: bool) -> None:
        """Adds the judgement of one target."""
        self.targets.append((words, met))

    def __str__(self) -> str:
        lines = [f"== {self.name}: {self.about}", ""]
        if self.distributions:
            width = max(len(d.name) for d in self.distributions)
            lines.append(f"{'milliseconds':<{width}} {'n':>5}" + "".join(f"{w:>9}" for w in _COLUMNS))
            lines += [
                f"{d.name:<{width}} {d.n:>5}" + "".join(f"{_ms(v):>9}" for v in _values(d)) for d in self.distributions
            ]
            lines.append("")
        if self.costs:
            width = max(len(name) for name, _ in self.costs)
            lines += [f"{name:<{width}}  {value}" for name, value in self.costs]
            lines.append("")
        lines += [f"{'met   ' if met else 'MISSED'} {words}" for words, met in self.targets]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> Path:
        """Writes `NAME.json` with every sample."""
        body: dict[str, Any] = asdict(self) | {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        body["machine"] = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
        body["load"] = os.getloadavg()
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(body, indent=1))
        return path


_COLUMNS = ("min", "median", "p90", "p99", "max")


def _values(d: Distribution) -> tuple[float, ...]:
    return d.least, d.median, d.p90, d.p99, d.most


def _ms(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{seconds * 1000:.1f}"
