"""A person's override is put on record by the operator that finds it: once, and nobody else's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from strategyrollout.adopting import Adoptions
from strategyrollout.api.assignment import Cause
from strategyrollout.api.status import RolloutStatus
from strategyrollout.core.decide import decide
from strategyrollout.core.decision import Decision
from strategyrollout.core.observed import Observed
from strategyrollout.ports import Key
from tests.core.simulation import REVISIONS, on_canary

KEY = Key("desk", "momentum")


class Kept:
    """`ports.Evidence` in a list."""

    def __init__(self) -> None:
        self.found: list[Mapping[str, Any]] = []

    def decided(self, observed: Observed, decision: Decision, written: Mapping[str, Any]) -> None:
        raise AssertionError("nothing was decided")

    def adopted(self, observed: Observed, decision: Decision, found: Mapping[str, Any]) -> None:
        assert decide(observed) == decision
        self.found.append(found)


def overridden(reported: int = 0, kind: Any = "Override") -> Observed:
    """A table of alice's, of which the report knows the epoch `reported`."""
    world = on_canary().observe()
    assert world.stored is not None
    cause = Cause(kind=kind, message="override by alice: fills", by="alice", at=world.now)
    table = world.stored.spec.model_copy(update={"epoch": 9, "cause": cause})
    return replace(world, stored=replace(world.stored, spec=table), status=RolloutStatus(epoch=reported))


def test_it_tells_who_and_why_and_after_which_epoch_and_the_shares() -> None:
    kept = Kept()
    adoptions, world = Adoptions(kept), overridden(reported=4)
    for _ in range(3):
        adoptions.saw(KEY, world, decide(world))
    (found,) = kept.found
    assert (found["after"], found["seenAt"], found["spec"]["epoch"]) == (4, world.now, 9)
    assert found["spec"]["cause"]["by"] == "alice"
    assert {r["owner"] for r in found["spec"]["ranges"]} == {REVISIONS["v1"], REVISIONS["v2"]}
    adoptions.forget(KEY)
    adoptions.saw(KEY, world, decide(world))
    assert len(kept.found) == 2


@pytest.mark.parametrize(
    "world",
    [overridden(reported=9), overridden(kind="GateBreached"), replace(overridden(), stored=None)],
    ids=["what an operator has reported", "what an operator decided", "what is not there"],
)
def test_nothing_else_is_put_on_record(world: Observed) -> None:
    kept = Kept()
    Adoptions(kept).saw(KEY, world, decide(world))
    assert kept.found == []


def test_an_override_that_this_process_finished_has_its_evidence_already() -> None:
    kept = Kept()
    adoptions, world = Adoptions(kept), overridden()
    adoptions.wrote(KEY, 9)
    adoptions.saw(KEY, world, decide(world))
    assert kept.found == []
    Adoptions(None).saw(KEY, world, decide(world))
