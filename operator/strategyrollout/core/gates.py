"""Judging: samples in, a verdict out. Hard limits only; statistics come later and will sit beside this.

A value that is absent, not a number, infinite or stale is `NoData`: neither a pass nor a breach (rule 2).
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from strategyrollout.api.gates import NoDataAction, Reduce, Severity, Source, When

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

    @property
    def key(self) -> str:
        """Identity for sharing: two gates with the same key are one query."""
        return f"{self.interval}|{self.max_age}|{self.source.model_dump_json()}|{self.text}"


@dataclass(frozen=True)
class Gate:
    """A gate ready for judging: template, parameters and defaults resolved."""

    name: str
    query: Query
    when: frozenset[When]
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


def _reduced(gate: Gate, values: tuple[Decimal, ...]) -> Decimal:
    match gate.reduce:
        case "Max":
            return max(values)
        case "Min":
            return min(values)
        case "Sum":
            return sum(values, Decimal(0))
        case "Worst":
            broken = [v for v in values if outside(gate, v)]
            pool = broken or list(values)
            return min(pool) if gate.above is None else max(pool)


def limit_text(gate: Gate, value: Decimal | None = None) -> str:
    """The bound as people read it: `> 0.05`; the one that `value` broke when both are set."""
    parts = []
    if gate.above is not None and (value is None or gate.below is None or value > gate.above):
        parts.append(f"> {gate.above}")
    if gate.below is not None and (value is None or gate.above is None or value < gate.below):
        parts.append(f"< {gate.below}")
    return " or ".join(parts)


def judge_sample(gate: Gate, sample: Sample) -> Judgement:
    """One sample alone."""
    finite = tuple(v for v in sample.values if v.is_finite())
    if len(finite) != len(sample.values):
        return Judgement("NoData", at=sample.at, message="the value is not a finite number")
    if not finite:
        return Judgement("NoData", at=sample.at, message=sample.problem or "the query answered with no series")
    value = _reduced(gate, finite)
    return Judgement("Breach" if outside(gate, value) else "Pass", value, limit_text(gate), sample.at)


def judge(gate: Gate, samples: tuple[Sample, ...], now: int, since: int = 0) -> Judgement:
    """The verdict of a gate at `now` from its samples since `since` (oldest first).

    Breach when at least `breaches` of the latest `of` usable samples break the limit, the newest breach being fresh.
    A gate in its tolerated failures is `Inconclusive`: no reason to act, none to advance.
    """
    fresh = [s for s in samples if s.at >= since]
    if not fresh:
        return Judgement("NoData", limit=limit_text(gate), message="no sample yet")
    judged = [judge_sample(gate, s) for s in fresh]
    usable = [j for j in judged if j.verdict != "NoData"][-gate.of :]
    broken = [j for j in usable if j.verdict == "Breach"]
    latest = judged[-1]
    stale = now - fresh[-1].at > max(gate.query.max_age, 2 * gate.query.interval)
    if usable and usable[-1].verdict == "Breach" and len(broken) >= gate.breaches and not stale:
        worst = broken[-1]
        return Judgement("Breach", worst.value, limit_text(gate, worst.value), worst.at)
    if stale:
        return Judgement("NoData", limit=limit_text(gate), at=fresh[-1].at, message="the latest sample is too old")
    if latest.verdict == "NoData":
        return Judgement("NoData", limit=limit_text(gate), at=latest.at, message=latest.message)
    if latest.verdict == "Breach":
        message = f"{len(broken)} of the latest {len(usable)} samples breach, {gate.breaches} of {gate.of} are needed"
        return Judgement("Inconclusive", latest.value, limit_text(gate), latest.at, message)
    return Judgement("Pass", latest.value, limit_text(gate), latest.at)


def no_data_since(gate: Gate, samples: tuple[Sample, ...], armed_at: int) -> int:
    """Since when the gate has had no usable sample: the last usable one, or when it was armed."""
    usable = [s.at for s in samples if s.at >= armed_at and judge_sample(gate, s).verdict != "NoData"]
    return max(usable[-1], armed_at) if usable else armed_at
