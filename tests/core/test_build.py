"""The objects of a revision, as they should be."""

from typing import Any

import pytest

from strategyrollout.core.build import (
    Owner,
    child_name,
    children,
    copy_name,
    gate_snapshot,
    gate_snapshot_name,
)
from strategyrollout.core.revision import Content, configmap_references, content_from, identified, revision_from

OWNER = Owner("desk-a", "momentum", "u-1")
IMAGE = "registry.example/momentum@sha256:" + "4b" * 32
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"team": "equities", "strategyrollout.io/role": "router"}, "annotations": {"note": "x"}},
    "spec": {
        "containers": [
            {
                "name": "strategy",
                "image": IMAGE,
                "envFrom": [{"configMapRef": {"name": "params"}}],
                "env": [{"name": "A", "value": "1"}],
            }
        ],
        "volumes": [{"name": "extra", "configMap": {"name": "extra", "optional": True}}],
    },
}
CONTENT = Content("2.4.0+b.1", TEMPLATE, {"params": {"data": {"SIZE": "10"}, "binaryData": {"m": "AAE="}}})
REVISION = identified(CONTENT)
BUILT = children(OWNER, REVISION, CONTENT, port="orders", replicas=3)
ALL = [BUILT.record, *BUILT.copies, BUILT.service, BUILT.deployment]


@pytest.mark.parametrize("body", ALL, ids=[b["kind"] for b in ALL])
def test_every_child_is_owned_and_can_be_found(body: dict[str, Any]) -> None:
    (reference,) = body["metadata"]["ownerReferences"]
    assert (reference["kind"], reference["uid"], reference["controller"]) == ("StrategyRollout", "u-1", True)
    assert body["metadata"]["namespace"] == "desk-a"
    assert body["metadata"]["labels"] == {
        "strategyrollout.io/rollout": "momentum",
        "strategyrollout.io/rollout-uid": "u-1",
        "strategyrollout.io/revision": REVISION.hash,
        "strategyrollout.io/version": "2.4.0_b.1",
        "strategyrollout.io/role": "strategy",
        "app.kubernetes.io/managed-by": "strategyrollout",
    }
    assert body["metadata"]["annotations"]["strategyrollout.io/version"] == "2.4.0+b.1"


def test_pods_carry_the_labels_that_gates_and_routers_use_and_no_user_label_overrides_them() -> None:
    pods = BUILT.deployment["spec"]["template"]["metadata"]
    assert pods["labels"]["strategyrollout.io/role"] == "strategy"
    assert pods["labels"]["strategyrollout.io/rollout-uid"] == "u-1"
    assert pods["labels"]["team"] == "equities"
    assert pods["annotations"]["note"] == "x"
    assert pods["annotations"]["strategyrollout.io/version"] == "2.4.0+b.1"
    assert len(pods["annotations"]["strategyrollout.io/config"]) == 10


def test_pods_use_the_pinned_copies() -> None:
    (copy,) = BUILT.copies
    assert copy["immutable"] is True
    assert (copy["data"], copy["binaryData"]) == ({"SIZE": "10"}, {"m": "AAE="})
    used = {r.name: r.optional for r in configmap_references(BUILT.deployment["spec"]["template"])}
    assert used == {copy["metadata"]["name"]: False, copy_name(OWNER, REVISION.hash, "extra"): True}


def test_an_optional_configmap_that_was_missing_stays_missing() -> None:
    (volume,) = BUILT.deployment["spec"]["template"]["spec"]["volumes"]
    assert volume["configMap"]["name"] != "extra"


def test_nothing_is_added_to_the_users_containers() -> None:
    (container,) = BUILT.deployment["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "A", "value": "1"}]
    assert set(container) == set(TEMPLATE["spec"]["containers"][0])


def test_selectors_match_the_pods_and_nothing_that_could_change() -> None:
    wanted = {"strategyrollout.io/rollout": "momentum", "strategyrollout.io/revision": REVISION.hash}
    assert BUILT.deployment["spec"]["selector"]["matchLabels"] == wanted
    assert BUILT.service["spec"]["selector"] == wanted
    assert wanted.items() <= BUILT.deployment["spec"]["template"]["metadata"]["labels"].items()
    assert BUILT.service["spec"]["ports"] == [{"name": "orders", "port": 80, "targetPort": "orders", "protocol": "TCP"}]


def test_another_number_of_pods_changes_nothing_else() -> None:
    other = BUILT.with_replicas(7)
    assert other["spec"]["replicas"] == 7
    assert BUILT.deployment["spec"]["replicas"] == 3
    assert other == children(OWNER, REVISION, CONTENT, port="orders", replicas=7).deployment


def test_a_revision_can_be_built_again_from_its_record() -> None:
    back = content_from(BUILT.record)
    assert back is not None
    assert revision_from(BUILT.record) == identified(back) == REVISION
    assert revision_from(gate_snapshot(OWNER, {})) is None
    assert children(OWNER, identified(back), back, port="orders", replicas=3) == BUILT


def test_two_rollouts_with_the_same_content_do_not_share_names() -> None:
    other = Owner("desk-a", "momentum-eu", "u-2")
    assert copy_name(OWNER, REVISION.hash, "params") != copy_name(other, REVISION.hash, "params")
    assert child_name(OWNER, REVISION.hash) == f"momentum-{REVISION.hash}"


def test_names_of_copies_stay_within_the_limit_and_apart() -> None:
    names = {copy_name(OWNER, REVISION.hash, "x" * 250 + tail) for tail in ("a", "b", "c.")}
    assert len(names) == 3
    assert all(len(name) <= 253 for name in names)


def test_a_template_without_metadata_is_built() -> None:
    content = Content("1.0.0", {"spec": {"containers": [{"name": "a", "image": IMAGE}]}})
    built = children(OWNER, identified(content), content, port="orders")
    assert "strategyrollout.io/config" not in built.deployment["spec"]["template"]["metadata"]["annotations"]
    assert built.copies == ()


def test_a_version_cut_in_the_middle_is_still_a_label() -> None:
    content = Content("1.0.0-" + "a" * 56 + "-b", {"spec": {"containers": [{"name": "a", "image": IMAGE}]}})
    label = children(OWNER, identified(content), content, port="p").service["metadata"]["labels"]
    assert label["strategyrollout.io/version"] == "1.0.0-" + "a" * 56


def test_gate_templates_are_kept_under_a_name_of_their_content() -> None:
    one = {"ClusterGateTemplate/reject-rate": {"limit": {"above": "0.05"}}}
    two = {"ClusterGateTemplate/reject-rate": {"limit": {"above": "0.06"}}}
    assert gate_snapshot_name(OWNER, one) != gate_snapshot_name(OWNER, two)
    kept = gate_snapshot(OWNER, one)
    assert kept["metadata"]["name"] == gate_snapshot_name(OWNER, one)
    assert kept["data"] == one
    assert "strategyrollout.io/revision" not in kept["metadata"]["labels"]
