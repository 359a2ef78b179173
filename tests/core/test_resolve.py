"""From YAML to gates: what a template, its parameters and overrides make, and what each mistake says."""

from decimal import Decimal
from typing import Any

import pytest

from strategyrollout.api.gates import GateTemplateSpec, Source
from strategyrollout.api.rollout import RolloutSpec
from strategyrollout.core.gates import Gate, Query
from strategyrollout.core.observed import Problem
from strategyrollout.core.resolve import resolve

DRAWDOWN: dict[str, Any] = {
    "summary": "Loss from the day's high-water mark",
    "params": [
        {"name": "limit", "required": True},
        {"name": "floor", "default": "-1"},
        {"name": "unused", "default": "3"},
    ],
    "query": "\n1 - strategy_equity / strategy_equity_high_water\n",
    "source": {"address": "http://thanos:9090", "ignore": ["replica"]},
    "limit": {"above": "{limit}", "below": "{floor}"},
    "reduce": "Sum",
    "interval": "250ms",
    "maxAge": "2s",
    "severity": "Promote",
    "failures": {"breaches": 2, "of": 3},
    "noData": {"action": "Revert", "after": "30s"},
}
TEMPLATES = {"ClusterGateTemplate/drawdown": DRAWDOWN}
BLUE_GREEN: dict[str, Any] = {
    "version": "1.0.0",
    "workload": "RequestDriven",
    "template": {"spec": {"containers": []}},
    "method": {"type": "BlueGreen"},
    "traffic": {"service": {"name": "momentum"}},
}
REF = {"kind": "ClusterGateTemplate", "name": "drawdown"}


def spec(*gates: dict[str, Any]) -> RolloutSpec:
    return RolloutSpec.model_validate({**BLUE_GREEN, "gates": gates})


def one(gate: dict[str, Any], templates: dict[str, Any] | None = None) -> tuple[tuple[Gate, ...], tuple[Problem, ...]]:
    return resolve(spec({"name": "dd", **gate}).gates, TEMPLATES if templates is None else templates)


def test_a_template_with_its_numbers() -> None:
    gates, problems = one({"template": REF, "params": {"limit": "0.03"}, "when": ["Always"]})
    assert problems == ()
    assert gates == (
        Gate(
            name="dd",
            query=Query(
                "1 - strategy_equity / strategy_equity_high_water",
                250,
                2_000,
                Source(address="http://thanos:9090", ignore=["replica"]),
            ),
            when=frozenset({"Always"}),
            above=Decimal("0.03"),
            below=Decimal(-1),
            reduce="Sum",
            severity="Promote",
            breaches=2,
            of=3,
            no_data="Revert",
            no_data_after=30_000,
        ),
    )


def test_the_rollout_may_override_everything_but_the_question() -> None:
    gates, problems = one(
        {
            "template": REF,
            "limit": {"below": "0.5"},
            "reduce": "Max",
            "interval": "1s",
            "maxAge": "4s",
            "severity": "Stop",
            "failures": {"breaches": 1, "of": 2},
            "noData": {"action": "Continue", "after": "1m"},
        }
    )
    assert problems == ()
    (gate,) = gates
    assert gate.query.text == "1 - strategy_equity / strategy_equity_high_water"
    assert (gate.query.interval, gate.query.max_age) == (1_000, 4_000)
    assert (gate.above, gate.below) == (None, Decimal("0.5"))
    assert (gate.reduce, gate.severity, gate.breaches, gate.of) == ("Max", "Stop", 1, 2)
    assert (gate.no_data, gate.no_data_after) == ("Continue", 60_000)


def test_a_query_of_its_own_has_the_defaults_of_a_template() -> None:
    gates, problems = one({"prometheus": {"query": "up"}, "limit": {"above": "0.05"}})
    assert problems == ()
    template = GateTemplateSpec.model_validate({"query": "up", "limit": {"above": "0.05"}})
    assert gates == one({"template": REF}, {"ClusterGateTemplate/drawdown": template})[0]
    assert gates[0].query == Query("up", 5_000, 15_000)
    assert gates[0].when == {"Rollout", "Bake"}


def test_rollouts_with_different_limits_share_the_query() -> None:
    tight, loose = (one({"template": REF, "params": {"limit": number}})[0][0] for number in ("0.01", "0.9"))
    assert tight.query.key == loose.query.key


def test_a_parameter_never_reaches_the_text_of_a_query() -> None:
    template = {**DRAWDOWN, "query": 'strategy_equity{desk="{limit}"}'}
    gates, _ = one({"template": REF, "params": {"limit": "7"}}, {"ClusterGateTemplate/drawdown": template})
    assert gates[0].query.text == 'strategy_equity{desk="{limit}"}'


def test_one_bad_gate_leaves_the_others() -> None:
    good = {"name": "good", "prometheus": {"query": "up"}, "limit": {"above": "1"}}
    bad = {"name": "bad", "template": {"kind": "GateTemplate", "name": "gone"}}
    gates, problems = resolve(spec(bad, good).gates, TEMPLATES)
    assert [gate.name for gate in gates] == ["good"]
    assert [problem.path for problem in problems] == ["spec.gates[bad].template"]


WRONG: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    (
        "a template that is not there",
        {"template": {"kind": "ClusterGateTemplate", "name": "gone"}},
        {},
        "template",
        "there is no ClusterGateTemplate gone in the cluster; create it or name another one",
    ),
    (
        "the other kind of the same name",
        {"template": {"kind": "GateTemplate", "name": "drawdown"}},
        {},
        "template",
        "there is no GateTemplate drawdown in the rollout's namespace; create it or name another one",
    ),
    (
        "a template that cannot be read",
        {"template": REF},
        {"interval": "soon"},
        "template",
        "ClusterGateTemplate drawdown cannot be read: spec.interval: Value error, must be a duration such as 250ms, "
        "10s, 5m or 1h30m; mend it, or name another one",
    ),
    (
        "a parameter that is needed",
        {"template": REF},
        {},
        "params.limit",
        'the template needs it; set params: {limit: "<number>"}',
    ),
    (
        "a parameter nobody declared",
        {"template": REF, "params": {"limit": "1", "limt": "2"}},
        {},
        "params.limt",
        "the template has no such parameter (it has: floor, limit, unused); remove or rename it",
    ),
    (
        "a parameter of a template without any",
        {"template": REF, "params": {"limit": "1"}},
        {"params": [], "limit": {"above": "1"}},
        "params.limit",
        "the template has no such parameter (it has: none); remove or rename it",
    ),
    (
        "a parameter without effect",
        {"template": REF, "params": {"limit": "1", "unused": "2"}},
        {},
        "params.unused",
        "it has no effect, because the limit in force does not name it; remove it",
    ),
    (
        "a parameter and a limit that overrides it",
        {"template": REF, "params": {"limit": "1"}, "limit": {"above": "2"}},
        {},
        "params.limit",
        "it has no effect, because the limit in force does not name it; remove it",
    ),
    (
        "a limit that names what the template does not declare",
        {"template": REF},
        {"limit": {"above": "{lmit}"}},
        "template",
        "its limit.above names {lmit}, which its params do not declare; declare it there or write a number",
    ),
    (
        "a limit of the rollout's own with a name in it",
        {"prometheus": {"query": "up"}, "limit": {"above": "{limit}"}},
        {},
        "limit.above",
        'must be a number such as "0.05"; names in braces belong into templates',
    ),
    (
        "no limit",
        {"prometheus": {"query": "up"}},
        {},
        "limit",
        'a gate with its own query needs a limit, such as limit: {above: "0.05"}',
    ),
    (
        "an empty limit",
        {"prometheus": {"query": "up"}, "limit": {}},
        {},
        "limit",
        "there is no limit; set limit.above, limit.below or both",
    ),
    (
        "limits the wrong way round",
        {"template": REF, "params": {"limit": "1", "floor": "2"}},
        {},
        "limit",
        "every value breaks it, being above 1 or below 2; above must not be less than below",
    ),
    ("neither template nor query", {}, {}, "", "set exactly one of template and prometheus"),
    (
        "an empty query",
        {"prometheus": {"query": " \n"}, "limit": {"above": "1"}},
        {},
        "prometheus.query",
        "the query is empty; write one",
    ),
    (
        "a template with an empty query",
        {"template": REF, "params": {"limit": "1"}},
        {"query": " "},
        "template",
        "the query is empty; write one",
    ),
]


@pytest.mark.parametrize(("what", "gate", "template", "field", "message"), WRONG, ids=[row[0] for row in WRONG])
def test_a_mistake_is_named_with_its_field_and_remedy(
    what: str, gate: dict[str, Any], template: dict[str, Any], field: str, message: str
) -> None:
    gates, problems = one(gate, {"ClusterGateTemplate/drawdown": {**DRAWDOWN, **template}})
    path = "spec.gates[dd]" + (f".{field}" if field else "")
    assert gates == ()
    assert problems == (Problem("InvalidGate", f"{path}: {message}", path),), what
