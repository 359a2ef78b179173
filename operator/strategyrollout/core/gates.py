"""Judging: samples in, a verdict out. Hard limits only; statistics come later and will sit beside this.

A value that is absent, not a number, infinite or stale is `NoData`: neither a pass nor a breach (rule 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Literal

from strategyrollout.api.gates import NoDataAction, Reduce, Severity, Source, When
from strategyrollout.api.scalars import IN_ORDER

Verdict = Literal["Pass", "Breach", "NoData", "Inconclusive"]


@dataclass(frozen=True)
class Query:
    """What is asked of Prometheus, once for all gates that share it."""

    text: str
    interval: int
    """Milliseconds."""
    max_age: int
    """Milliseconds; sent as `lookback_delta`, so what is older is not in the answer."""
    source: Source = field(default_factory=Source)

    @cached_property
    def key(self) -> str:
        """Identity for sharing: two gates with the same key are one query."""
        return f"{self.interval}|{self.max_age}|{self.source.model_dump_json()}|{self.text}"


@dataclass(frozen=True)
class Gate:
    """A gate ready for judging: template, parameters and defaults resolved."""

    name: str
    query: Query
    when: Annotated[frozenset[When], IN_ORDER]
    above: Decimal | None
    below: Decimal | None
    reduce: Reduce
    severity: Severity
    breaches: int
    of: int
    no_data: NoDataAction
    no_data_after: int


@dataclass(frozen=True)
class Sample:
    """The answer to one query about one revision at one instant."""

    at: int
    """When the answer was readable here."""
    values: tuple[Decimal, ...] = ()
    """One a series; empty means no data."""
    problem: str = ""
    """Why there is no data, for people."""
    blind: bool = False
    """The query itself failed: nothing is known about the strategy."""


@dataclass(frozen=True)
class Judgement:
    """A verdict with what it rests on."""

    verdict: Verdict
    value: Decimal | None = None
    limit: str = ""
    at: int | None = None
    message: str = ""


def outside(gate: Gate, value: Decimal) -> bool:
    """Whether a value breaks the gate's limit. The limit itself is still inside."""
    return (gate.above is not None and value > gate.above) or (gate.below is not None and value < gate.below)


def _excess(gate: Gate, value: Decimal) -> Decimal:
    """How far beyond the limit; negative while inside."""
    distances = []
    if gate.above is not None:
        distances.append(value - gate.above)
    if gate.below is not None:
        distances.append(gate.below - value)
    return max(distances, default=Decimal(-1))


def _reduced(gate: Gate, values: Sequence[Decimal]) -> Decimal:
    match gate.reduce:
        case "Max":
            return max(values)
        case "Min":
            return min(values)
        case "Sum":
            return sum(values, Decimal(0))
        case "Worst":
            return max(values, key=lambda value: _excess(gate, value))


def _breach_whatever_the_rest(gate: Gate, reduced: Decimal) -> bool:
    """Whether it stays a breach whatever number the series that gave none may stand for."""
    match gate.reduce:
        case "Max":
            return gate.above is not None and reduced > gate.above
        case "Min":
            return gate.below is not None and reduced < gate.below
        case "Sum":
            return False
        case "Worst":
            return outside(gate, reduced)


def limit_text(gate: Gate, value: Decimal | None = None) -> str:
    """The bound as people read it: `> 0.05`; the one that `value` broke when both are set."""
    parts = []
    if gate.above is not None and (value is None or gate.below is None or value > gate.above):
        parts.append(f"> {gate.above:f}")
    if gate.below is not None and (value is None or gate.above is None or value < gate.below):
        parts.append(f"< {gate.below:f}")
    return " or ".join(parts)


def weigh(gate: Gate, sample: Sample) -> tuple[Verdict, Decimal | None]:
    """Verdict and value of one sample alone, without words: this runs for every row of every answer.

    A pod that breaches is a breach although another pod has nothing to divide yet (NaN).
    """
    finite = [v for v in sample.values if v.is_finite()]
    if not finite:
        return "NoData", None
    value = finite[0] if len(finite) == 1 else _reduced(gate, finite)
    if len(finite) != len(sample.values) and not _breach_whatever_the_rest(gate, value):
        return "NoData", None
    return ("Breach" if outside(gate, value) else "Pass"), value


def judge_sample(gate: Gate, sample: Sample) -> Judgement:
    """One sample alone, with the reason when it says nothing."""
    verdict, value = weigh(gate, sample)
    if verdict != "NoData":
        return Judgement(verdict, value, limit_text(gate), sample.at)
    silence = sample.problem or "the query answered with no series"
    message = "the value is not a finite number" if sample.values else silence
    return Judgement("NoData", limit=limit_text(gate), at=sample.at, message=message)


def _stale(gate: Gate, at: int, now: int) -> bool:
    return now - at > max(gate.query.max_age, 2 * gate.query.interval)


def judge(gate: Gate, samples: tuple[Sample, ...], now: int, since: int = 0) -> Judgement:
    """The verdict of a gate at `now` from its samples since `since` (oldest first).

    Breach when at least `breaches` of the latest `of` usable samples break the limit, the newest of them does, and it
    is fresh. A gate in its tolerated failures is `Inconclusive`: no reason to act, none to advance.
    """
    fresh = [s for s in samples if s.at >= since]
    if not fresh:
        return Judgement("NoData", limit=limit_text(gate), message="no sample yet")
    latest = judge_sample(gate, fresh[-1])
    if latest.verdict == "Pass" and not _stale(gate, fresh[-1].at, now):
        return latest
    weighed = [(s, *weigh(gate, s)) for s in fresh]
    usable = [(s, verdict, value) for s, verdict, value in weighed if verdict != "NoData"][-gate.of :]
    breaches = sum(verdict == "Breach" for _, verdict, _ in usable)
    if breaches >= gate.breaches:
        newest, verdict, value = usable[-1]
        if verdict == "Breach" and not _stale(gate, newest.at, now):
            return Judgement("Breach", value, limit_text(gate, value), newest.at)
    if _stale(gate, fresh[-1].at, now):
        return Judgement("NoData", limit=limit_text(gate), at=latest.at, message="the latest sample is too old")
    if latest.verdict == "NoData":
        return latest
    message = f"{breaches} of the latest {len(usable)} samples breach, {gate.breaches} of {gate.of} are needed"
    return replace(latest, verdict="Inconclusive", message=message)


def no_data_since(gate: Gate, samples: tuple[Sample, ...], armed_at: int) -> int:
    """Since when (ms) the gate has been answered without a usable sample: the last usable one, or when it was armed.

    Time in which the query itself failed is not held against the strategy, so a failed query starts it anew: the first
    answers of a Prometheus that was away are often empty.
    """
    known = [s.at for s in samples if s.blind or weigh(gate, s)[0] != "NoData"]
    return max(known[-1], armed_at) if known else armed_at
