"""The rule of the election: tables for each move, and generated worlds in which no two ever lead at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategyrollout.core.leadership import (
    Move,
    Seen,
    Standing,
    Timing,
    absent,
    decide,
    free_in,
    observed,
    time_left,
    won,
)
from tests.election.model import Step, World

TIMING = Timing(duration=8, renew_deadline=5, retry=1)
OTHER = Seen("other", "1", 8.0, at=100.0)
ME = Standing("me")
LEADER = won(ME, "1", 8.0, sent=100.0)

MOVES: dict[str, tuple[Standing, float, Move]] = {
    "nothing is known yet": (ME, 100.0, Move.WAIT),
    "there is no Lease": (absent(ME, 100.0), 100.0, Move.ACQUIRE),
    "somebody holds it": (replace(ME, seen=OTHER), 107.9, Move.WAIT),
    "somebody has not renewed it for its duration": (replace(ME, seen=OTHER), 108.0, Move.ACQUIRE),
    "somebody declared a longer duration than ours": (replace(ME, seen=replace(OTHER, duration=15)), 108.0, Move.WAIT),
    "somebody declared none": (replace(ME, seen=replace(OTHER, duration=0)), 107.9, Move.WAIT),
    "it was given back": (observed(replace(ME, seen=OTHER), "", "2", 1.0, 101.0), 101.0, Move.ACQUIRE),
    "it was deleted while somebody held it": (absent(replace(ME, seen=OTHER), 101.0), 101.0, Move.WAIT),
    "our own write has arrived, its answer has not": (observed(ME, "me", "1", 8.0, 101.0), 101.0, Move.ACQUIRE),
    "it is ours": (LEADER, 104.9, Move.HOLD),
    "it is ours and was not renewed until the deadline": (LEADER, 105.0, Move.LOST),
    "it is ours and somebody took it": (observed(LEADER, "other", "2", 8.0, 101.0), 101.0, Move.LOST),
    "it is ours and somebody emptied it": (observed(LEADER, "", "2", 1.0, 101.0), 101.0, Move.LOST),
    "it is ours and was deleted": (absent(LEADER, 101.0), 101.0, Move.HOLD),
}


@pytest.mark.parametrize("name", MOVES)
def test_each_situation_has_one_move(name: str) -> None:
    known, now, expected = MOVES[name]
    assert decide(known, TIMING, now) is expected


def test_a_lease_that_does_not_change_is_seen_once() -> None:
    first = observed(ME, "other", "1", 8.0, 100.0)
    assert observed(first, "other", "1", 8.0, 107.0) == first
    assert observed(first, "other", "2", 8.0, 107.0).seen == Seen("other", "2", 8.0, 107.0)


def test_the_time_left_counts_from_the_sending_of_the_last_renewal() -> None:
    assert time_left(LEADER, TIMING, 103.5) == 1.5
    assert time_left(LEADER, TIMING, 200.0) == 0
    assert time_left(ME, TIMING, 100.0) == 0


def test_the_end_of_somebodys_lease_can_be_waited_for() -> None:
    waiting = replace(ME, seen=OTHER)
    assert free_in(waiting, TIMING, 101.0) == 7.0
    assert free_in(waiting, TIMING, 108.0) is None
    assert free_in(ME, TIMING, 101.0) is None
    assert free_in(LEADER, TIMING, 101.0) is None


TIMINGS = (TIMING, Timing(15, 10, 2), Timing(4, 2, 1), Timing(6, 5, 1))
LONG, PACE = 40.0, 0.25


@dataclass(frozen=True)
class Fault:
    """What is wrong with one replica for a while. Slow by `seconds` a request, there and back."""

    replica: int
    begins: float
    lasts: float
    what: Literal["paused", "request lost", "answer lost", "slow there", "slow back"]
    seconds: float

    def covers(self, replica: int, at: float) -> bool:
        return self.replica == replica and self.begins <= at < self.begins + self.lasts


FAULTS = st.lists(
    st.builds(
        Fault,
        replica=st.integers(0, 2),
        begins=st.floats(0, LONG),
        lasts=st.floats(0, 14),
        what=st.sampled_from(("paused", "request lost", "answer lost", "slow there", "slow back")),
        seconds=st.one_of(st.floats(0, 2), st.floats(0, 10)),
    ),
    max_size=8,
)
RELEASES = st.lists(st.tuples(st.floats(0, LONG), st.integers(0, 2)), max_size=2)


def steps_of(faults: list[Fault], releases: list[tuple[float, int]]) -> list[Step]:
    """All work at the same pace, each in a phase of its own, except where something is wrong."""
    due = [(n * PACE + replica * 0.07, replica, "work") for n in range(int(LONG / PACE)) for replica in range(3)]
    due += [(at, replica, "release") for at, replica in releases]
    steps, before = [], 0.0
    for at, replica, what in sorted(due):
        wrong = {fault.what: fault.seconds for fault in faults if fault.covers(replica, at)}
        if "paused" in wrong:
            continue
        fate = next((f for f in ("request lost", "answer lost") if f in wrong), "arrives")
        there, back = wrong.get("slow there", 0.01), wrong.get("slow back", 0.01)
        steps.append(Step(at - before, replica, what, there, back, fate))  # type: ignore[arg-type]
        before = at
    return steps


STEPS = st.builds(steps_of, FAULTS, RELEASES)


@st.composite
def worlds(draw: st.DrawFn, timings: tuple[Timing, ...] = TIMINGS) -> World:
    timing = draw(st.sampled_from(timings))
    # The bound of the rule: no clock is faster than another by as much as the Lease is longer than the deadline.
    apart = timing.duration / timing.renew_deadline * 0.999
    return World(timing, draw(st.lists(st.floats(1.0, max(apart, 1.0)), min_size=3, max_size=3)))


@given(worlds(), STEPS)
@settings(max_examples=300, deadline=None)
def test_no_two_ever_lead_at_once_whatever_is_late_lost_or_paused(world: World, steps: list[Step]) -> None:
    world.play(steps)


@pytest.mark.parametrize(
    ("timing", "rates"),
    [(Timing(4, 5, 1), [1.0, 1.0]), (TIMING, [1.0, 1.7])],
    ids=["a deadline after the end of the Lease", "a clock that is too fast"],
)
def test_the_worlds_would_find_two_leaders_if_the_rule_were_wrong(timing: Timing, rates: list[float]) -> None:
    leads = [Step(0, 0, "work"), Step(0.1, 0, "work")]
    with pytest.raises(AssertionError, match="lead at"):
        World(timing, rates).play([*leads, *(Step(0.05, 1, "work") for _ in range(98))])


def test_without_faults_one_leads_all_the_time_and_the_next_follows_a_release_at_once() -> None:
    work = [Step(0.1, n % 3, "work") for n in range(300)]
    world = World(TIMING, [1.0, 1.2, 0.9])
    world.play([*work, Step(0.1, 0, "release"), Step(0.1, 1, "work"), Step(0.1, 1, "work")])
    assert world.led == ["r0", "r1"]
    assert world.leaders == ["r1"]


def test_a_dead_leader_is_followed_after_its_lease() -> None:
    world = World(TIMING, [1.0, 1.0])
    world.play([Step(0.1, 0, "work"), Step(0.1, 0, "work"), *(Step(0.25, 1, "work") for _ in range(40))])
    assert world.led == ["r0", "r1"]
