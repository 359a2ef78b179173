"""What the chart makes of values: valid objects by the schemas of Kubernetes, or a refusal that names the key."""

from __future__ import annotations

import re
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from strategyrollout.settings import from_environment
from tests.cluster.build import binary
from tests.install import schemas
from tests.install.helm import CHART, HelmError, helm, template
from tests.install.values import EVERYTHING, MINIMAL, NAMESPACED, USERS

Object = dict[str, Any]
_ROOT = Path(__file__).parents[2]
_CLUSTER_SCOPED = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "Namespace",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


def objects(text: str) -> list[Object]:
    return [item for item in yaml.safe_load_all(text) if item]


def one(text: str, kind: str, name: str = "") -> Object:
    (found,) = (o for o in objects(text) if o["kind"] == kind and name in ("", o["metadata"]["name"]))
    return found


def kubeconform(text: str) -> str:
    """Its complaints; empty when everything is valid."""
    location = f"{schemas.ensure()}/{schemas.LOCATION}"
    command = [str(binary("kubeconform")), "-strict", "-schema-location", location, "-"]
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return result.stdout + result.stderr if result.returncode else ""


@pytest.mark.parametrize("user", USERS)
def test_lint_finds_nothing(user: str) -> None:
    helm("lint", "--strict", str(CHART), values=USERS[user])


@pytest.mark.parametrize("user", USERS)
def test_every_object_is_valid_by_the_schemas_of_kubernetes(user: str) -> None:
    assert kubeconform(template(USERS[user])) == ""


@pytest.mark.parametrize("path", ["manifests/install.yaml", "manifests/samples"])
def test_the_manifests_are_valid_too(path: str) -> None:
    files = sorted((_ROOT / path).glob("*.yaml")) or [_ROOT / path]
    assert kubeconform("\n---\n".join(file.read_text() for file in files)) == ""


def test_a_misspelt_field_would_be_found() -> None:
    wrong = template().replace("readOnlyRootFilesystem:", "readOnlyRootFileSystem:")
    assert "readOnlyRootFileSystem" in kubeconform(wrong)


@pytest.mark.parametrize("user", USERS)
def test_every_object_says_its_namespace_because_plain_yaml_has_no_release(user: str) -> None:
    found = objects(template(USERS[user], namespace="elsewhere"))
    without = {o["kind"] for o in found if "namespace" not in o["metadata"]}
    assert without <= _CLUSTER_SCOPED
    assert not [o for o in found if o["kind"] in _CLUSTER_SCOPED and "namespace" in o["metadata"]]


@pytest.mark.parametrize("user", USERS)
def test_nothing_of_two_releases_has_the_same_name(user: str) -> None:
    def names(release: str) -> set[tuple[str, str, str]]:
        text = template({**USERS[user], "crds": {"install": False}}, release=release)
        return {(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]) for o in objects(text)}

    assert not names("equities") & names("fx")


def test_the_crds_are_those_of_the_tree_and_outlive_the_release() -> None:
    made = {o["metadata"]["name"]: o for o in objects(template()) if o["kind"] == "CustomResourceDefinition"}
    for path in sorted((_ROOT / "crds").glob("*.yaml")):
        wanted = yaml.safe_load(path.read_text())
        found = made.pop(wanted["metadata"]["name"])
        assert found["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert found["spec"] == wanted["spec"]
    assert not made


def test_without_namespaces_one_cluster_role_has_everything() -> None:
    found = objects(template())
    rules = one(template(), "ClusterRole", "strategy-rollouts")["rules"]
    assert {"strategyrollouts", "clustergatetemplates"} <= {name for rule in rules for name in rule["resources"]}
    assert [o["metadata"]["name"] for o in found if o["kind"] == "Role"] == ["strategy-rollouts-leader"]


def test_with_namespaces_the_cluster_role_is_about_cluster_gate_templates_alone() -> None:
    text = template(NAMESPACED)
    rules = one(text, "ClusterRole", "strategy-rollouts")["rules"]
    assert [(rule["resources"], rule["verbs"]) for rule in rules] == [
        (["clustergatetemplates"], ["get", "list", "watch"])
    ]
    roles = [o for o in objects(text) if o["kind"] == "Role" and o["metadata"]["name"] == "strategy-rollouts"]
    assert [role["metadata"]["namespace"] for role in roles] == ["desk-a", "desk-b"]
    assert one(template(), "ClusterRole", "strategy-rollouts")["rules"] == [*rules, *roles[0]["rules"]]


def environment(text: str) -> dict[str, str]:
    """Of the operator's container, with a name for the pod."""
    (container,) = one(text, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value", "the-pod") for entry in container["env"]}


@pytest.mark.parametrize("user", USERS)
def test_the_operator_understands_every_setting_it_is_given(user: str) -> None:
    assert from_environment(environment(template(USERS[user]))).router_image


def test_values_reach_the_settings() -> None:
    settings = from_environment(environment(template({**EVERYTHING, **NAMESPACED})))
    assert settings.namespaces == ("desk-a", "desk-b")
    assert settings.prometheus == "http://prometheus.monitoring:9090"
    assert settings.router_image == "registry.example/strategy-rollouts/router@" + EVERYTHING["image"]["digest"]
    assert (settings.workers, settings.resync) == (128, 300.0)
    assert str(settings.evidence) == "/evidence/decisions.jsonl"


def test_one_replica_has_no_disruption_budget_because_its_node_could_never_be_drained() -> None:
    kinds = {o["kind"] for o in objects(template({"replicas": 1}))}
    assert "PodDisruptionBudget" not in kinds
    assert one(template(), "PodDisruptionBudget")["spec"]["minAvailable"] == 1


@pytest.mark.parametrize(("part", "kind"), [("podMonitor", "PodMonitor"), ("prometheusRule", "PrometheusRule")])
def test_a_switch_turns_its_object_on(part: str, kind: str) -> None:
    assert kind not in {o["kind"] for o in objects(template())}
    assert one(template({part: {"enabled": True}}), kind)


def test_what_is_switched_off_is_not_there() -> None:
    assert {o["kind"] for o in objects(template(MINIMAL))} == {"Deployment", "Service"}


def test_people_get_their_rights_by_roles_and_nobody_gets_break_glass() -> None:
    found = objects(template())
    roles = {o["metadata"]["name"]: o for o in found if o["kind"] == "ClusterRole"}

    def may(role: str) -> set[tuple[str, str]]:
        rules = roles[f"strategy-rollouts-{role}"]["rules"]
        return {pair for rule in rules for pair in product(rule["resources"], rule["verbs"])}

    assert ("rollbacks", "create") in may("on-call")
    assert ("strategyrollouts", "patch") not in may("on-call")
    assert ("strategyrollouts", "update") in may("edit")
    assert ("trafficassignments", "override") in may("override")
    assert not {("trafficassignments", verb) for verb in ("update", "patch", "override")} & may("edit")
    bound = {o["roleRef"]["name"] for o in found if o["kind"].endswith("RoleBinding")}
    assert bound == {"strategy-rollouts", "strategy-rollouts-leader"}


# value -> what the message must name
REFUSED: dict[str, tuple[Object, str]] = {
    "an unknown key": ({"replica": 3}, "replica"),
    "an unknown key further down": ({"image": {"repository": "operator", "sha": "x"}}, "sha"),
    "a digest that is too short": ({"image": {"repository": "operator", "digest": "sha256:12"}}, "/image/digest"),
    "a router's digest without its algorithm": ({"router": {"image": {"digest": "a" * 64}}}, "/router/image/digest"),
    "a tag inside the repository": ({"image": {"repository": "operator:v1.2"}}, "/image/repository"),
    "a duration without a unit": ({"leaderElection": {"leaseDuration": "8"}}, "/leaderElection/leaseDuration"),
    "a duration in words": ({"settings": {"resync": "two minutes"}}, "/settings/resync"),
    "a number of replicas in quotes": ({"replicas": "2"}, "/replicas"),
    "namespaces as text": ({"namespaces": "desk-a,desk-b"}, "/namespaces"),
    "a namespace that cannot be one": ({"namespaces": ["Desk_A"]}, "/namespaces/0"),
    "an address without a scheme": ({"prometheus": "prometheus.monitoring:9090"}, "/prometheus"),
    "a level that is none": ({"log": {"level": "TRACE"}}, "/log/level"),
    "a port of nothing": ({"networkPolicy": {"apiServer": {"ports": [0]}}}, "/networkPolicy/apiServer/ports/0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_value_is_refused_by_its_key(case: str) -> None:
    values, named = REFUSED[case]
    with pytest.raises(HelmError, match=re.escape(named)):
        template(values)


def test_a_service_account_of_others_must_have_a_name() -> None:
    with pytest.raises(HelmError, match=r"serviceAccount\.name"):
        template({"serviceAccount": {"create": False}})
