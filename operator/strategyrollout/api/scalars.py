"""The small value types of the API: written by people as strings, held by the program as exact integers and decimals.

There are no floats anywhere: a share is a whole number of basis points, a duration a whole number of milliseconds.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, StringConstraints, WithJsonSchema

# Passed on: everyone but the routers takes all scalars from here.
from strategyrollout.api.durations import DURATION_PATTERN as DURATION_PATTERN  # noqa: PLC0414
from strategyrollout.api.durations import DURATION_REMEDY
from strategyrollout.api.durations import format_duration as format_duration  # noqa: PLC0414
from strategyrollout.api.durations import parse_duration as parse_duration  # noqa: PLC0414
from strategyrollout.api.model import Remedy

PERCENT_PATTERN = r"^(100(\.0{1,2})?|[0-9]{1,2}(\.[0-9]{1,2})?)%$"
DECIMAL_PATTERN = r"^-?[0-9]{1,15}(\.[0-9]{1,9})?$"
_NUMBER = r"(0|[1-9][0-9]{0,8})"
_PRERELEASE = rf"({_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER = rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PRERELEASE}(\.{_PRERELEASE})*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
SEMVER_PATTERN = rf"^{_SEMVER}$"
DIGEST_PATTERN = r"^[^@\s]+@sha256:[a-f0-9]{64}$"
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
REVISION_PATTERN = r"^[a-f0-9]{10}$"
TARGET_PATTERN = rf"^(Previous|[a-f0-9]{{10}}|{_SEMVER})$"
HEADER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9-]{0,62}$"
SERVICE_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
PARAM_PATTERN = r"^[a-z][a-zA-Z0-9]{0,31}$"

IN_ORDER = PlainSerializer(sorted, when_used="json")
"""Beside a set of strings: it becomes the same text in every process, which Python's own order does not."""

_PERCENT_REMEDY = "must be a share from 0% to 100% with at most two decimals, such as 10% or 0.25%"
_DECIMAL_REMEDY = 'must be a decimal number in quotes, such as "0.05"'


def parse_percent(value: Any) -> int:
    """`12.5%` as 1250 basis points."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not re.match(PERCENT_PATTERN, value):
        raise ValueError(_PERCENT_REMEDY)
    return int(Decimal(value[:-1]) * 100)


def format_time(ms: int | None) -> str | None:
    """Milliseconds since 1970 as RFC 3339 with milliseconds."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_percent(basis_points: int) -> str:
    """1250 basis points as `12.5%`."""
    whole, hundredths = divmod(basis_points, 100)
    return f"{whole}.{hundredths:02d}".rstrip("0").rstrip(".") + "%"


def _parse_decimal(value: Any) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if not isinstance(value, str) or not re.match(DECIMAL_PATTERN, value):
        raise ValueError(_DECIMAL_REMEDY)
    return Decimal(value)


Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "maxLength": 32}),
    Remedy(DURATION_REMEDY),
]
"""Milliseconds in Python, `10m` in YAML."""

Percent = Annotated[
    int,
    BeforeValidator(parse_percent),
    PlainSerializer(format_percent, return_type=str),
    WithJsonSchema({"type": "string", "pattern": PERCENT_PATTERN, "maxLength": 8}),
    Remedy(_PERCENT_REMEDY),
]
"""Basis points in Python, `12.5%` in YAML."""

DecimalString = Annotated[
    Decimal,
    BeforeValidator(_parse_decimal),
    PlainSerializer(lambda d: format(d, "f"), return_type=str),
    WithJsonSchema({"type": "string", "pattern": DECIMAL_PATTERN, "maxLength": 27}),
    Remedy(_DECIMAL_REMEDY),
]
"""`Decimal` in Python, `"0.05"` in YAML."""

SemVer = Annotated[
    str,
    StringConstraints(pattern=SEMVER_PATTERN, max_length=128),
    Remedy("must be SemVer such as 2.4.0 or 2.4.0-rc.1: three numbers, no leading v, no leading zeros"),
]
Name = Annotated[
    str,
    StringConstraints(pattern=NAME_PATTERN, min_length=1, max_length=63),
    Remedy("must be lower-case letters, digits and '-', and begin and end with a letter or a digit"),
]
ServiceName = Annotated[
    str,
    StringConstraints(pattern=SERVICE_PATTERN, min_length=1, max_length=50),
    Remedy("must be lower-case letters, digits and '-', begin with a letter and end with a letter or a digit"),
]
PortName = Annotated[
    str,
    StringConstraints(pattern=NAME_PATTERN, min_length=1, max_length=15),
    Remedy("must be the name of a container port: lower-case letters, digits and '-', such as orders"),
]
HeaderName = Annotated[
    str,
    StringConstraints(pattern=HEADER_PATTERN, max_length=63),
    Remedy("must be the name of a request header, such as X-Account-Id"),
]
ParamName = Annotated[
    str,
    StringConstraints(pattern=PARAM_PATTERN, max_length=32),
    Remedy("must be letters and digits and begin with a small letter, such as limit"),
]
Target = Annotated[
    str,
    StringConstraints(pattern=TARGET_PATTERN, max_length=128),
    Remedy("must be Previous, a version such as 2.3.1, or a revision hash such as 5f8c9d01ab"),
]
"""Where a rollback goes: away from what is being left, or a version, or a revision hash."""
