"""Operators and routers of different versions read what the other has written."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from strategyrollout.api.assignment import AssignmentSpec, Cause, Range, Record
from strategyrollout.cluster.assignments import parse_assignment
from strategyrollout.cluster.inputs import parse_spec
from strategyrollout.core.routing import parse_table
from tests.core.simulation import canary

TABLE = AssignmentSpec(
    epoch=7,
    rollout_uid="u",
    salt="u",
    header="X-Account-Id",
    drain=250,
    lease=10_000,
    ranges=[Range(start=0, end=9_999, owner="a" * 10, token=7)],
    cause=Cause(kind="Initial", at=7),
    record=Record(stable="a" * 10, routers="momentum-routers-0123456789"),
)


def stored(**changes: Any) -> dict[str, Any]:
    return {**TABLE.to_json(), **changes}


def test_what_a_newer_operator_notes_in_its_record_does_not_stop_an_older_one() -> None:
    spec = stored(record={**TABLE.to_json()["record"], "approvals": ["x"]}, cause={**TABLE.to_json()["cause"], "of": 1})
    assert parse_assignment(spec) == TABLE


@pytest.mark.parametrize(
    "changes",
    [
        {"shadow": "b" * 10},
        {"ranges": [{**TABLE.to_json()["ranges"][0], "mirror": "b" * 10}]},
        {"record": {**TABLE.to_json()["record"], "stable": 7, "approvals": []}},
    ],
    ids=["beside the table", "in the table", "with another mistake"],
)
def test_what_may_decide_who_serves_is_never_left_out(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parse_assignment(stored(**changes))


def test_routers_of_an_older_version_take_tables_of_a_newer_operator() -> None:
    spec = stored(record={"approvals": ["x"]}, shadow="b" * 10)
    assert parse_table(spec, "u").owner_of(0) == "a" * 10


def test_a_field_that_only_a_newer_operator_knows_is_a_problem_and_the_gates_stay() -> None:
    raw = canary("10%")
    spec, problems = parse_spec({"spec": {**raw, "onWeekend": "Hold"}})
    assert [(p.path, p.lasting) for p in problems] == [("spec.onWeekend", True)]
    assert spec == parse_spec({"spec": raw})[0]


def test_a_value_that_cannot_be_read_leaves_no_spec() -> None:
    spec, problems = parse_spec({"spec": {**canary("10%"), "replicas": "many", "onWeekend": "Hold"}})
    assert spec is None
    assert problems
