"""Arithmetic on tables: for all tables and shares, not for the ones we thought of."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategyrollout.api.assignment import AssignmentSpec, Cause, Range
from strategyrollout.api.meta import BUCKETS, NOBODY
from strategyrollout.core.buckets import filled, marked, merged, moving, size, weight
from strategyrollout.core.moves import frozen_towards, granted, raised, taken_back, thawed

OWNERS = ("a" * 10, "b" * 10, "c" * 10)
A, B, C = OWNERS


def spans(table: list[Range]) -> list[tuple[int, int, str]]:
    return [(r.start, r.end, r.owner) for r in table]


def shared(*owned: tuple[str, int], token: int = 1) -> list[Range]:
    """Consecutive ranges of these sizes."""
    table, at = [], 0
    for owner, count in owned:
        if count:
            table.append(Range(start=at, end=at + count - 1, owner=owner, token=token))
        at += count
    return table


def buckets(table: list[Range], owner: str) -> set[int]:
    return {b for r in table if r.owner == owner for b in range(r.start, r.end + 1)}


def moved(table: list[Range], shares: dict[str, int], trusted: str | None) -> list[Range]:
    return merged(granted(frozen_towards(table, moving(table, shares, trusted)), 2, frozenset()))


@st.composite
def tables(draw: st.DrawFn) -> list[Range]:
    """Any partition into stretches of any owner, holes included."""
    cuts = sorted(draw(st.sets(st.integers(1, BUCKETS - 1), max_size=9)))
    edges = [0, *cuts, BUCKETS]
    out = []
    for low, high in pairwise(edges):
        owner = draw(st.sampled_from((*OWNERS, NOBODY, None)))
        if owner is not None:
            out.append(Range(start=low, end=high - 1, owner=owner, token=draw(st.integers(0, 3))))
    return out


@st.composite
def targets(draw: st.DrawFn) -> dict[str, int]:
    """Shares of everybody that fill the table."""
    low, high = sorted((draw(st.integers(0, BUCKETS)), draw(st.integers(0, BUCKETS))))
    return {A: low, B: high - low, C: BUCKETS - high}


@given(tables())
def test_filling_covers_every_bucket_once(table: list[Range]) -> None:
    whole = filled(table)
    assert [r.start for r in whole] == [0, *(r.end + 1 for r in whole[:-1])]
    assert whole[-1].end == BUCKETS - 1
    assert merged(merged(table)) == merged(table)


@given(tables(), targets(), st.sampled_from((*OWNERS, None)))
def test_everybody_gets_the_share_exactly_and_the_table_stays_whole(
    table: list[Range], shares: dict[str, int], trusted: str | None
) -> None:
    after = moved(table, shares, trusted)
    assert {o: weight(after, o) for o in OWNERS} == shares
    assert sum(size(r) for r in after) == BUCKETS
    assert all(a.end < b.start for a, b in pairwise(after))


@given(tables(), targets(), st.sampled_from((*OWNERS, None)))
def test_no_bucket_moves_that_need_not(table: list[Range], shares: dict[str, int], trusted: str | None) -> None:
    after = moved(table, shares, trusted)
    for owner in OWNERS:
        had, has = buckets(table, owner), buckets(after, owner)
        assert has >= had if len(has) >= len(had) else has <= had


@given(tables(), targets())
def test_asking_for_what_is_there_moves_nothing(table: list[Range], shares: dict[str, int]) -> None:
    after = moved(table, shares, None)
    assert moving(after, shares, None) == {}


@given(st.lists(st.integers(1, BUCKETS), min_size=1, max_size=6).map(sorted))
def test_a_rising_share_only_ever_adds_buckets_and_going_back_restores_all(weights: list[int]) -> None:
    table = shared((A, BUCKETS))
    for share in weights:
        before = buckets(table, B)
        frozen = raised_table(table, share)
        assert merged(thawed(frozen)) == table, "a withdrawal leaves a trace"
        assert {r.owner for r in frozen if r.next} <= {A}
        table = merged(granted(frozen, 2, frozenset({B})))
        assert buckets(table, B) >= before
        assert weight(table, B) == share
    back = merged(granted(taken_back(table, B, A), 9, frozenset()))
    assert buckets(back, A) == set(range(BUCKETS))


def raised_table(table: list[Range], share: int) -> list[Range]:
    spec = AssignmentSpec(
        epoch=1, rollout_uid="u", salt="u", drain=1, lease=1, ranges=table, cause=Cause(kind="Step", at=0)
    )
    return raised(spec, B, share, A)


@given(tables(), st.lists(st.tuples(st.integers(0, BUCKETS - 1), st.integers(0, BUCKETS - 1)), max_size=4))
def test_marking_changes_exactly_the_buckets_asked_for(table: list[Range], asked: list[tuple[int, int]]) -> None:
    wanted = sorted((min(a, b), max(a, b)) for a, b in asked)
    apart = [s for i, s in enumerate(wanted) if all(s[0] > e[1] for e in wanted[:i])]
    after = marked(table, apart, lambda r: r.model_copy(update={"next": C}))
    assert {b for r in after if r.next for b in range(r.start, r.end + 1)} == {
        b for low, high in apart for b in range(low, high + 1)
    }
    for owner in OWNERS:
        assert buckets(after, owner) == buckets(table, owner)


@pytest.mark.parametrize(
    ("before", "shares", "expected"),
    [
        (((A, 10_000),), {A: 9_000, B: 1_000}, [(0, 999, B), (1_000, 9_999, A)]),
        (((B, 1_000), (A, 9_000)), {A: 5_000, B: 5_000}, [(0, 4_999, B), (5_000, 9_999, A)]),
        (((B, 5_000), (A, 5_000)), {A: 9_000, B: 1_000}, [(0, 999, B), (1_000, 9_999, A)]),
        (((A, 5_000), (B, 3_000), (C, 2_000)), {A: 6_000, B: 3_000, C: 1_000}, None),
    ],
    ids=["first step", "second step", "going down", "fifty thirty twenty"],
)
def test_vectors(before: tuple[tuple[str, int], ...], shares: dict[str, int], expected: list[object] | None) -> None:
    table = shared(*before)
    after = moved(table, shares, A)
    if expected is not None:
        assert spans(merged(r.model_copy(update={"token": 0}) for r in after)) == expected
        return
    changed = sum(len(buckets(after, o) - buckets(table, o)) for o in OWNERS)
    assert changed == 1_000, "50/30/20 to 60/30/10 moves ten percent and no more"
    assert buckets(after, B) == buckets(table, B)
