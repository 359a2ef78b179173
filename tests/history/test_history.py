"""The checker finds each broken rule, by its name and no other, and nothing in a good history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from strategyrollout.api.assignment import AssignmentSpec, Attempt, Cause, Quarantine, Range, Record, Revert
from tests.history import History

V1, V2, V3 = "1" * 10, "2" * 10, "3" * 10
T = 1_700_000_000_000


def cause(kind: Any = "Step", at: int = T) -> Cause:
    return Cause(kind=kind, at=at)


def table(at: int, *ranges: Range, why: Any = "Step", **record: Any) -> AssignmentSpec:
    return AssignmentSpec(
        epoch=at,
        rollout_uid="u",
        salt="u",
        drain=250,
        lease=10_000,
        ranges=list(ranges),
        cause=cause(why, at),
        record=Record(**record),
    )


def span(start: int, end: int, owner: str, token: int, **more: Any) -> Range:
    return Range(start=start, end=end, owner=owner, token=token, **more)


def attempt(name: str = "a-1", revision: str = V2) -> Attempt:
    return Attempt(id=name, revision=revision, started_at=T, step_at=T)


def reverted(at: int, *, stopped: int | None = None, kind: Any = "GateBreached") -> Revert:
    return Revert(
        id="a-1",
        away=V2,
        to=V1,
        cause=cause(kind, at),
        weight=1_000,
        timeout=True,
        lease=10_000,
        stopped_at=stopped,
        served_at=stopped,
    )


BARRED = [Quarantine(revision=V2, until=T + 1_000_000)]


def tables() -> list[AssignmentSpec]:
    """v1 serves; v2 gets 10 %, then is taken back."""
    rest = span(1_000, 9_999, V1, T)
    return [
        table(T, span(0, 9_999, V1, T), stable=V1),
        table(T + 10, span(0, 9_999, V1, T), stable=V1, attempt=attempt()),
        table(T + 20, span(0, 999, V1, T, next=V2), rest, stable=V1, attempt=attempt()),
        table(T + 300, span(0, 999, V2, T + 300, leased=True), rest, stable=V1, attempt=attempt()),
        table(
            T + 1_000,
            span(0, 999, V2, T + 300, leased=True, next=V1),
            rest,
            stable=V1,
            revert=reverted(T + 1_000),
            quarantine=BARRED,
        ),
        table(
            T + 1_300,
            span(0, 999, V1, T + 1_300),
            rest,
            stable=V1,
            revert=reverted(T + 1_000, stopped=T + 1_050),
            quarantine=BARRED,
        ),
    ]


def history(versions: list[AssignmentSpec]) -> History:
    told = History()
    told.declare([1_000, 5_000, 10_000])
    told.record_wish(T + 1, V2)
    for version in versions:
        told.record_table(version.epoch, version)
    told.record_order("acme", 7, V1, T + 1, T + 200)
    told.record_order("acme", 7, V2, T + 310, T + 1_100)
    told.record_order("acme", 7, V1, T + 1_310, None)
    told.record_order("acme", 7, V2, T + 1_200, T + 1_201, accepted=False)
    told.record_replicas(T, V1, 2, 2)
    told.record_replicas(T + 10, V2, 2, 2)
    told.record_replicas(T + 2_000, V2, 0, 2)
    return told


def test_a_good_history_breaks_nothing() -> None:
    history(tables()).assert_clean()


def test_what_is_recorded_twice_counts_once() -> None:
    told = history([version for version in tables() for _ in range(2)])
    assert len(told.versions) == 6
    told.assert_clean()


def _epoch_falls(told: History) -> None:
    late = told.versions[-1].spec
    told.record_table(T + 1_400, late.model_copy(update={"epoch": T + 1_300, "drain": 300}))


def _token_falls(told: History) -> None:
    told.record_table(T + 1_400, table(T + 1_400, span(0, 9_999, V1, T), stable=V1))


def _token_of_two_owners(told: History) -> None:
    told.record_table(T + 1_400, table(T + 1_400, span(0, 9_999, V1, T + 1_300, next=V3), stable=V1))
    told.record_table(T + 1_500, table(T + 1_500, span(0, 9_999, V3, T + 1_300), stable=V3))


def _overlap(told: History) -> None:
    twice = (span(0, 9_999, V1, T + 1_300), span(5, 6, V1, T + 1_300))
    told.record_table(T + 1_400, table(T + 1_400, *twice, stable=V1))


def _owner_changes_at_once(told: History) -> None:
    told.record_table(T + 1_400, table(T + 1_400, span(0, 9_999, V3, T + 1_400), stable=V3))


def _another_than_next_is_granted(told: History) -> None:
    told.record_table(T + 1_400, table(T + 1_400, span(0, 9_999, V1, T + 1_300, next="4" * 10), stable=V1))
    told.record_table(T + 1_500, table(T + 1_500, span(0, 9_999, V3, T + 1_500), stable=V3))


def _a_repair_serves_at_once(told: History) -> None:
    told.record_loss()
    told.record_table(T + 1_400, table(T + 1_400, span(0, 9_999, V1, T + 1_400), stable=V1))


def _share_rises_after_revert(told: History) -> None:
    rest = span(1_000, 9_999, V1, T)
    moving = span(0, 999, V1, T + 1_300, next=V2)
    told.record_table(T + 1_400, table(T + 1_400, moving, rest, stable=V1, revert=told.versions[-1].spec.record.revert))


def _attempt_comes_back(told: History) -> None:
    told.record_retry(T + 1_350)
    late = told.versions[-1].spec
    told.record_table(T + 1_400, table(T + 1_400, *late.ranges, stable=V1, attempt=attempt("a-1")))


def _new_attempt_unasked(told: History) -> None:
    late = told.versions[-1].spec
    told.record_table(T + 1_400, table(T + 1_400, *late.ranges, stable=V1, attempt=attempt("a-2")))


def _quarantine_left_by_applying_again(told: History) -> None:
    told.record_wish(T + 1_310, V1)
    told.record_wish(T + 1_320, V2)
    _new_attempt_unasked(told)


def _increase_takes_a_bucket(told: History) -> None:
    told.replicas.pop()  # v2 keeps its pods here
    told.record_retry(T + 1_350)
    mine, theirs = span(0, 4_999, V2, T + 1_500, leased=True), span(5_000, 9_999, V1, T + 1_300)
    trying = attempt("a-2")
    told.record_table(
        T + 1_400,
        table(T + 1_400, span(0, 4_999, V1, T + 1_300, next=V2), theirs, stable=V1, attempt=trying),
    )
    told.record_table(T + 1_500, table(T + 1_500, mine, theirs, stable=V1, attempt=trying))
    fewer = span(0, 999, V2, T + 1_500, leased=True), span(1_000, 4_999, V2, T + 1_500, next=V1), theirs
    told.record_table(T + 1_600, table(T + 1_600, *fewer, stable=V1, attempt=trying))


def _jump(told: History) -> None:
    told.record_retry(T + 1_350)
    moving = span(0, 1_499, V1, T + 1_300, next=V2), span(1_500, 9_999, V1, T + 1_300)
    told.record_table(T + 1_400, table(T + 1_400, *moving, stable=V1, attempt=attempt("a-2")))


def _two_at_once(told: History) -> None:
    told.record_order("acme", 7, V1, T + 250, T + 320)


def _two_at_once_with_one_that_never_ends(told: History) -> None:
    told.record_order("zeta", 7, V2, T + 400, None)
    told.record_order("zeta", 7, V1, T + 1_400, T + 1_401)


def _served_by_whom_it_was_taken_from(told: History) -> None:
    told.record_order("zeta", 7, V1, T + 400, T + 401)


def _served_after_stopped(told: History) -> None:
    told.record_order("beta", 8, V2, T + 1_060, T + 1_061)


def _scaled_while_serving(told: History) -> None:
    told.record_replicas(T + 500, V1, 1, 2)
    told.record_replicas(T + 600, V1, 2, 2)


BROKEN: list[tuple[Callable[[History], None], str]] = [
    (_epoch_falls, "epochs-grow"),
    (_token_falls, "tokens-grow"),
    (_token_of_two_owners, "tokens-grow"),
    (_overlap, "whole-table"),
    (_owner_changes_at_once, "owner-through-freeze"),
    (_another_than_next_is_granted, "owner-through-freeze"),
    (_a_repair_serves_at_once, "owner-through-freeze"),
    (_share_rises_after_revert, "reverted-stays-reverted"),
    (_attempt_comes_back, "reverted-stays-reverted"),
    (_new_attempt_unasked, "reverted-stays-reverted"),
    (_quarantine_left_by_applying_again, "reverted-stays-reverted"),
    (_increase_takes_a_bucket, "superset-on-increase"),
    (_jump, "no-jump"),
    (_two_at_once, "one-revision-per-unit"),
    (_two_at_once_with_one_that_never_ends, "one-revision-per-unit"),
    (_served_by_whom_it_was_taken_from, "only-the-owner-serves"),
    (_served_after_stopped, "stopped-means-stopped"),
    (_scaled_while_serving, "scaled-while-serving"),
]


@pytest.mark.parametrize(("breaking", "rule"), BROKEN, ids=[b.__name__.strip("_") for b, _ in BROKEN])
def test_each_broken_rule_is_found_by_its_name_and_no_other(breaking: Callable[[History], None], rule: str) -> None:
    told = history(tables())
    breaking(told)
    assert {v.rule for v in told.violations()} == {rule}
    with pytest.raises(AssertionError, match=rule):
        told.assert_clean()


def test_declared_flips_excuse_one_write_moves_and_overlaps() -> None:
    told = History(flips=True)
    told.record_table(T, table(T, span(0, 9_999, V1, T), stable=V1))
    told.record_table(T + 10, table(T + 10, span(0, 9_999, V2, T + 10), stable=V2))
    told.record_order("acme", 7, V1, T + 5, T + 50)
    told.record_order("acme", 7, V2, T + 20, T + 60)
    told.assert_clean()


def test_a_restored_table_is_not_judged_but_what_follows_it_is() -> None:
    told = history(tables())
    told.record_table(T + 2_100, tables()[3], foreign=True)
    told.record_order("acme", 7, V2, T + 2_101, T + 2_102)
    told.assert_clean()
    told.record_table(T + 2_200, table(T + 1_250, span(0, 9_999, V1, T + 1_300, next=V1), stable=V1))
    assert {v.rule for v in told.violations()} >= {"epochs-grow"}


def test_declaring_fewer_replicas_is_not_taking_pods_away() -> None:
    told = history(tables())
    told.record_replicas(T + 500, V1, 1, 1)
    told.assert_clean()


def test_a_tolerance_forgives_the_way_from_router_to_backend() -> None:
    told = History(tolerance=20)
    for version in tables():
        told.record_table(version.epoch, version)
    told.record_order("beta", 8, V2, T + 1_060, T + 1_061)
    told.assert_clean()


def test_applying_it_anew_after_its_quarantine_is_a_new_wish() -> None:
    told = history(tables())
    told.record_wish(T + 1_001_000, V1)
    told.record_wish(T + 1_002_000, V2)
    late = told.versions[-1].spec
    told.record_table(T + 1_003_000, table(T + 1_003_000, *late.ranges, stable=V1, attempt=attempt("a-2")))
    told.assert_clean()
