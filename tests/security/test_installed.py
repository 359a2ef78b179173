"""What `manifests/install.yaml` installs is what the tests of this folder try out."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.security.shipped import Object, policy, rules

_INSTALLED: list[Object] = [
    item for item in yaml.safe_load_all((Path(__file__).parents[2] / "manifests" / "install.yaml").read_text()) if item
]
NAME = "strategy-rollouts"


def installed(kind: str, name: str) -> Object:
    """The one object of that kind and name."""
    (found,) = (item for item in _INSTALLED if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return found


@pytest.mark.parametrize("part", ["assignments", "leases"])
def test_the_policies_are_the_tested_ones_and_deny(part: str) -> None:
    name = f"{NAME}-{part}"
    assert installed("ValidatingAdmissionPolicy", name)["spec"] == policy(part)
    binding = installed("ValidatingAdmissionPolicyBinding", name)["spec"]
    assert binding == {"policyName": name, "validationActions": ["Deny"]}


def test_the_operators_rules_are_the_tested_ones() -> None:
    assert installed("ClusterRole", NAME)["rules"] == [*rules()["cluster"], *rules()["namespaced"]]
    assert installed("Role", f"{NAME}-leader")["rules"] == rules()["leaderLease"]


def test_nobody_but_the_operator_and_break_glass_gets_a_verb_of_ours() -> None:
    holders = {
        (item["metadata"]["name"], verb)
        for item in _INSTALLED
        if item["kind"] in {"Role", "ClusterRole"}
        for rule in item["rules"]
        for verb in rule["verbs"]
        if verb in {"assign", "override", "acknowledge", "*"}
    }
    assert holders == {(NAME, "assign"), (NAME, "acknowledge"), (f"{NAME}-override", "override")}
