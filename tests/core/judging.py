"""Gates and samples for tests of judging, short enough to be read in a table."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from strategyrollout.api.gates import Reduce
from strategyrollout.core.gates import Gate, Query, Sample

NOW = 1_000_000
INTERVAL = 5_000
MAX_AGE = 15_000
REDUCES: tuple[Reduce, ...] = ("Worst", "Max", "Min", "Sum")


def gate(above: str | None = "0.05", below: str | None = None, **fields: Any) -> Gate:
    defaults: dict[str, Any] = {
        "name": "reject-rate",
        "query": Query("q", INTERVAL, MAX_AGE),
        "when": frozenset({"Rollout"}),
        "above": None if above is None else Decimal(above),
        "below": None if below is None else Decimal(below),
        "reduce": "Worst",
        "severity": "Stop",
        "breaches": 1,
        "of": 1,
        "no_data": "Hold",
        "no_data_after": 60_000,
    }
    return Gate(**{**defaults, **fields})


def sample(at: int, *values: str, **fields: Any) -> Sample:
    return Sample(at, tuple(map(Decimal, values)), **fields)


def series(*values: str | None) -> tuple[Sample, ...]:
    """One sample an interval, the last one now; None is an empty answer, `blind` a query that failed."""
    first = NOW - INTERVAL * (len(values) - 1)
    samples = []
    for index, value in enumerate(values):
        at = first + index * INTERVAL
        if value == "blind":
            samples.append(Sample(at, problem="Prometheus is away", blind=True))
        else:
            samples.append(sample(at, *([] if value is None else value.split())))
    return tuple(samples)


numbers = st.decimals(allow_nan=False, allow_infinity=False, min_value=-100, max_value=100, places=3)
values = st.one_of(numbers, st.sampled_from([Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity")]))
samples_now = st.builds(Sample, st.just(NOW), st.lists(values, max_size=4).map(tuple))


def _possible(limits: tuple[Decimal | None, Decimal | None]) -> bool:
    above, below = limits
    return above >= below if above is not None and below is not None else above is not below


@st.composite
def gates(draw: st.DrawFn) -> Gate:
    """Any gate that resolving lets through."""
    above, below = draw(st.tuples(st.none() | numbers, st.none() | numbers).filter(_possible))
    of = draw(st.integers(1, 5))
    breaches, reduce = draw(st.integers(1, of)), draw(st.sampled_from(REDUCES))
    return replace(gate(), above=above, below=below, reduce=reduce, breaches=breaches, of=of)


@st.composite
def runs(draw: st.DrawFn) -> tuple[Sample, ...]:
    """Samples in the order of their times, the last one not after NOW."""
    ages = sorted(draw(st.lists(st.integers(0, 3 * MAX_AGE), max_size=12)), reverse=True)
    empty = st.sampled_from([Sample(0), Sample(0, problem="away", blind=True)])
    return tuple(replace(draw(samples_now | empty), at=NOW - age) for age in ages)
