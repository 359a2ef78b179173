"""Durations as people write them (GEP-2257), in whole milliseconds.

Apart from the other scalars because routers need it too: without the models' library a router is 8 MiB smaller.
"""

import re
from typing import Any

DURATION_PATTERN = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
DURATION_REMEDY = "must be a duration such as 250ms, 10s, 5m or 1h30m"

_UNIT_MS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def parse_duration(value: Any) -> int:
    """`1h30m` (GEP-2257) as milliseconds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not re.match(DURATION_PATTERN, value):
        raise ValueError(DURATION_REMEDY)
    return sum(int(n) * _UNIT_MS[u] for n, u in re.findall(r"([0-9]+)(ms|h|m|s)", value))


def format_duration(ms: int) -> str:
    """Milliseconds as the shortest GEP-2257 duration."""
    if ms == 0:
        return "0s"
    parts = []
    for unit in ("h", "m", "s", "ms"):
        count, ms = divmod(ms, _UNIT_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
