"""Objects that cannot work: cases 38 and 39, and what only the operator can tell, as `Stalled` with a remedy."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from strategyrollout.api.meta import API_VERSION
from tests.conformance.api_client import Refused
from tests.conformance.conftest import MakeDesk, side_by_side
from tests.conformance.desk import Desk
from tests.conformance.manifests import Object, add_image, gate, steps, template
from tests.conformance.test_switch import behind_a_service

pytestmark = pytest.mark.cluster

# Pod templates keep unknown fields, so all of these can be stored.
MALFORMED: dict[str, Object] = {
    "volumes that are a number": {"volumes": 7},
    "volumes that are words": {"volumes": ["data", None]},
    "an affinity that is a list": {"affinity": [1, 2]},
    "a restart policy nobody knows": {"restartPolicy": "Perhaps"},
    "a security context of numbers": {"securityContext": 0},
}
MALFORMED_CONTAINER: dict[str, Object] = {
    "an environment in one word": {"env": "nothing"},
    "an environment from a map": {"envFrom": {"configMapRef": 3}},
    "a reference without a name": {"envFrom": [{"configMapRef": {}}]},
    "a probe that is a list": {"readinessProbe": [True]},
    "mounts of nothing": {"volumeMounts": [None, 4]},
}


def _container(desk: Desk, **fields: Any) -> Object:
    made = template(add_image(desk.cluster.images, "any"))
    made["metadata"] = {"annotations": fields.pop("annotations", {})}
    made["spec"]["containers"][0].update(fields)
    return made


async def test_case_38_malformed_objects_disturb_nobody_and_recover_when_mended(desks: MakeDesk) -> None:
    good = await desks("good")
    templates = [_container(good, **fields) for fields in MALFORMED_CONTAINER.values()]
    for fields in MALFORMED.values():
        made = _container(good)
        made["spec"].update(fields)
        templates.append(made)
    bad = [await desks(f"bad{number}", flips=True) for number in range(len(templates))]
    for desk, made in zip(bad, templates, strict=True):
        spec = behind_a_service(desk.name)
        item = {
            "apiVersion": API_VERSION,
            "kind": "StrategyRollout",
            "metadata": {"name": desk.name, "namespace": desk.namespace},
            "spec": {"version": "1.0.0", "workload": "RequestDriven", "template": made, "settle": "0s", **spec},
        }
        await desk.api.apply(item)
    await good.promoted("1.0.0", gates=[])
    for desk in bad:
        await desk.until("it is Stalled", lambda desk=desk: desk.condition("Stalled") == "True")  # type: ignore[misc]
        assert desk.status["state"] in ("InvalidTemplate", "MissingInput", "InvalidSpec"), desk.status
        assert "spec.template" in desk.status["message"], desk.status
    await good.promoted("2.0.0", gates=[], method=steps(("50%", "500ms")))
    await asyncio.gather(*(d.apply("1.0.0", gates=[], **behind_a_service(d.name)) for d in bad))
    for desk in bad:
        await desk.reaches("Promoted", version="1.0.0", seconds=40)


async def test_case_39_a_tag_instead_of_a_digest_is_refused(desk: Desk) -> None:
    with pytest.raises(Refused, match=r"image registry\.example/momentum:2\.4\.0 must be pinned by digest"):
        await desk.apply("1.0.0", image="registry.example/momentum:2.4.0")


def _gate_template(desk: Desk, **spec: Any) -> Object:
    query = gate()["prometheus"]["query"]
    return {
        "apiVersion": API_VERSION,
        "kind": "GateTemplate",
        "metadata": {"name": "shared", "namespace": desk.namespace},
        "spec": {
            "query": query,
            "limit": {"above": "{limit}"},
            "params": [{"name": "limit", "required": True}],
            **spec,
        },
    }


def _from_template(**fields: Any) -> Object:
    return {"gates": [{"name": "g", "template": {"kind": "GateTemplate", "name": "shared"}, **fields}]}


def _own(query: str) -> Object:
    mine = gate("g", interval="300ms")
    return {"gates": [{**mine, "prometheus": {"query": query}}]}


SHA, PIN = "ab" * 32, "sha256.strategyrollout.io/present"
BY_POD: dict[str, tuple[Object, str, tuple[str, ...]]] = {
    "a missing ConfigMap": (
        {"envFrom": [{"configMapRef": {"name": "nowhere"}}]},
        "MissingInput",
        ("spec.template.spec.containers[0].envFrom[0].configMapRef.name", "nowhere", "create it"),
    ),
    "a ConfigMap with other content": (
        {"envFrom": [{"configMapRef": {"name": "present"}}], "annotations": {PIN: SHA}},
        "MissingInput",
        (f"spec.template.metadata.annotations[{PIN}]", f"asked for is {SHA}", "apply that ConfigMap"),
    ),
    "an unknown field": (
        {"imagePullPolice": "Always"},
        "InvalidTemplate",
        ("spec.template.spec.containers[0].imagePullPolice", "unknown field"),
    ),
    "a mount of no volume": (
        {"volumeMounts": [{"name": "nothing", "mountPath": "/x"}]},
        "InvalidTemplate",
        ("spec.template.spec.containers[0].volumeMounts[0].name", "nothing"),
    ),
}
BY_GATE: dict[str, tuple[Object, str, tuple[str, ...]]] = {
    "a missing gate template": (
        {"gates": [{"name": "g", "template": {"kind": "GateTemplate", "name": "nowhere"}}]},
        "InvalidGate",
        ("spec.gates[g].template", "no GateTemplate nowhere", "create it or name another one"),
    ),
    "an unknown parameter": (
        _from_template(params={"limit": "1", "limmit": "2"}),
        "InvalidGate",
        ("spec.gates[g].params.limmit", "no such parameter", "remove or rename it"),
    ),
    "a parameter that is missing": (
        _from_template(),
        "InvalidGate",
        ("spec.gates[g].params.limit", "the template needs it", "set params"),
    ),
}
BY_QUERY: dict[str, tuple[Object, str, tuple[str, ...]]] = {
    "PromQL that cannot be read": (
        _own("sum by (namespace (strategy_signal)"),
        "InvalidGate",
        ("spec.gates[g]", "Prometheus refuses the query", "correct the query"),
    ),
    "an answer without the labels": (
        _own("sum(strategy_signal)"),
        "InvalidGate",
        ("spec.gates[g]", "without the label namespace, rollout, revision", "sum by (namespace, rollout, revision)"),
    ),
}


async def _stalls(desk: Desk, reason: str, words: tuple[str, ...]) -> None:
    status = await desk.reaches(reason)
    assert desk.condition("Stalled") == "True"
    assert [word for word in words if word not in status["message"]] == [], status["message"]


async def test_a_mistake_in_the_pods_is_named_with_its_field_and_does_not_start(desks: MakeDesk) -> None:
    await side_by_side(desks, BY_POD, _mistaken_pods)


async def _mistaken_pods(desk: Desk, mistake: tuple[Object, str, tuple[str, ...]]) -> None:
    container, reason, words = mistake
    present = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}}
    await desk.api.apply({**present, "metadata": {"name": "present", "namespace": desk.namespace}})
    await desk.promoted("1.0.0", gates=[])
    await desk.apply("2.0.0", gates=[], template=_container(desk, **container))
    await _stalls(desk, reason, words)
    assert desk.weight("1.0.0") == 10_000
    assert desk.condition("Available") == "True"
    await desk.promoted("2.0.0", gates=[], method=steps(("50%", "0s")))


async def test_a_mistake_in_a_gate_is_named_with_its_field_and_does_not_start(desks: MakeDesk) -> None:
    await side_by_side(desks, BY_GATE, _mistaken_gate)


async def _mistaken_gate(desk: Desk, mistake: tuple[Object, str, tuple[str, ...]]) -> None:
    spec, reason, words = mistake
    await desk.api.apply(_gate_template(desk))
    await desk.promoted("1.0.0")
    await desk.apply("2.0.0", **spec)
    await _stalls(desk, reason, words)
    assert desk.attempts("2.0.0") == []
    await desk.promoted("2.0.0", gates=[], method=steps(("50%", "0s")))


async def test_a_query_that_cannot_work_is_named_and_does_not_go_on(desks: MakeDesk) -> None:
    await side_by_side(desks, BY_QUERY, _mistaken_query)


async def _mistaken_query(desk: Desk, mistake: tuple[Object, str, tuple[str, ...]]) -> None:
    spec, reason, words = mistake
    await desk.promoted("1.0.0")
    await desk.apply("2.0.0", **spec, method=steps(("10%", "1s"), ("50%", "1s")))
    await _stalls(desk, reason, words)
    await desk.stays(2, "it does not go on", lambda: desk.weight("2.0.0") <= 1_000)
    await desk.promoted("2.0.0", gates=[], method=steps(("50%", "0s")))


async def test_a_service_of_somebody_else_is_not_taken(switched: Desk) -> None:
    desk = switched
    service: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{desk.name}-orders", "namespace": desk.namespace},
        "spec": {"selector": {"app": "other"}, "ports": [{"port": 80}]},
    }
    stored = await desk.api.apply(service)
    await desk.apply("1.0.0", gates=[], **behind_a_service(desk.name))
    await _stalls(
        desk, "NotOwned", ("spec.traffic.service.name", "belongs to no StrategyRollout", "delete or rename it")
    )
    path = f"/api/v1/namespaces/{desk.namespace}/services/{desk.name}-orders"
    assert (await desk.api.get(path))["spec"]["selector"] == stored["spec"]["selector"]
    await desk.api.delete(path)
    await desk.reaches("Promoted", version="1.0.0", seconds=40)
