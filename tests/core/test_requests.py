"""Which request is acted upon, where a rollback leads, and what is told about it."""

import pytest

from strategyrollout.api.assignment import Attempt, Cause, Quarantine, Record, Revert
from strategyrollout.core.observed import Observed, Request, Revision
from strategyrollout.core.requests import (
    MOST_OBJECTS,
    all_fresh,
    answered,
    due_rollback,
    forgotten,
    is_new,
    latched,
    pin_problem,
    rollback_outcomes,
    rollback_target,
)

V1, V2, V3 = "1" * 10, "2" * 10, "3" * 10
ON_TRIAL = Attempt(id="a", revision=V3, started_at=0, step_at=0)


def by_object(uid: str, to: str = "Previous") -> Request:
    return Request("Object", "Rollback", uid, f"name-{uid}", to)


def by_annotation(value: str) -> Request:
    return Request("Annotation", "Rollback", "rollback", value)


def world(*requests: Request, target: str | None = V2) -> Observed:
    revisions = {h: Revision(h, f"{h[0]}.0.0", frozenset()) for h in (V1, V2, V3)}
    return Observed(0, "ns", "n", "u", 1, requests=requests, revisions=revisions, target=revisions.get(target or ""))


RECORD = Record(stable=V2, history=[V1, V2])


@pytest.mark.parametrize(
    ("record", "to", "away", "lands"),
    [
        (RECORD, "Previous", V2, V1),
        (RECORD, "1.0.0", V2, V1),
        (RECORD, V1, V2, V1),
        (RECORD, "2.0.0", None, None),
        (RECORD, "3.0.0", None, None),
        (RECORD, "9.9.9", None, None),
        (Record(stable=V2, history=[V2]), "Previous", None, None),
        (Record(), "Previous", None, None),
        (RECORD.model_copy(update={"attempt": ON_TRIAL}), "Previous", V3, V2),
        (RECORD.model_copy(update={"attempt": ON_TRIAL}), "1.0.0", V3, V2),
        (RECORD.model_copy(update={"attempt": ON_TRIAL}), "3.0.0", None, None),
        (Record(attempt=ON_TRIAL), "Previous", V3, None),
        (RECORD.model_copy(update={"quarantine": [Quarantine(revision=V1, until=9)]}), "Previous", None, None),
    ],
    ids=[
        "the one before",
        "by version",
        "by hash",
        "to what serves",
        "to what was never trusted",
        "to what is not known",
        "nothing before",
        "nothing at all",
        "the candidate first",
        "the candidate first, wherever it leads",
        "to the candidate",
        "a first candidate to nobody",
        "not to one that was taken back",
    ],
)
def test_a_rollback_leads_away_from_what_is_being_left(
    record: Record, to: str, away: str | None, lands: str | None
) -> None:
    target = rollback_target(world(), record, by_object("u", to))
    assert (target.away, target.to) == (away, lands)
    assert bool(target.message) == (away is None)


def test_each_value_of_an_annotation_acts_once_and_again_after_it_was_gone() -> None:
    asked = by_annotation("bad fills")
    handled = latched(world(), RECORD, asked)
    assert is_new(RECORD, asked)
    assert not is_new(handled, asked)
    assert is_new(handled, by_annotation("bad fills again"))
    assert forgotten(world(asked), handled) is handled
    assert is_new(forgotten(world(), handled), asked)


def test_objects_are_known_by_their_whole_uid() -> None:
    handled = latched(world(), RECORD, by_object("uid-10"))
    assert is_new(handled, by_object("uid-1"))
    assert not is_new(handled, by_object("uid-10"))


def test_objects_come_first_and_one_that_leads_nowhere_is_passed_over() -> None:
    nowhere, good = by_object("u1", "9.9.9"), by_annotation("now")
    assert all_fresh(world(good, nowhere), RECORD, "Rollback") == [nowhere, good]
    found = due_rollback(world(good, nowhere), RECORD)
    assert found is not None
    assert found[0] == good


def test_what_is_still_there_is_never_forgotten_for_what_comes_later() -> None:
    crowd = [by_object(f"u{n}") for n in range(MOST_OBJECTS + 20)]
    seen, record = world(*crowd), RECORD
    while (waiting := all_fresh(seen, record, "Rollback")) != []:
        record = latched(seen, record, waiting[0])
    assert not any(is_new(record, r) for r in crowd[:MOST_OBJECTS])
    later = world(*crowd[MOST_OBJECTS:])
    for request in crowd[MOST_OBJECTS:]:
        record = latched(later, record, request)
    assert len(record.objects) <= MOST_OBJECTS
    assert not any(is_new(record, r) for r in crowd[MOST_OBJECTS:])


def test_one_revert_answers_everybody_who_meant_the_same() -> None:
    same, other = [by_object("u1"), by_annotation("x"), by_object("u2", "1.0.0")], by_object("u3", "3.0.0")
    record = answered(world(*same, other), RECORD, V1)
    assert [is_new(record, r) for r in (*same, other)] == [False, False, False, True]


def test_objects_are_told_how_it_ends() -> None:
    asked = by_object("u1")
    cause = Cause(kind="RollbackRequested", key="u1", message="bad fills", at=0)
    running = Revert(id="a", away=V2, to=V1, cause=cause, weight=10_000, timeout=False, lease=1)
    record = latched(world(), RECORD.model_copy(update={"revert": running}), asked)
    assert rollback_outcomes(world(asked), record)["name-u1"].outcome == "Running"
    done = record.model_copy(update={"revert": running.model_copy(update={"served_at": 5})})
    assert rollback_outcomes(world(asked), done)["name-u1"].outcome == "Succeeded"
    idle = latched(world(), RECORD, asked, "NothingToDo")
    assert rollback_outcomes(world(asked), idle)["name-u1"].outcome == "NothingToDo"
    assert rollback_outcomes(world(asked), RECORD) == {}


def pinned(to: str) -> Request:
    return Request("Pin", "Rollback", "spec.rollback", f"{to}|fills", to, "fills")


REMEDY = "name Previous or another version, or remove spec.rollback"
REVERTED = Revert(id="r", away=V3, to=V2, cause=Cause(kind="RollbackPinned", at=1), weight=1, timeout=True, lease=1)


@pytest.mark.parametrize(
    ("record", "to", "words"),
    [
        (RECORD.model_copy(update={"attempt": ON_TRIAL}), "3.0.0", "3.0.0 is the revision on trial, so nothing was"),
        (RECORD.model_copy(update={"attempt": ON_TRIAL}), V3, f"{V3} is the revision on trial, so nothing was"),
        (RECORD.model_copy(update={"attempt": ON_TRIAL}), "2.0.0", None),
        (RECORD.model_copy(update={"attempt": ON_TRIAL}), "9.9.9", None),
        (RECORD.model_copy(update={"attempt": ON_TRIAL}), "Previous", None),
        (RECORD, "9.9.9", "no revision '9.9.9' is kept"),
        (RECORD, "3.0.0", "3.0.0 has never been trusted with everything"),
        (RECORD, "2.0.0", None),
        (RECORD, "1.0.0", None),
        (RECORD.model_copy(update={"revert": REVERTED}), "3.0.0", None),
        (Record(), "9.9.9", None),
    ],
    ids=[
        "what is on trial",
        "what is on trial, by hash",
        "what serves beside it",
        "an unknown version: the candidate is left all the same",
        "whatever was before",
        "an unknown version",
        "a version that was never trusted",
        "what serves",
        "the one before",
        "one that has acted",
        "before there was anything",
    ],
)
def test_a_pin_that_leads_nowhere_is_a_problem_with_its_field_and_a_remedy(
    record: Record, to: str, words: str | None
) -> None:
    found = pin_problem(world(pinned(to)), record)
    if words is None:
        assert found is None
        return
    assert found is not None
    assert (found.reason, found.path) == ("Pinned", "spec.rollback.to")
    assert found.message.startswith(words)
    assert found.message.endswith(REMEDY)


def test_only_a_pin_is_told_so_on_the_rollout_because_an_object_says_it_itself() -> None:
    asked = by_object("1", "9.9.9")
    assert pin_problem(world(asked), RECORD) is None
