"""The same measurement of both providers in one table, from what `--out` has kept of each, in one run or in two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.bench.footprint import ELSE, WAITED

_REPORTS = {"one": "process", "one-node": "real node"}
_COLUMNS = {"median": "median", "p90": "p90", "p99": "p99", "most": "max"}
_COSTS = ("operator CPU", "operator memory", ELSE, WAITED)
_WIDTH = 10

Report = dict[str, Any]


def table(folder: Path) -> str:
    """Ready to print; empty while one of the two has not been measured into that folder."""
    files = [folder / f"{name}.json" for name in _REPORTS]
    if not all(file.exists() for file in files):
        return ""
    reports = [json.loads(file.read_text()) for file in files]
    measured = [{d["name"]: d for d in report["distributions"]} for report in reports]
    rows = {name: [of[name] for of in measured] for name in measured[0] if name in measured[1]}
    width = max(map(len, rows))
    block = len(_COLUMNS) * _WIDTH
    heads = (f"{word}, n {_count(report)}" for word, report in zip(_REPORTS.values(), reports, strict=True))
    lines = [
        f"== {' beside '.join(_REPORTS)}",
        "",
        f"{'':<{width}}" + "".join(f"{head:>{block}}" for head in heads),
        f"{'milliseconds':<{width}}" + "".join(f"{word:>{_WIDTH}}" for word in (*_COLUMNS.values(),) * len(reports)),
    ]
    for name, distributions in rows.items():
        figures = (d[column] for d in distributions for column in _COLUMNS)
        lines.append(f"{name:<{width}}" + "".join(f"{figure * 1000:>{_WIDTH}.1f}" for figure in figures))
    lines.append("")
    for report, word in zip(reports, _REPORTS.values(), strict=True):
        costs = "; ".join(f"{name}: {value}" for name, value in _costs(report).items())
        lines.append(f"{word}, {report['at']}: {costs}")
    return "\n".join(lines) + "\n"


def _count(report: Report) -> int:
    return min(int(distribution["n"]) for distribution in report["distributions"])


def _costs(report: Report) -> dict[str, str]:
    told = {name.partition(": ")[2] or name: value for name, value in report["costs"]}
    return {name: told[name] for name in _COSTS if name in told}
