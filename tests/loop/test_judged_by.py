"""Which gates are in force, from the objects the operator has seen: no API server is asked for any of this."""

from __future__ import annotations

from typing import Any

import pytest

from strategyrollout.api.assignment import Attempt, Record
from strategyrollout.api.gates import Gate as WrittenGate
from strategyrollout.api.rollout import OnBlind
from strategyrollout.cluster.access import Access
from strategyrollout.cluster.apply import Applier
from strategyrollout.cluster.background import Background
from strategyrollout.cluster.cache import Cache
from strategyrollout.cluster.client import Api
from strategyrollout.cluster.inputs import Inputs, parse_spec, references, traffic_of
from strategyrollout.cluster.kinds import REVISIONS, ROLLOUTS
from strategyrollout.core.build import Owner, gate_snapshot
from strategyrollout.core.resolve import kept_with_attempt
from strategyrollout.ports import Key
from tests.core.simulation import canary

Body = dict[str, Any]
KEY, OWNER = Key("desk", "momentum"), Owner("desk", "momentum", "uid-momentum")
GATE: Body = {"name": "rejects", "prometheus": {"query": "up"}, "limit": {"above": "0.5"}}
OTHER: Body = {**GATE, "name": "latency"}
REVERT = {"action": "Revert", "after": "5s"}
NO_LIMIT: Body = {**GATE, "limit": {"above": "half"}}
LATER: Body = {**GATE, "severity": "Page"}


class Seen:
    """Inputs over a cache in which an attempt began with one gate; a process that has just been started."""

    def __init__(self, *gates: Body, on_blind: Body | None = None) -> None:
        self.cache = Cache(references, lambda kind, old, new: None)
        api, background = Api(Access("http://nowhere.invalid")), Background()
        applier = Applier(api, self.cache)
        self.inputs = Inputs(api, self.cache, applier, background, wake=lambda key: None, now=lambda: 0)
        began = [WrittenGate.model_validate(gate) for gate in gates]
        kept = kept_with_attempt(began, OnBlind.model_validate(on_blind or {}), {})
        snapshot = gate_snapshot(OWNER, kept)
        snapshot["metadata"] |= {"uid": "s", "resourceVersion": "1"}
        self.cache.put(REVISIONS, snapshot)
        attempt = Attempt(id="a", revision="b" * 10, started_at=0, step_at=0, templates=snapshot["metadata"]["name"])
        self.record = Record(attempt=attempt)

    def limits(self, spec: Body) -> dict[str, str]:
        """Gates in force with their limits, when this is the rollout's spec now."""
        meta = {"name": "momentum", "namespace": "desk", "uid": OWNER.uid, "resourceVersion": "2", "generation": 2}
        rollout = {"metadata": meta, "spec": spec}
        self.cache.put(ROLLOUTS, rollout)
        parsed, problems = parse_spec(rollout)
        assert parsed is None
        assert problems
        self.force = self.inputs.gates(KEY, rollout, parsed, self.record)
        assert self.force.snapshot is None
        return {g.name: str(g.above) for g in self.force.gates}


@pytest.mark.parametrize(
    ("change", "limits"),
    [
        ({"replicas": "many"}, {"rejects": "0.5"}),
        ({"replicas": "many", "gates": []}, {"rejects": "0.5"}),
        ({"gates": [NO_LIMIT]}, {"rejects": "0.5"}),
        ({"gates": [LATER, OTHER]}, {"rejects": "0.5", "latency": "0.5"}),
        ({"gates": 7}, {"rejects": "0.5"}),
        ({"gates": [None, "rejects"]}, {"rejects": "0.5"}),
        ({"onDeadline": "Escalate", "gates": [{**GATE, "limit": {"above": "0.1"}}]}, {"rejects": "0.1"}),
        ({"onDeadline": "Escalate", "gates": [{**GATE, "onWeekend": "Hold"}]}, {"rejects": "0.5"}),
    ],
)
def test_an_attempt_keeps_its_gates_whatever_cannot_be_read(change: Body, limits: dict[str, str]) -> None:
    assert Seen(GATE).limits(canary("10%", gates=[GATE]) | change) == limits


def test_a_spec_that_is_gone_altogether_takes_no_gate_away() -> None:
    assert Seen(GATE).limits({}) == {"rejects": "0.5"}


@pytest.mark.parametrize(
    ("written", "action"), [(None, "Revert"), ({"action": "Hold"}, "Hold"), ({"action": "Shrug"}, "Revert")]
)
def test_the_policy_for_being_blind_is_read_by_itself_or_kept(written: Body | None, action: str) -> None:
    seen = Seen(GATE, on_blind=REVERT)
    seen.limits(canary("10%", replicas="many") | ({"onBlind": written} if written else {}))
    assert seen.force.on_blind is not None
    assert seen.force.on_blind.action == action


def test_an_attempt_of_an_older_operator_keeps_those_gates_that_can_be_read_by_themselves() -> None:
    seen = Seen()
    seen.record = Record(attempt=seen.record.attempt.model_copy(update={"templates": None}))  # type: ignore[union-attr]
    assert seen.limits(canary("10%", replicas="many", gates=[LATER, OTHER])) == {"latency": "0.5"}
    assert seen.force.unjudged == ("rejects",)


@pytest.mark.parametrize("change", [{"replicas": "many"}, {"gates": 7}, {"method": {"type": "Later"}}])
def test_who_leads_requests_where_is_known_of_a_spec_that_cannot_be_read(change: Body) -> None:
    spec = canary("10%") | change
    traffic = traffic_of({"spec": spec}, None)
    assert traffic is not None
    assert traffic.haproxy is not None
    assert traffic_of({"spec": spec | {"traffic": {"port": 7}}}, None) is None
