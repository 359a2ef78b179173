"""Manifests that the API server must refuse, as data: what is wrong, the field it names, the remedy it gives.

Kept apart from the test so that others (the command line, the demo) can hold the same mistakes against their own doors.
What only the operator can tell (a missing template or ConfigMap, wrong PromQL, wrong labels) is not here.
"""

from dataclasses import dataclass
from typing import Any

from tests.api.manifests import REMOVE, Object, assignment, changed, sample

CANARY = sample("canary.yaml")
BLUE_GREEN = sample("bluegreen.yaml")
TEMPLATE = sample("gate-template.yaml")
ROLLBACK = sample("rollback.yaml")
ASSIGNMENT = assignment()

_STEPS = "spec.method.canary.steps"
_IMAGE = CANARY["spec"]["template"]["spec"]["containers"][0]["image"]
_SIDECAR = {"name": "sidecar", "image": "registry.example/sidecar:1.0"}


@dataclass(frozen=True)
class Refusal:
    """One mistake. With `before`, that object is accepted first and the mistake is the change."""

    mistake: str
    manifest: Object
    field: str
    remedy: str
    before: Object | None = None


def _canary(mistake: str, changes: dict[str, Any], field: str, remedy: str) -> Refusal:
    return Refusal(mistake, changed(CANARY, changes), field, remedy)


def _blue_green(mistake: str, changes: dict[str, Any], field: str, remedy: str) -> Refusal:
    return Refusal(mistake, changed(BLUE_GREEN, changes), field, remedy)


def _template(mistake: str, changes: dict[str, Any], field: str, remedy: str) -> Refusal:
    return Refusal(mistake, changed(TEMPLATE, changes), field, remedy)


def _update(mistake: str, base: Object, changes: dict[str, Any], field: str, remedy: str) -> Refusal:
    return Refusal(mistake, changed(base, changes), field, remedy, before=base)


_POD_TEMPLATE = (
    _canary(
        "a tag instead of a digest",
        {"spec.template.spec.containers.0.image": "registry.example/momentum:2.4.0"},
        "spec.template.spec.containers[0].image",
        "image registry.example/momentum:2.4.0 must be pinned by digest (name@sha256:<64 hex>)",
    ),
    _canary(
        "a digest cut short",
        {"spec.template.spec.containers.0.image": _IMAGE[:-1]},
        "spec.template.spec.containers[0].image",
        "must be pinned by digest",
    ),
    _canary(
        "a tag in the second container",
        {"spec.template.spec.containers.1": _SIDECAR},
        "spec.template.spec.containers[1].image",
        "image registry.example/sidecar:1.0 must be pinned by digest",
    ),
    _canary(
        "a tag in an init container",
        {"spec.template.spec.initContainers": [_SIDECAR]},
        "spec.template.spec.initContainers[0].image",
        "must be pinned by digest",
    ),
    _canary(
        "an init container without an image",
        {"spec.template.spec.initContainers": [{"name": "migrate"}]},
        "spec.template.spec.initContainers[0].image",
        "Required value",
    ),
    _canary(
        "two containers of one name",
        {"spec.template.spec.containers.1": {"name": "strategy", "image": _IMAGE}},
        "spec.template.spec.containers[1]",
        "Duplicate value",
    ),
    _canary(
        "no containers",
        {"spec.template.spec.containers": []},
        "spec.template.spec.containers",
        "should have at least 1 items",
    ),
    _canary(
        "an ephemeral container",
        {"spec.template.spec.ephemeralContainers": [{"name": "debug", "image": _IMAGE}]},
        "spec.template.spec",
        "ephemeralContainers cannot be part of a template; remove them",
    ),
    _canary(
        "a label that is the operator's",
        {"spec.template.metadata.labels": {"strategyrollout.io/revision": "5f8c9d01ab"}},
        "spec.template.metadata.labels",
        "reserved for the operator; remove them",
    ),
    _canary(
        "an annotation that is the operator's",
        {"spec.template.metadata.annotations": {"strategyrollout.io/version": "2.4.0"}},
        "spec.template.metadata.annotations",
        "reserved for the operator; remove them",
    ),
    _canary(
        "a port that no container has",
        {"spec.traffic.port": "order"},
        "spec.traffic.port",
        "no container has a port named order; add ports: [{name: order, containerPort: ...}]",
    ),
    _canary(
        "no ports at all",
        {"spec.template.spec.containers.0.ports": REMOVE},
        "spec.traffic.port",
        "no container has a port named orders",
    ),
)

_STEP_LIST = (
    _canary("no steps", {_STEPS: []}, _STEPS, "should have at least 1 items"),
    _canary("falling weights", {f"{_STEPS}.1.weight": "0.5%"}, _STEPS, "weights must rise"),
    _canary("a weight twice", {f"{_STEPS}.3.weight": "33.330%"}, f"{_STEPS}[3].weight", "with at most two decimals"),
    _canary("equal weights", {f"{_STEPS}.1.weight": "1.00%"}, _STEPS, "every step greater than the one before it"),
    _canary("more than everything", {f"{_STEPS}.3.weight": "150%"}, f"{_STEPS}[3].weight", "a share from 0% to 100%"),
    _canary("100.001 %", {f"{_STEPS}.3.weight": "100.001%"}, f"{_STEPS}[3].weight", "with at most two decimals"),
    _canary("a negative share", {f"{_STEPS}.0.weight": "-1%"}, f"{_STEPS}[0].weight", "a share from 0% to 100%"),
    _canary("a share without its sign", {f"{_STEPS}.0.weight": "10"}, f"{_STEPS}[0].weight", "such as 10% or 0.25%"),
    _canary("a share as a number", {f"{_STEPS}.0.weight": 10}, f"{_STEPS}[0].weight", "must be of type string"),
    _canary("a step without a share", {f"{_STEPS}.0.weight": REMOVE}, f"{_STEPS}[0]", "a step needs a weight"),
    _canary("a misspelt field", {f"{_STEPS}.0.weigth": "5%"}, f"{_STEPS}[0].weigth", "unknown field"),
    _canary(
        "too many steps",
        {_STEPS: [{"weight": f"{number}%"} for number in range(1, 34)]},
        _STEPS,
        "must have at most 32 items",
    ),
    _canary(
        "a shadow step",
        {f"{_STEPS}.0": {"shadow": {"duration": "30m"}}},
        f"{_STEPS}[0]",
        "shadow steps are not supported yet; remove the step",
    ),
    _canary(
        "an approval step",
        {f"{_STEPS}.2": {"approval": {"roles": ["risk"]}}},
        f"{_STEPS}[2]",
        "approval steps are not supported yet; use a hold without duration and `resume`",
    ),
    _canary(
        "a hook step",
        {f"{_STEPS}.0": {"hook": {"url": "http://hook.example"}}},
        f"{_STEPS}[0]",
        "hook steps are not supported yet; remove the step",
    ),
    _canary(
        "a least number of samples",
        {f"{_STEPS}.0.hold.minSamples": 200},
        f"{_STEPS}[0].hold",
        "hold.minSamples is not supported yet; remove it",
    ),
)

_SCALARS = (
    _canary("a version of two numbers", {"spec.version": "1.2"}, "spec.version", "must be SemVer such as 2.4.0"),
    _canary("a version with a v", {"spec.version": "v1.2.3"}, "spec.version", "no leading v"),
    _canary("a version with leading zeros", {"spec.version": "1.02.3"}, "spec.version", "no leading zeros"),
    _canary("a pre-release with leading zeros", {"spec.version": "1.2.3-01"}, "spec.version", "must be SemVer"),
    _canary("a negative number of pods", {"spec.replicas": -1}, "spec.replicas", "greater than or equal to 0"),
    _canary("too many pods", {"spec.replicas": 1_000_000}, "spec.replicas", "less than or equal to 1000"),
    _canary("more pods than integers", {"spec.replicas": 10**20}, "spec.replicas", "must be of type integer"),
    _canary("half a pod", {"spec.replicas": 1.5}, "spec.replicas", "must be of type integer"),
    _canary("a duration in words", {"spec.bake.duration": "5 minutes"}, "spec.bake.duration", "must be a duration"),
    _canary("a duration in days", {"spec.bake.duration": "1d"}, "spec.bake.duration", "like 250ms, 10s, 5m or 1h30m"),
    _canary("a duration as a number", {"spec.settle": 5}, "spec.settle", "must be of type string"),
    _canary("a negative duration", {"spec.settle": "-5s"}, "spec.settle", "must be a duration from 0s to 10m"),
    _canary("a bake of ten years", {"spec.bake.duration": "87600h"}, "spec.bake.duration", "from 0s to 2160h"),
    _canary("a misspelt top field", {"spec.onRevret": {"keep": "1h"}}, "spec.onRevret", "unknown field"),
    _canary("no version", {"spec.version": REMOVE}, "spec.version", "Required value"),
    _canary(
        "a strategy that trades unasked",
        {"spec.workload": "Autonomous"},
        "spec.workload",
        "workload Autonomous is not supported yet",
    ),
    _canary(
        "a name too long for labels",
        {"metadata.name": "m" * 41},
        "metadata.name",
        "metadata.name must have at most 40 characters",
    ),
    _canary(
        "a pin without a reason",
        {"spec.rollback": {"to": "Previous"}},
        "spec.rollback.reason",
        "Required value",
    ),
)

_METHOD_AND_TRAFFIC = (
    _canary("both recipes", {"spec.method.blueGreen": {}}, "spec.method", "set method.blueGreen only when type is"),
    _canary("neither recipe", {"spec.method.canary": REMOVE}, "spec.method", "set method.canary exactly when type is"),
    _canary("an unknown recipe", {"spec.method.type": "Linear"}, "spec.method.type", 'supported values: "Canary"'),
    _blue_green("steps for a switch", {"spec.method.canary": {"steps": [{"weight": "1%"}]}}, "spec.method", "exactly"),
    _canary("two providers", {"spec.traffic.service": {"name": "momentum"}}, "spec.traffic", "set exactly one of"),
    _canary("no provider", {"spec.traffic.haproxy": REMOVE}, "spec.traffic", "set exactly one of traffic.haproxy and"),
    _canary("no unit", {"spec.traffic.unit": REMOVE}, "spec.traffic", "traffic.haproxy needs traffic.unit.header"),
    _canary("an empty unit", {"spec.traffic.unit": {}}, "spec.traffic.unit.header", "Required value"),
    _canary("a header with a colon", {"spec.traffic.unit.header": "X:Y"}, "spec.traffic.unit.header", "X-Account-Id"),
    _canary("no routers", {"spec.traffic.haproxy.replicas": 0}, "spec.traffic.haproxy.replicas", "or equal to 1"),
    _canary("a drain of an hour", {"spec.traffic.drain": "1h"}, "spec.traffic.drain", "a duration from 0s to 10m"),
    _canary("a hasty ack", {"spec.traffic.ackTimeout": "10ms"}, "spec.traffic.ackTimeout", "a duration from 1s to 1h"),
    _canary("a lease of 0s", {"spec.traffic.lease.bake": "0s"}, "spec.traffic.lease.bake", "a duration from 1s to 1h"),
    _blue_green(
        "a canary without a router",
        {"spec.method": {"type": "Canary", "canary": {"steps": [{"weight": "10%"}]}}},
        "spec",
        "traffic.service can only switch everything at once; use method BlueGreen or traffic.haproxy",
    ),
    _blue_green(
        "a unit for a Service",
        {"spec.traffic.unit": {"header": "X-Account-Id"}},
        "spec.traffic",
        "traffic.service cannot route by unit; remove unit or use haproxy",
    ),
    _blue_green(
        "a Service of an impossible name",
        {"spec.traffic.service.name": "1_pricer"},
        "spec.traffic.service.name",
        "must be lower-case letters, digits and '-', begin with a letter",
    ),
)

_OWN_QUERY = "spec.gates.2"
_GATES = (
    _canary("a gate twice", {"spec.gates.1.name": "drawdown"}, "spec.gates[1]", "Duplicate value"),
    _canary("no limit", {f"{_OWN_QUERY}.limit": REMOVE}, "spec.gates[2]", "a gate with its own query needs a limit"),
    _canary("an empty limit", {f"{_OWN_QUERY}.limit": {}}, "spec.gates[2].limit", "set limit.above, limit.below or"),
    _canary("no question", {f"{_OWN_QUERY}.prometheus": REMOVE}, "spec.gates[2]", "exactly one of template and"),
    _canary(
        "two questions",
        {"spec.gates.0.prometheus": {"query": "up"}, "spec.gates.0.limit": {"below": "1"}},
        "spec.gates[0]",
        "set exactly one of template and prometheus",
    ),
    _canary(
        "parameters of nothing",
        {f"{_OWN_QUERY}.params": {"limit": "1"}},
        "spec.gates[2]",
        "params belong to a template; put numbers into limit here",
    ),
    _canary(
        "a limit in braces",
        {f"{_OWN_QUERY}.limit": {"above": "{limit}"}},
        "spec.gates[2]",
        'a limit here must be a number such as "0.05"; {names} belong into templates',
    ),
    _canary(
        "a limit as a number",
        {f"{_OWN_QUERY}.limit": {"above": 0.05}},
        "spec.gates[2].limit.above",
        "must be of type string",
    ),
    _canary(
        "a limit in words",
        {f"{_OWN_QUERY}.limit": {"above": "five percent"}},
        "spec.gates[2].limit.above",
        'must be a decimal number in quotes, such as "0.05"',
    ),
    _canary(
        "a parameter as a number",
        {"spec.gates.0.params": {"limit": 0.03}},
        "spec.gates[0].params.limit",
        "must be of type string",
    ),
    _canary(
        "query text for a parameter",
        {"spec.gates.0.params": {"limit": "1) or vector(0"}},
        "spec.gates[0].params[limit]",
        "must be a decimal number in quotes",
    ),
    _canary(
        "a misspelt kind of template",
        {"spec.gates.0.template.kind": "ClusterGateTemplat"},
        "spec.gates[0].template.kind",
        'supported values: "GateTemplate", "ClusterGateTemplate"',
    ),
    _canary(
        "a template without a name",
        {"spec.gates.0.template.name": REMOVE},
        "spec.gates[0].template.name",
        "Required value",
    ),
    _canary(
        "a hundred questions a second",
        {f"{_OWN_QUERY}.interval": "10ms"},
        "spec.gates[2].interval",
        "must be a duration from 100ms to 1h",
    ),
    _canary(
        "more breaches than samples",
        {f"{_OWN_QUERY}.failures": {"breaches": 3, "of": 2}},
        "spec.gates[2].failures",
        "failures.breaches must not exceed failures.of",
    ),
    _canary(
        "more breaches than the one sample that is the default",
        {f"{_OWN_QUERY}.failures": {"breaches": 2}},
        "spec.gates[2].failures",
        "failures.breaches must not exceed failures.of",
    ),
    _canary(
        "a comparison",
        {"spec.gates.0.compare": {"to": "Stable", "worseBy": "20%"}},
        "spec.gates[0]",
        "compare is not supported yet; remove it or use an absolute limit",
    ),
    _canary(
        "trading hours",
        {"spec.gates.0.sessions": {"calendar": "XNYS"}},
        "spec.gates[0]",
        "sessions is not supported yet; remove it",
    ),
    _canary(
        "an unknown phase",
        {"spec.gates.0.when": ["Rollout", "Weekend"]},
        "spec.gates[0].when[1]",
        'supported values: "PreTrade", "Rollout", "Bake", "Always"',
    ),
    _canary(
        "an empty query",
        {f"{_OWN_QUERY}.prometheus.query": ""},
        "spec.gates[2].prometheus.query",
        "at least 1 chars long",
    ),
    _canary(
        "a Prometheus without a scheme",
        {f"{_OWN_QUERY}.prometheus.source": {"address": "prometheus:9090"}},
        "spec.gates[2].prometheus.source.address",
        "must be the base URL of a Prometheus, such as http://prometheus.monitoring:9090",
    ),
)

_GATE_TEMPLATES = (
    _template("a template without a limit", {"spec.limit": REMOVE}, "spec.limit", "Required value"),
    _template("a template of trading hours", {"spec.sessions": {}}, "spec", "sessions is not supported yet; remove it"),
    _template("an unknown severity", {"spec.severity": "Fatal"}, "spec.severity", 'supported values: "Stop"'),
    _template("a quick template", {"spec.interval": "99ms"}, "spec.interval", "a duration from 100ms to 1h"),
    _template(
        "a limit that no parameter gives",
        {"spec.limit.above": "{maximum}"},
        "spec.limit.above",
        "limit.above names a parameter that params does not declare; add it to params",
    ),
    _template(
        "a parameter of query text",
        {"spec.params.0.type": "String"},
        "spec.params[0].type",
        'supported values: "Decimal"',
    ),
    _template(
        "a parameter that may be missing",
        {"spec.params.0.required": False},
        "spec.params[0]",
        "a parameter is either required: true or has a default",
    ),
)

_CHANGES = (
    _update(
        "another unit",
        CANARY,
        {"spec.traffic.unit.header": "X-Desk-Id"},
        "spec.traffic.unit",
        "traffic.unit.header may not change: every unit would move at once; create another StrategyRollout",
    ),
    _update(
        "another provider",
        BLUE_GREEN,
        {"spec.traffic.service": REMOVE, "spec.traffic.haproxy": {}, "spec.traffic.unit": {"header": "X-Account-Id"}},
        "spec.traffic",
        "the provider in traffic may not change; create another StrategyRollout",
    ),
    _update(
        "another Service",
        BLUE_GREEN,
        {"spec.traffic.service.name": "pricer-2"},
        "spec.traffic.service",
        "traffic.service.name may not change; create another StrategyRollout",
    ),
    _update(
        "an epoch that stands still",
        ASSIGNMENT,
        {"spec.drain": "1s"},
        "spec",
        "epoch must grow with every write: read again and decide anew",
    ),
    _update(
        "an epoch that falls",
        ASSIGNMENT,
        {"spec.epoch": 6},
        "spec",
        "epoch must grow with every write",
    ),
    _update(
        "the assignment of another rollout",
        ASSIGNMENT,
        {"spec.epoch": 8, "spec.rolloutUID": "00000000-0000-4000-8000-000000000000"},
        "spec",
        "rolloutUID may not change",
    ),
    _update(
        "another salt",
        ASSIGNMENT,
        {"spec.epoch": 8, "spec.salt": "pepper"},
        "spec",
        "salt and algorithm may not change",
    ),
    _update(
        "a changed Rollback",
        changed(ROLLBACK, {"metadata": {"name": "momentum-1"}}),
        {"spec.reason": "something else"},
        "spec",
        "a Rollback acts once and may not be changed; create another one",
    ),
)

_REQUESTS_AND_RANGES = (
    Refusal(
        "a rollback to nowhere",
        changed(ROLLBACK, {"spec.to": "yesterday"}),
        "spec.to",
        "must be Previous, a version such as 2.3.1, or a revision hash",
    ),
    Refusal("a rollback of nothing", changed(ROLLBACK, {"spec.rollout": REMOVE}), "spec.rollout", "Required value"),
    Refusal("a rollback without a reason", changed(ROLLBACK, {"spec.reason": ""}), "spec.reason", "at least 1 chars"),
    Refusal(
        "a range that ends before it begins",
        changed(ASSIGNMENT, {"spec.ranges.0.from": 20, "spec.ranges.0.to": 10}),
        "spec.ranges[0]",
        "a range goes from its lower bucket to its higher one",
    ),
    Refusal(
        "a bucket too many",
        changed(ASSIGNMENT, {"spec.ranges.0.to": 10_000}),
        "spec.ranges[0].to",
        "less than or equal to 9999",
    ),
)

REFUSALS: tuple[Refusal, ...] = (
    *_POD_TEMPLATE,
    *_STEP_LIST,
    *_SCALARS,
    *_METHOD_AND_TRAFFIC,
    *_GATES,
    *_GATE_TEMPLATES,
    *_CHANGES,
    *_REQUESTS_AND_RANGES,
)
