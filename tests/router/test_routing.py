"""The hash standard and the reading of tables, without a proxy."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategyrollout.core.routing import (
    Span,
    Table,
    UnusableTable,
    backends_in,
    bucket_of,
    epoch_in,
    is_unit,
    left_behind,
    live_rows,
    not_after,
    parse_table,
    read_interval,
    rows,
)
from tests.router.router import CANDIDATE, STABLE, UID, assignment, span


@pytest.mark.parametrize(
    ("salt", "unit", "bucket"),
    [("ro-7f3a", "ACC-00000001", 7113), ("ro-7f3a", "42", 9819), ("r1", "ACC-00000001", 333), ("", "42", 2135)],
)
def test_the_hash_standard_keeps_its_published_vectors(salt: str, unit: str, bucket: int) -> None:
    assert bucket_of(salt, unit) == bucket


@pytest.mark.parametrize(
    ("unit", "accepted"),
    [
        ("42", True),
        ("a b", True),
        ("~" * 128, True),
        ("", False),
        ("a" * 129, False),
        (" 42", False),
        ("42 ", False),
        ("a\tb", False),
        ("é", False),
        ("a\x7f", False),
    ],
)
def test_units_are_short_printable_ascii(unit: str, accepted: bool) -> None:
    assert is_unit(unit) is accepted


def test_a_table_is_read_with_fields_of_later_versions_in_it() -> None:
    spec = assignment(7, span(5000, 9999, STABLE), span(0, 4999, STABLE, to=CANDIDATE, token=3, leased=True))
    table = parse_table(spec, UID)
    assert table == Table(
        epoch=7,
        drain=500,
        lease=3000,
        spans=(Span(0, 4999, STABLE, CANDIDATE, 3, True), Span(5000, 9999, STABLE, None, 1, False)),
    )
    assert table.leased
    assert table.revisions == frozenset({STABLE, CANDIDATE})
    assert [table.owner_of(bucket) for bucket in (0, 5000)] == [None, STABLE]
    assert not_after(1000, table.lease) == 4000


@pytest.mark.parametrize(
    ("last", "interval"),
    [
        (span(0, 4999, CANDIDATE, leased=True), 1000),
        (span(0, 4999, CANDIDATE, to=STABLE, leased=True), None),
        (span(0, 4999, STABLE), None),
    ],
    ids=["leased and served", "leased and frozen", "not leased"],
)
def test_only_what_is_leased_and_served_needs_reads(last: dict[str, Any], interval: int | None) -> None:
    table = parse_table(assignment(7, span(5000, 9999, STABLE), last), UID)
    assert read_interval(table) == interval


@pytest.mark.parametrize(("drain", "limit"), [("250ms", 250), ("0s", 30_000)])
def test_requests_have_a_limit_also_where_no_drain_is_declared(drain: str, limit: int) -> None:
    assert parse_table(assignment(1, drain=drain), UID).limit == limit


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rolloutUID": "another"}, "spec.rolloutUID is another"),
        ({"algorithm": "md5"}, "spec.algorithm md5"),
        ({"ranges": [span(0, 10, STABLE), span(10, 20, STABLE)]}, "10-20 overlaps"),
        ({"ranges": [span(0, 10_000, STABLE)]}, "0-10000"),
        ({"ranges": [span(5, 4, STABLE)]}, "5-4"),
        ({"ranges": [{"from": 1}]}, "spec cannot be read: KeyError 'to'"),
        ({"ranges": [7]}, "spec cannot be read: TypeError"),
        ({"drain": "soon"}, "duration"),
        ({"lease": "0s"}, "above zero"),
        ({"epoch": 0}, "above zero"),
        ({"epoch": None}, "TypeError"),
    ],
)
def test_a_table_that_cannot_be_enforced_is_refused_as_a_whole(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UnusableTable, match=says):
        parse_table({**assignment(1, span(0, 9999, STABLE)), **change}, UID)


def test_the_map_says_who_is_admitted_and_carries_what_an_agent_needs_to_go_on() -> None:
    table = parse_table(
        assignment(
            9,
            span(0, 0, CANDIDATE, token=4, leased=True),
            span(1, 99, STABLE, to=CANDIDATE, token=2),
            span(100, 199, "nobody"),
        ),
        UID,
    )
    backends = {STABLE: "slot0", CANDIDATE: "slot1"}
    on_disk = rows(table, backends)
    assert on_disk == [
        ("0", f"admit:slot1:{CANDIDATE}:4:leased"),
        ("1:99", f"frozen:slot0:{STABLE}:2:free"),
        ("100:199", "nobody"),
        ("10002", "9"),
    ]
    live = live_rows(table, backends, not_after=1234, admitting=True)
    assert live == [*on_disk, ("10000", "1234"), ("10001", "yes")]
    assert (backends_in(live), epoch_in(live), epoch_in([])) == (backends, 9, 0)


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        (None, [span(0, 99, STABLE, to=CANDIDATE)], {STABLE}),
        ([span(0, 99, STABLE)], [span(0, 99, STABLE, to=CANDIDATE)], {STABLE}),
        # Tables in between were missed: requests in flight are where this router sent them.
        ([span(0, 99, STABLE)], [span(50, 60, CANDIDATE, to=STABLE)], {STABLE, CANDIDATE}),
        ([span(0, 9, CANDIDATE), span(10, 99, STABLE)], [span(50, 60, STABLE, to=CANDIDATE)], {STABLE}),
        ([span(0, 99, STABLE)], [span(0, 99, CANDIDATE)], {STABLE}),
        # The regular end of a move: what was frozen was left when it was frozen.
        ([span(0, 99, STABLE, to=CANDIDATE)], [span(0, 99, CANDIDATE)], set()),
        ([span(0, 99, STABLE, to=CANDIDATE)], [span(0, 99, STABLE)], set()),
        ([span(0, 99, "nobody")], [span(0, 99, "nobody", to=CANDIDATE)], set()),
    ],
)
def test_what_is_left_behind_is_where_this_router_sent_what_it_sends_there_no_more(
    before: list[Any] | None, after: list[Any], left: set[str]
) -> None:
    old = parse_table(assignment(1, *before), UID) if before else None
    assert left_behind(parse_table(assignment(2, *after), UID), old) == left


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=128), st.integers(0, 9999))
def test_raising_a_share_takes_no_unit_from_the_candidate(unit: str, share: int) -> None:
    bucket = bucket_of("salt", unit)
    assert 0 <= bucket <= 9999
    for raised in (share + 1, 10_000):
        assert bucket >= share or bucket < raised
