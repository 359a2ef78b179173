"""The small value types of the API: written by people as strings, held by the program as exact integers and decimals.

There are no floats anywhere: a share is a whole number of basis points, a duration a whole number of milliseconds.
"""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, StringConstraints, WithJsonSchema

DURATION_PATTERN = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
PERCENT_PATTERN = r"^(100(\.0{1,2})?|[0-9]{1,2}(\.[0-9]{1,2})?)%$"
DECIMAL_PATTERN = r"^-?[0-9]{1,15}(\.[0-9]{1,9})?$"
SEMVER_PATTERN = (
    r"^(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})"
    r"(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$"
)
DIGEST_PATTERN = r"^[^@\s]+@sha256:[a-f0-9]{64}$"
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
REVISION_PATTERN = r"^[a-f0-9]{10}$"

_UNIT_MS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def parse_duration(value: Any) -> int:
    """`1h30m` (GEP-2257) as milliseconds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not re.match(DURATION_PATTERN, value):
        raise ValueError("must be a duration such as 250ms, 10s, 5m or 1h30m")
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


def parse_percent(value: Any) -> int:
    """`12.5%` as 1250 basis points."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not re.match(PERCENT_PATTERN, value):
        raise ValueError("must be a share from 0% to 100% with at most two decimals, such as 10% or 0.25%")
    return int(Decimal(value[:-1]) * 100)


def format_percent(basis_points: int) -> str:
    """1250 basis points as `12.5%`."""
    text = f"{basis_points / 100:.2f}".rstrip("0").rstrip(".")
    return f"{text}%"


def _parse_decimal(value: Any) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if not isinstance(value, str) or not re.match(DECIMAL_PATTERN, value):
        raise ValueError('must be a decimal number in quotes, such as "0.05"')
    return Decimal(value)


Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "maxLength": 32}),
]
"""Milliseconds in Python, `10m` in YAML."""

Percent = Annotated[
    int,
    BeforeValidator(parse_percent),
    PlainSerializer(format_percent, return_type=str),
    WithJsonSchema({"type": "string", "pattern": PERCENT_PATTERN, "maxLength": 8}),
]
"""Basis points in Python, `12.5%` in YAML."""

DecimalString = Annotated[
    Decimal,
    BeforeValidator(_parse_decimal),
    PlainSerializer(lambda d: format(d, "f"), return_type=str),
    WithJsonSchema({"type": "string", "pattern": DECIMAL_PATTERN, "maxLength": 27}),
]
"""`Decimal` in Python, `"0.05"` in YAML."""

SemVer = Annotated[str, StringConstraints(pattern=SEMVER_PATTERN, max_length=128)]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, min_length=1, max_length=63)]
RevisionHash = Annotated[str, StringConstraints(pattern=REVISION_PATTERN, max_length=10)]
