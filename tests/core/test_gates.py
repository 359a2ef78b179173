"""Verdicts: what a gate says about samples, by scenario and by property."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategyrollout.core.gates import Gate, Judgement, Query, Sample, judge, judge_sample, limit_text, no_data_since
from tests.core.judging import INTERVAL, MAX_AGE, NOW, gate, gates, numbers, runs, sample, samples_now, series, values


@pytest.mark.parametrize(
    ("limits", "values", "verdict", "value"),
    [
        ({}, "0.05", "Pass", "0.05"),  # the limit itself is inside
        ({}, "0.050000001", "Breach", "0.050000001"),
        ({}, "-7", "Pass", "-7"),
        ({"above": None, "below": "3"}, "3", "Pass", "3"),
        ({"above": None, "below": "3"}, "2.99", "Breach", "2.99"),
        ({"above": "5", "below": "3"}, "4", "Pass", "4"),
        ({"above": "5", "below": "3"}, "2", "Breach", "2"),
        ({"above": "5", "below": "3"}, "6", "Breach", "6"),
        ({"above": "0", "below": "0"}, "0", "Pass", "0"),  # nothing but zero
        # several series of one revision
        ({}, "0.01 0.09 0.02", "Breach", "0.09"),
        ({"above": None, "below": "3"}, "9 1 8", "Breach", "1"),
        ({"above": "5", "below": "3"}, "2.5 -40 4", "Breach", "-40"),  # furthest out, whichever side
        ({"above": "5", "below": "3"}, "4.9 4.0 3.5", "Pass", "4.9"),  # nearest to a limit
        ({"reduce": "Max"}, "0.01 0.04", "Pass", "0.04"),
        ({"reduce": "Max"}, "0.01 0.06", "Breach", "0.06"),
        ({"reduce": "Min"}, "0.01 0.06", "Pass", "0.01"),
        ({"reduce": "Min"}, "0.07 0.06", "Breach", "0.06"),
        ({"reduce": "Sum"}, "0.02 0.02", "Pass", "0.04"),
        ({"reduce": "Sum"}, "0.02 0.02 0.02", "Breach", "0.06"),
        # not numbers
        ({}, "NaN", "NoData", None),
        ({}, "Infinity", "NoData", None),
        ({}, "-Infinity", "NoData", None),
        ({}, "", "NoData", None),
        ({}, "0.01 NaN", "NoData", None),
        ({}, "0.01 Infinity", "NoData", None),
        # another series breaches whatever the one without a number stands for
        ({}, "NaN 0.09", "Breach", "0.09"),
        ({"reduce": "Max"}, "NaN 0.09", "Breach", "0.09"),
        ({"reduce": "Min"}, "NaN 0.09", "NoData", None),
        ({"reduce": "Min", "above": None, "below": "3"}, "NaN 2", "Breach", "2"),
        ({"reduce": "Max", "above": None, "below": "3"}, "NaN 2", "NoData", None),
        ({"reduce": "Sum"}, "NaN 0.09", "NoData", None),
    ],
)
def test_one_sample_is_judged(limits: dict[str, Any], values: str, verdict: str, value: str | None) -> None:
    judgement = judge_sample(gate(**limits), sample(NOW, *values.split()))
    assert (judgement.verdict, judgement.value) == (verdict, None if value is None else Decimal(value))
    assert judgement.at == NOW
    assert bool(judgement.message) == (verdict == "NoData")


@pytest.mark.parametrize(
    ("what", "failures", "values", "verdict", "value"),
    [
        ("no sample yet", (1, 1), [], "NoData", None),
        ("a pass", (1, 1), ["0.01"], "Pass", "0.01"),
        ("one breach is enough by default", (1, 1), ["0.01", "0.09"], "Breach", "0.09"),
        ("over again", (1, 1), ["0.09", "0.01"], "Pass", "0.01"),
        ("a blip is tolerated, and is no pass", (2, 3), ["0.01", "0.01", "0.09"], "Inconclusive", "0.09"),
        ("two in a row", (2, 3), ["0.01", "0.08", "0.09"], "Breach", "0.09"),
        ("two of three", (2, 3), ["0.08", "0.01", "0.09"], "Breach", "0.09"),
        ("two of three, but over", (2, 3), ["0.08", "0.09", "0.01"], "Pass", "0.01"),
        ("the first one has left the window", (2, 3), ["0.08", "0.01", "0.01", "0.09"], "Inconclusive", "0.09"),
        ("three of three need three", (3, 3), ["0.08", "0.09"], "Inconclusive", "0.09"),
        ("no data does not fill the window", (2, 2), ["0.08", None, "NaN", "0.09"], "Breach", "0.09"),
        ("an empty answer is no pass", (1, 1), ["0.01", None], "NoData", None),
        ("NaN is no pass", (1, 1), ["0.01", "NaN"], "NoData", None),
        ("an infinity is no breach", (1, 1), ["0.01", "Infinity"], "NoData", None),
        ("a failed query is no pass", (1, 1), ["0.01", "blind"], "NoData", None),
        ("a breach is not taken back by silence", (1, 1), ["0.09", None], "Breach", "0.09"),
        ("nor by a failed query", (1, 1), ["0.09", "blind"], "Breach", "0.09"),
        ("but an old breach is history", (1, 1), ["0.09", None, None, None, None], "NoData", None),
        ("also when Prometheus is away", (1, 1), ["0.09", "blind", "blind", "blind", "blind"], "NoData", None),
        ("a tolerated failure and then silence", (2, 3), ["0.09", None], "NoData", None),
    ],
)
def test_a_run_of_samples_is_judged(
    what: str, failures: tuple[int, int], values: list[str | None], verdict: str, value: str | None
) -> None:
    judgement = judge(gate(breaches=failures[0], of=failures[1]), series(*values), NOW)
    assert (judgement.verdict, judgement.value) == (verdict, None if value is None else Decimal(value)), what


@pytest.mark.parametrize(
    ("interval", "max_age", "age", "verdict"),
    [
        (5_000, 15_000, 15_000, "Pass"),
        (5_000, 15_000, 15_001, "NoData"),
        (60_000, 15_000, 120_000, "Pass"),  # a missed tick of a slow gate is not silence
        (60_000, 15_000, 120_001, "NoData"),
        (100, 1_000, 1_001, "NoData"),
    ],
)
def test_a_sample_ages(interval: int, max_age: int, age: int, verdict: str) -> None:
    aged = gate(query=Query("q", interval, max_age))
    assert judge(aged, (sample(NOW - age, "0.01"),), NOW).verdict == verdict
    breach = judge(aged, (sample(NOW - age, "0.09"),), NOW).verdict
    assert breach == ("Breach" if verdict == "Pass" else "NoData")


def test_samples_from_before_do_not_count() -> None:
    samples = series("0.09", "0.01")
    strict = gate(breaches=2, of=2)
    assert judge(strict, (*samples[:1], sample(NOW, "0.09")), NOW).verdict == "Breach"
    assert judge(strict, (*samples[:1], sample(NOW, "0.09")), NOW, since=NOW).verdict == "Inconclusive"
    assert judge(strict, samples, NOW, since=NOW + 1).message == "no sample yet"


def test_a_judgement_says_what_it_rests_on() -> None:
    both = gate(above="5", below="0.000000001", breaches=2, of=3)
    assert judge(both, series("1"), NOW) == Judgement("Pass", Decimal(1), "> 5 or < 0.000000001", NOW)
    assert judge(both, series("7", "-1"), NOW) == Judgement("Breach", Decimal(-1), "< 0.000000001", NOW)
    tolerated = judge(both, series("1", "7"), NOW)
    assert tolerated.message == "1 of the latest 2 samples breach, 2 of 3 are needed"
    away = judge(both, series("1", "blind"), NOW)
    assert away.message == "Prometheus is away"
    assert judge(both, series(None), NOW).message == "the query answered with no series"
    assert judge(both, series("1"), NOW + MAX_AGE + 1).message == "the latest sample is too old"
    assert limit_text(both, Decimal(9)) == "> 5"


@pytest.mark.parametrize(
    ("what", "values", "armed_at", "since"),
    [
        ("never a sample", [], NOW - 90_000, NOW - 90_000),
        ("never a usable one", [None, "NaN"], NOW - 90_000, NOW - 90_000),
        ("usable a moment ago", ["0.01", None], NOW - 90_000, NOW - INTERVAL),
        ("usable before it was armed", ["0.01", None, None], NOW - INTERVAL, NOW - INTERVAL),
        ("usable now", ["0.01"], NOW - 90_000, NOW),
        ("a breach is data", ["0.09", None], NOW - 90_000, NOW - INTERVAL),
        ("Prometheus was away in between", ["0.01", "blind", None], NOW - 90_000, NOW - INTERVAL),
        ("Prometheus is away", ["0.01", None, "blind"], NOW - 90_000, NOW),
    ],
)
def test_silence_is_counted_from(what: str, values: list[str | None], armed_at: int, since: int) -> None:
    assert no_data_since(gate(), series(*values), armed_at) == since, what


def test_gates_that_ask_the_same_are_one_query() -> None:
    first, second = gate(), gate("0.9", name="other", of=3)
    assert first.query.key == second.query.key
    for other in (replace(first.query, text="p"), replace(first.query, interval=1), replace(first.query, max_age=1)):
        assert other.key != first.query.key


@given(gates(), runs(), st.integers(0, NOW))
def test_only_fresh_numbers_inside_the_limit_pass(judged: Gate, run: tuple[Sample, ...], since: int) -> None:
    if judge(judged, run, NOW, since).verdict == "Pass":
        latest = run[-1]
        assert latest.at >= since
        assert latest.values
        assert all(value.is_finite() for value in latest.values)
        assert judge_sample(judged, latest).verdict == "Pass"


@given(gates(), runs(), st.integers(0, NOW))
def test_a_breach_rests_on_enough_samples_that_break_the_limit(
    judged: Gate, run: tuple[Sample, ...], since: int
) -> None:
    judgement = judge(judged, run, NOW, since)
    if judgement.verdict == "Breach":
        broken = [s for s in run if s.at >= since and judge_sample(judged, s).verdict == "Breach"]
        assert len(broken) >= judged.breaches
        assert judgement.at == broken[-1].at
        assert NOW - broken[-1].at <= max(judged.query.max_age, 2 * judged.query.interval)


@given(gates(), samples_now, st.lists(numbers, min_size=4, max_size=4))
def test_a_breach_without_all_numbers_is_one_whatever_they_are(
    judged: Gate, incomplete: Sample, known: list[Decimal]
) -> None:
    if judge_sample(judged, incomplete).verdict == "Breach":
        complete = [v if v.is_finite() else known.pop() for v in incomplete.values]
        assert judge_sample(judged, replace(incomplete, values=tuple(complete))).verdict == "Breach"


@given(gates(), samples_now, values)
def test_one_more_series_hides_no_breach_when_every_one_must_keep_the_limit(
    judged: Gate, one: Sample, more: Decimal
) -> None:
    worst = replace(judged, reduce="Worst")
    if judge_sample(worst, one).verdict == "Breach":
        assert judge_sample(worst, replace(one, values=(*one.values, more))).verdict == "Breach"
