"""The barrier between Freeze and Grant, clause by clause."""

import pytest

from strategyrollout.api.assignment import AssignmentSpec, Cause, Range
from strategyrollout.core.moves import barrier, frozen_towards, granted, next_epoch, taken_back, thawed
from strategyrollout.core.observed import Consumer, Consumers, Stored

OLD, NEW = "1" * 10, "2" * 10
EPOCH, FREEZE = 77, 10_000


def stored(drain: int = 250) -> Stored:
    moving = Range(start=0, end=9_999, owner=OLD, next=NEW, token=1)
    spec = AssignmentSpec(
        epoch=EPOCH,
        rollout_uid="u",
        salt="u",
        drain=drain,
        lease=1_000,
        ranges=[moving],
        cause=Cause(kind="Step", at=0),
    )
    return Stored(spec, "1", FREEZE)


def router(name: str, acked: int = EPOCH, at: int = FREEZE + 10, *, empty: bool = False) -> Consumer:
    return Consumer(name, name, acked, empty, at)


def seen(*routers: Consumer, listed: int = FREEZE + 20, lost: int | None = None) -> Consumers:
    return Consumers(listed, routers, lost)


@pytest.mark.parametrize(
    ("consumers", "now", "timeout", "complete", "stopped"),
    [
        (None, FREEZE + 9_999, None, False, None),
        (seen(listed=FREEZE - 1), FREEZE + 9_999, None, False, None),
        (seen(), FREEZE + 249, None, False, FREEZE),
        (seen(), FREEZE + 250, None, True, FREEZE),
        (seen(router("a")), FREEZE + 259, None, False, FREEZE + 10),
        (seen(router("a")), FREEZE + 260, None, True, FREEZE + 10),
        (seen(router("a"), router("b", at=FREEZE + 100)), FREEZE + 349, None, False, FREEZE + 100),
        (seen(router("a"), router("b", at=FREEZE + 100)), FREEZE + 350, None, True, FREEZE + 100),
        (seen(router("a"), router("b", acked=EPOCH - 1)), FREEZE + 10**9, None, False, None),
        (seen(router("a"), router("b", acked=EPOCH + 1)), FREEZE + 10**9, None, False, None),
        (seen(router("a", acked=0)), FREEZE + 1_509, 1_000, False, None),
        (seen(router("a", acked=0)), FREEZE + 1_510, 1_000, False, FREEZE + 1_510),
        (seen(router("a", acked=0)), FREEZE + 1_760, 1_000, True, FREEZE + 1_510),
        (seen(router("a", empty=True)), FREEZE + 20, None, True, FREEZE + 10),
        (seen(router("a", empty=True), router("b")), FREEZE + 20, None, False, FREEZE + 10),
        (seen(router("a", empty=True), lost=FREEZE - 100), FREEZE + 20, None, False, FREEZE + 10),
        (seen(router("a", empty=True), lost=FREEZE - 300), FREEZE + 20, None, True, FREEZE + 10),
        (seen(router("a"), lost=FREEZE + 200), FREEZE + 449, None, False, FREEZE + 200),
        (seen(router("a"), lost=FREEZE + 200), FREEZE + 450, None, True, FREEZE + 200),
    ],
    ids=[
        "no list",
        "a list from before the Freeze",
        "nobody, not drained",
        "nobody, drained",
        "acked, not drained",
        "acked and drained",
        "drain counts from the last ack",
        "drained since the last ack",
        "an older ack is none",
        "a higher ack is none",
        "silent, within its right",
        "timed out, not drained",
        "timed out and drained",
        "all report zero",
        "one does not report zero",
        "zero, but one died a moment ago",
        "zero, and the dead one is drained",
        "one died after the Freeze, not drained",
        "one died after the Freeze, drained",
    ],
)
def test_a_freeze_is_complete_when_everybody_has_let_go(
    consumers: Consumers | None, now: int, timeout: int | None, complete: bool, stopped: int | None
) -> None:
    state = barrier(stored(), consumers, now, timeout=timeout)
    assert (state.complete, state.stopped_at) == (complete, stopped)


def test_a_restarted_process_counts_from_its_own_first_look() -> None:
    fresh = Stored(stored().spec, "1", FREEZE + 60_000)
    silent = seen(router("a", acked=0), listed=FREEZE + 60_001)
    assert not barrier(fresh, silent, FREEZE + 61_000, timeout=1_000).complete
    assert barrier(fresh, silent, FREEZE + 61_760, timeout=1_000).complete


@pytest.mark.parametrize(("epoch", "now", "expected"), [(5, 100, 100), (100, 100, 101), (200, 100, 201)])
def test_epochs_grow_past_the_object_and_the_clock(epoch: int, now: int, expected: int) -> None:
    assert next_epoch(epoch, now) == expected


def test_a_grant_is_a_new_token_and_a_withdrawal_is_none() -> None:
    frozen = frozen_towards([Range(start=0, end=9_999, owner=OLD, token=1)], {NEW: [(0, 999)]})
    assert [(r.owner, r.next) for r in frozen] == [(OLD, NEW), (OLD, None)]
    assert [(r.owner, r.token, r.leased) for r in granted(frozen, 9, frozenset({NEW}))] == [
        (NEW, 9, True),
        (OLD, 1, False),
    ]
    assert {(r.owner, r.next, r.token) for r in thawed(frozen)} == {(OLD, None, 1)}


def test_taking_back_freezes_what_was_granted_and_thaws_what_was_not() -> None:
    table = [
        Range(start=0, end=999, owner=NEW, token=2, leased=True),
        Range(start=1_000, end=9_999, owner=OLD, next=NEW, token=1),
    ]
    assert [(r.owner, r.next) for r in taken_back(table, NEW, OLD)] == [(NEW, OLD), (OLD, None)]
