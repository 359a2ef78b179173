"""A track forgets most samples, and nobody can tell."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategyrollout.api.gates import Severity
from strategyrollout.core.gates import Gate, Sample, judge, no_data_since
from strategyrollout.metrics.track import Track
from tests.core.judging import INTERVAL, NOW, gate, gates, runs, series


@given(gates(), runs(), st.integers(0, NOW), st.integers(0, 60_000))
def test_what_is_forgotten_changes_no_verdict(judged: Gate, run: tuple[Sample, ...], since: int, later: int) -> None:
    track = Track(judged)
    for count, sample in enumerate(run, 1):
        track.add(sample)
        assert track.verdict == judge(judged, run[:count], sample.at).verdict
    kept = track.recent()
    assert len(kept) <= judged.of + 2
    assert judge(judged, kept, NOW + later, since) == judge(judged, run, NOW + later, since)
    assert no_data_since(judged, kept, since) == no_data_since(judged, run, since)


@pytest.mark.parametrize(
    ("what", "severity", "values", "said"),
    [
        ("a steady pass is said once", "Stop", ["0.01", "0.01", "0.02"], [False, None, None]),
        ("a breach is urgent", "Stop", ["0.01", "0.09"], [False, True]),
        ("also as the first sample", "Stop", ["0.09"], [True]),
        ("a standing breach is said again", "Stop", ["0.09", "0.09"], [True, False]),
        ("a breach that reverts nothing is not urgent", "Promote", ["0.09", "0.09"], [False, None]),
        ("nor is one that is only recorded", "Observe", ["0.09", "0.09"], [False, None]),
        ("data again", "Stop", [None, None, "0.01"], [False, None, False]),
        ("Prometheus away and back", "Stop", ["0.01", "blind", "blind", "0.01"], [False, False, None, False]),
    ],
)
def test_the_loop_is_woken(what: str, severity: Severity, values: list[str | None], said: list[bool | None]) -> None:
    track = Track(replace(gate(), severity=severity))
    assert [track.add(sample) for sample in series(*values)] == said, what


def test_a_standing_breach_of_a_fast_gate_is_said_four_times_a_second_at_most() -> None:
    track = Track(gate())
    breaches = [track.add(Sample(NOW + 100 * n, (Decimal("0.09"),))) for n in range(31)]
    assert breaches[0] is True
    assert breaches.count(False) == 10


def test_a_tolerated_failure_is_said_and_then_urgent() -> None:
    track = Track(gate(breaches=2, of=3))
    assert [track.add(sample) for sample in series("0.01", "0.09", "0.09")] == [False, False, True]
    assert [s.at for s in track.recent()] == [NOW - 2 * INTERVAL, NOW - INTERVAL, NOW]
