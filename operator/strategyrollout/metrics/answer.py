"""Reads what a Prometheus answered, row by row, into values by revision. No network here, so odd answers test easily.

The rule throughout: what cannot be given to a revision beyond doubt is given to nobody, and the reason is kept.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from strategyrollout.api.gates import Source

Subject = tuple[str, str, str]
"""Namespace, rollout, revision."""

_HARMLESS = "PromQL info:"  # where older versions put what newer ones answer as `infos`

_Row = tuple[Mapping[str, str], str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one query said about everyone who waits for it."""

    at: int
    """Milliseconds since 1970; when it was readable here."""
    values: Mapping[Subject, tuple[Decimal, ...]] = field(default_factory=dict)
    problem: str = ""
    """Why a revision that is not in `values` is not, for people."""
    blind: bool = False
    """Nobody answered: nothing is known."""
    invalid: bool = False
    """It stays like this until a person changes the gate."""


class _Unusable(Exception):
    """The whole answer is of no use; the message says what to do."""


def refused(body: Mapping[str, Any], at: int) -> Answer:
    """Prometheus understood the request and will not run the query (status 400 or 422)."""
    said = str(body.get("error") or body.get("errorType") or "no reason given")
    return Answer(at, problem=f"Prometheus refuses the query: {said}; correct the query", invalid=True)


def read(body: Mapping[str, Any], source: Source, wanted: Container[Subject], at: int) -> Answer:
    """An answer with status 200. Rows about others than `wanted` are only counted."""
    warnings = [str(warning) for warning in body.get("warnings") or ()]
    if any(not warning.startswith(_HARMLESS) for warning in warnings):
        # A part of the data may be missing, so neither a pass nor a breach can be read from the rest.
        return Answer(at, problem=f"the answer may be incomplete, Prometheus warns: {'; '.join(warnings)}")
    try:
        rows = _rows(body)
        kept = [row for row in rows if all(row[0].get(name) == text for name, text in source.require.items())]
        return _by_subject(kept, len(rows), source, wanted, at)
    except _Unusable as unusable:
        return Answer(at, problem=str(unusable), invalid=True)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, InvalidOperation) as error:
        return Answer(at, problem=f"not the answer of a Prometheus ({error!r}); check source.address", blind=True)


def _rows(body: Mapping[str, Any]) -> list[_Row]:
    data = body["data"]
    kind = data["resultType"]
    if kind != "vector":
        raise _Unusable(
            f"the query answers a {kind}, an instant vector is needed; "
            "write an expression with one series a revision, such as sum by (namespace, rollout, revision) (...)"
        )
    result = data["result"]
    if any("value" not in row for row in result):
        raise _Unusable("the query answers native histograms; take a number from them, such as histogram_quantile")
    return [(row["metric"], row["value"][1]) for row in result]


def _by_subject(rows: Sequence[_Row], asked: int, source: Source, wanted: Container[Subject], at: int) -> Answer:
    names = (source.labels.namespace, source.labels.rollout, source.labels.revision)
    found: dict[Subject, list[_Row]] = {}
    unlabelled: Mapping[str, str] | None = None
    for row in rows:
        labels = row[0]
        subject = (labels.get(names[0], ""), labels.get(names[1], ""), labels.get(names[2], ""))
        if not (subject[0] and subject[1] and subject[2]):
            unlabelled = labels
        elif subject in wanted:
            found.setdefault(subject, []).append(row)
    if unlabelled is not None and all(not all(row[0].get(name) for name in names) for row in rows):
        raise _Unusable(_missing(unlabelled, names))
    if source.ignore:
        found = {subject: _without_duplicates(mine, source.ignore) for subject, mine in found.items()}
    values = {subject: tuple(Decimal(text) for _, text in mine) for subject, mine in found.items()}
    return Answer(at, values, _why_absent(rows, asked, unlabelled, names))


def _missing(labels: Mapping[str, str], names: tuple[str, ...]) -> str:
    missing = ", ".join(name for name in names if not labels.get(name))
    return f"the answer has series without the label {missing}; keep it, such as sum by ({', '.join(names)}) (...)"


def _why_absent(rows: Sequence[_Row], asked: int, unlabelled: Mapping[str, str] | None, names: tuple[str, ...]) -> str:
    if not asked:
        return "the query answered with no series"
    if not rows:
        return f"the query answered {asked} series, none with the labels of source.require"
    if unlabelled is not None:
        return f"the query answered {len(rows)} series, none for sure of this revision; {_missing(unlabelled, names)}"
    return f"the query answered {len(rows)} series, none of this revision"


def _without_duplicates(rows: list[_Row], ignore: Sequence[str]) -> list[_Row]:
    """Of rows that differ in ignored labels only, the first in the order of those labels. Two replicas of one
    Prometheus say the same thing twice: taking both would double a Sum."""
    if len(rows) == 1:
        return rows
    ignored = frozenset(ignore)
    first: dict[frozenset[tuple[str, str]], _Row] = {}
    for row in sorted(rows, key=lambda row: [row[0].get(name, "") for name in ignore]):
        first.setdefault(frozenset((name, text) for name, text in row[0].items() if name not in ignored), row)
    return list(first.values())
