"""What a real API server makes of the CRDs: takes the samples, fills in our defaults, refuses mistakes in words."""

import pytest
import yaml

from strategyrollout.api.model import Model
from strategyrollout.api.rollback import RollbackSpec
from strategyrollout.api.schema import KINDS
from tests.api.conftest import Door
from tests.api.manifests import REMOVE, SAMPLES, Object, all_samples, assignment, changed, sample
from tests.api.refusals import REFUSALS, Refusal

pytestmark = pytest.mark.cluster

_SPECS = {kind.name: kind.spec for kind in KINDS}
_SPARSE: tuple[Object, ...] = (
    changed(
        sample("canary.yaml"),
        {
            "spec.method.canary.steps": [{"weight": "10%"}],
            "spec.traffic": {"unit": {"header": "X-Account-Id"}, "haproxy": {}},
            "spec.gates.2": {"name": "own", "prometheus": {"query": "up"}, "limit": {"below": "1"}},
            **dict.fromkeys(("spec.replicas", "spec.bake", "spec.onBlind", "spec.onRevert"), REMOVE),
            "spec.progressDeadline": REMOVE,
        },
    ),
    changed(sample("bluegreen.yaml"), {"spec.method": {"type": "BlueGreen", "blueGreen": {}}, "spec.bake": {}}),
    changed(
        sample("gate-template.yaml"),
        {"spec": {"query": "up", "limit": {"below": "1"}, "noData": {"action": "Revert"}}},
    ),
    changed(sample("rollback.yaml"), {"spec.to": REMOVE}),
    changed(assignment(), {"spec.record": REMOVE, "spec.algorithm": REMOVE, "spec.ranges.0.leased": REMOVE}),
)


def _label(item: Object) -> str:
    metadata = item["metadata"]
    return f"{item['kind']}/{metadata.get('name') or metadata['generateName']}"


def _read(item: Object) -> Model:
    spec = _SPECS[item["kind"]].model_validate(item["spec"])
    assert isinstance(spec, Model)
    return spec


@pytest.mark.parametrize("item", all_samples(), ids=_label)
async def test_every_sample_is_accepted(door: Door, item: Object) -> None:
    status, answer = await door.create(item, dry_run=True)
    assert status == 201, answer


async def test_kubectl_applies_the_samples_and_shows_the_columns_people_know(door: Door) -> None:
    for path in sorted(SAMPLES.glob("*.yaml")):
        await door.cluster.kubectl("create", "-n", door.namespace, "-f", str(path))
    try:
        shown = await door.cluster.kubectl("get", "sro", "-n", door.namespace)
        assert shown.splitlines()[0].split() == ["NAME", "VERSION", "STATE", "STEP", "WEIGHT", "GATES", "READY", "AGE"]
        wide = await door.cluster.kubectl("get", "sro", "-n", door.namespace, "-o", "wide")
        assert wide.splitlines()[0].split()[-3:] == ["IMAGE", "STABLE", "MESSAGE"]
        rollbacks = await door.cluster.kubectl("get", "rollbacks", "-n", door.namespace)
        assert rollbacks.splitlines()[0].split() == ["NAME", "ROLLOUT", "TO", "OUTCOME", "REASON", "AGE"]
        everything = await door.cluster.kubectl("get", "strategyrollout-io", "-n", door.namespace, "-o", "name")
        assert len(everything.split()) == len(all_samples())
    finally:
        await door.cluster.kubectl("delete", "strategyrollout-io", "--all", "-n", door.namespace)


@pytest.mark.parametrize("item", [*all_samples(), *_SPARSE], ids=_label)
async def test_the_api_server_fills_in_the_defaults_of_the_models(door: Door, item: Object) -> None:
    status, stored = await door.create(item, dry_run=True)
    assert status == 201, stored
    assert _read(stored) == _read(item)
    assert _meaningful(stored["spec"]) == _meaningful(_read(item).to_json())


def _meaningful(value: object) -> object:
    """Without empty lists and mappings, for which the schema has no defaults: absent means the same."""
    if isinstance(value, dict):
        entries = {key: _meaningful(entry) for key, entry in value.items()}
        return {key: entry for key, entry in entries.items() if entry not in ([], {})}
    return [_meaningful(entry) for entry in value] if isinstance(value, list) else value


def _largest_rollout() -> Object:
    """As much of everything as the schema allows."""
    image = sample("canary.yaml")["spec"]["template"]["spec"]["containers"][0]["image"]
    ports = [{"name": f"port-{number}", "containerPort": 8000 + number} for number in range(31)]
    containers = [{"name": f"c{number}", "image": image, "ports": ports} for number in range(16)]
    containers[-1]["ports"] = [*ports, {"name": "orders", "containerPort": 9000}]
    gate = {"prometheus": {"query": "x" * 4096}, "limit": {"above": "1"}, "interval": "1h", "maxAge": "24h"}
    return changed(
        sample("canary.yaml"),
        {
            "spec.method.canary.steps": [{"weight": f"{number}.{number}%", "hold": {}} for number in range(1, 33)],
            "spec.gates": [{"name": f"gate-{number}", **gate} for number in range(16)],
            "spec.template.spec.containers": containers,
            "spec.template.spec.initContainers": containers,
            "spec.template.metadata.labels": {f"example.com/label-{number}": "x" * 63 for number in range(64)},
        },
    )


async def test_the_largest_rollout_stays_within_the_cost_of_its_rules(door: Door) -> None:
    status, answer = await door.create(_largest_rollout(), dry_run=True)
    assert status == 201, answer


async def test_the_largest_assignment_can_be_replaced(door: Door) -> None:
    ranges = [{"from": n, "to": n, "owner": "5f8c9d01ab", "token": 7, "leased": True} for n in range(512)]
    status, stored = await door.create(changed(assignment(), {"spec.ranges": ranges}))
    assert status == 201, stored
    try:
        grown = changed(stored, {"spec.epoch": 8, "spec.ranges.511.token": 8})
        status, answer = await door.replace(grown, stored, dry_run=True)
        assert status == 200, answer
    finally:
        await door.delete(stored)


async def test_a_template_keeps_what_the_schema_does_not_name(door: Door) -> None:
    status, stored = await door.create(sample("canary.yaml"), dry_run=True)
    assert status == 201, stored
    assert stored["spec"]["template"] == sample("canary.yaml")["spec"]["template"]


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case.mistake)
async def test_the_api_server_refuses_naming_the_field_and_the_remedy(door: Door, case: Refusal) -> None:
    if case.before is None:
        status, answer = await door.create(case.manifest, dry_run=True)
    else:
        created, stored = await door.create(case.before)
        assert created == 201, stored
        try:
            status, answer = await door.replace(case.manifest, stored, dry_run=True)
        finally:
            await door.delete(stored)
    assert status in (400, 422), f"accepted, or failed in another way: {status} {answer}"
    causes = [(cause.get("field", ""), cause["message"]) for cause in answer.get("details", {}).get("causes", ())]
    causes = causes or [("", answer["message"])]
    named = [message for field, message in causes if case.field == field or case.field in message]
    assert any(case.remedy in message for message in named), causes
    assert "evaluation error" not in answer["message"], "a rule failed over the mistake instead of judging it"


async def test_kubectl_prints_the_remedy(door: Door) -> None:
    tag = REFUSALS[0]
    said = await door.cluster.kubectl(
        "apply", "-n", door.namespace, "-f", "-", stdin=yaml.safe_dump(tag.manifest), check=False
    )
    assert tag.field in said
    assert tag.remedy in said


async def test_metadata_of_an_assignment_may_change_without_a_new_epoch(door: Door) -> None:
    status, stored = await door.create(assignment())
    assert status == 201, stored
    try:
        labelled = changed(stored, {"metadata.labels": {"seen": "yes"}})
        status, answer = await door.replace(labelled, stored)
        assert status == 200, answer
        grown = changed(answer, {"spec.epoch": answer["spec"]["epoch"] + 1, "spec.drain": "1s"})
        status, answer = await door.replace(grown, answer)
        assert status == 200, answer
    finally:
        await door.delete(stored)


async def test_a_rollback_reports_its_outcome_without_touching_its_request(door: Door) -> None:
    status, stored = await door.create(sample("rollback.yaml"))
    assert status == 201, stored
    try:
        path = f"/apis/strategyrollout.io/v1alpha1/namespaces/{door.namespace}/rollbacks/{stored['metadata']['name']}"
        patch = {"spec": {"reason": "other"}, "status": {"outcome": "Succeeded", "message": "2.3.1 serves"}}
        status, answer = await door.cluster.request("PATCH", f"{path}/status", patch)
        assert status == 200, answer
        assert answer["status"]["outcome"] == "Succeeded"
        assert answer["spec"]["reason"] == RollbackSpec.model_validate(stored["spec"]).reason
    finally:
        await door.delete(stored)


async def test_a_rollout_can_be_scaled_as_an_autoscaler_does(door: Door) -> None:
    status, stored = await door.create(sample("canary.yaml"))
    assert status == 201, stored
    try:
        path = f"/apis/strategyrollout.io/v1alpha1/namespaces/{door.namespace}/strategyrollouts/momentum"
        report = {"status": {"replicas": 2, "selector": "strategyrollout.io/rollout=momentum"}}
        status, answer = await door.cluster.request("PATCH", f"{path}/status", report)
        assert status == 200, answer
        await door.cluster.kubectl("scale", "sro/momentum", "--replicas=5", "-n", door.namespace)
        status, scale = await door.cluster.request("GET", f"{path}/scale")
        assert status == 200, scale
        assert scale["spec"]["replicas"] == 5
        assert scale["status"] == {"replicas": 2, "selector": "strategyrollout.io/rollout=momentum"}
    finally:
        await door.delete(stored)
