"""`python -m tests.bench.plot [FOLDER...]`: draws docs/bench/scale.svg from docs/bench/scale.json.

The figures of `scale-N.json` in each FOLDER (what `--out` named) are taken into the JSON first, one entry a size. Drawn
by hand, because three lines of a few points are less work than a library that every test run would have to install.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

_HOME = Path(__file__).parents[2] / "docs" / "bench"
_PANELS = (
    ("CPU while holding, % of a core", (("cpuPercent", "operator"),), 25.0),
    ("Resident memory, MiB", (("residentMiB", "holding"), ("peakMiB", "at most")), 400.0),
    ("All revert at once, s to the last candidate stopped", (("revertLastSeconds", "last"),
     ("revertMedianSeconds", "median")), None),
)  # fmt: skip
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 270, 180, 45, 40, 60
_COLOURS = ("#1f6feb", "#8957e5")

Figures = list[dict[str, float]]


def collect(folders: list[Path], home: Path = _HOME) -> Figures:
    """What was known and what the folders have; the latest of each size."""
    file = home / "scale.json"
    known = {entry["rollouts"]: entry for entry in json.loads(file.read_text())} if file.exists() else {}
    for path in (path for folder in folders for path in sorted(folder.glob("scale-*.json"))):
        report = json.loads(path.read_text())
        if report["figures"]:
            known[report["figures"]["rollouts"]] = {**report["figures"], "at": report["at"], "load": report["load"]}
    figures = [known[size] for size in sorted(known)]
    file.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def svg(figures: Figures) -> str:
    """Three panels side by side over the number of rollouts."""
    width = len(_PANELS) * (_WIDTH + _GAP) + _LEFT
    parts = [_panel(n, *panel, figures) for n, panel in enumerate(_PANELS)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT + 2 * _TOP}" font-size="11"'
    return "\n".join([f'{head} font-family="sans-serif">', '<rect width="100%" height="100%" fill="#fff"/>', *parts,
                      "</svg>", ""])  # fmt: skip


def _panel(number: int, title: str, series: tuple[tuple[str, str], ...], target: float | None, figures: Figures) -> str:
    left = _LEFT + number * (_WIDTH + _GAP)
    most_x = max(f["rollouts"] for f in figures) * 1.05
    most_y = max([target or 0.0, *(f[key] for f in figures for key, _ in series)]) * 1.15

    def at(x: float, y: float) -> tuple[float, float]:
        return round(left + _WIDTH * x / most_x, 1), round(_TOP + _HEIGHT * (1 - y / most_y), 1)

    (x0, y0), (x1, y1) = at(0, 0), at(most_x, most_y)
    lines = [f'<text x="{x0}" y="{_TOP - 14}" font-weight="bold">{title}</text>']
    lines.append(f'<path d="M{x0} {y1}V{y0}H{x1}" fill="none" stroke="#57606a"/>')
    for x in (f["rollouts"] for f in figures):
        lines.append(f'<text x="{at(x, 0)[0]}" y="{y0 + 15}" text-anchor="middle">{x:g}</text>')
    for y in (most_y / 3, 2 * most_y / 3, most_y):
        lines.append(f'<text x="{x0 - 5}" y="{at(0, y)[1] + 4}" text-anchor="end">{y:.3g}</text>')
    if target is not None:
        y = at(0, target)[1]
        lines.append(f'<path d="M{x0} {y}H{x1}" stroke="#cf222e" stroke-dasharray="4"/>')
        lines.append(f'<text x="{x1}" y="{y - 4}" text-anchor="end" fill="#cf222e">{target:g} at 1000</text>')
    for (key, name), colour in zip(series, _COLOURS, strict=False):
        points = [at(f["rollouts"], f[key]) for f in figures]
        line = " ".join(f"{x},{y}" for x, y in points)
        lines.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in points]
        x, y = points[-1]
        lines.append(f'<text x="{x - 6}" y="{y - 7}" text-anchor="end" fill="{colour}">{name}</text>')
    return "\n".join(lines)


if __name__ == "__main__":
    _HOME.mkdir(exist_ok=True)
    (_HOME / "scale.svg").write_text(svg(collect([Path(name) for name in sys.argv[1:]])))
