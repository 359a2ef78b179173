"""An override under the shipped policies: by whom, with the shipped role and nothing more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from strategyrollout.api.meta import GROUP
from tests.cli.command import run
from tests.cli.scene import Scene, scene
from tests.cluster.cluster import Cluster
from tests.security.shipped import install_policies, remove_policies
from tests.traffic.desk import NAME

pytestmark = pytest.mark.cluster

RBAC = "rbac.authorization.k8s.io"
WHY = ("--reason", "fills diverge")
_MANIFEST = Path(__file__).parents[2] / "manifests" / "install.yaml"


def shipped(role: str) -> list[dict[str, Any]]:
    """Rules of a ClusterRole as users install it."""
    for item in yaml.safe_load_all(_MANIFEST.read_text()):
        if item and item["kind"] == "ClusterRole" and item["metadata"]["name"] == role:
            rules: list[dict[str, Any]] = item["rules"]
            return rules
    raise AssertionError(f"no ClusterRole {role}")


async def person(cluster: Cluster, namespace: str, name: str, rules: list[dict[str, Any]]) -> Path:
    """Somebody with these rules in this namespace; their kubeconfig."""
    metadata = {"name": name, "namespace": namespace}
    await cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    )
    return await cluster.service_account_kubeconfig(namespace, name)


@pytest_asyncio.fixture
async def guarded(cluster: Cluster, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    """1.0.0 was left for 2.0.0 and has no pods, the policies are in force, and no operator runs."""
    async with scene(cluster, namespace, tmp_path) as s:
        await s.desk.candidate()
        await s.desk.promoted("2.0.0")
        await s.desk.operator.kill()
        await cluster.kubectl("scale", "deployment", f"{NAME}-{s.stable}", "--replicas=0", "-n", namespace)
        await install_policies(cluster, namespace, [namespace])
        yield s
        await remove_policies(cluster, namespace)


async def test_the_shipped_role_is_enough_and_less_is_refused(guarded: Scene) -> None:
    s, namespace = guarded, guarded.desk.record.namespace
    cluster, tables = s.desk.cluster, len(s.desk.record.tables)
    rules = shipped("strategy-rollouts-override")
    less = [{**rule, "verbs": [v for v in rule["verbs"] if v != "override"]} for rule in rules]
    nobody = await person(cluster, namespace, "nobody", less)
    said = await run(nobody, *s.words("override", "--to", "1.0.0", *WHY))
    assert said.code == 1, said
    assert f"may not override trafficassignments.{GROUP} in namespace {namespace}" in said.err
    assert "bind ClusterRole strategy-rollouts-override" in said.err
    assert len(s.desk.record.tables) == tables
    alice = await person(cluster, namespace, "alice", rules)
    said = await run(alice, *s.words("override", "--to", "1.0.0", "-o", "json", *WHY))
    assert said.code == 0, said
    assert said.json["by"] == f"system:serviceaccount:{namespace}:alice"
    assert said.json["outcome"] == "Succeeded"
    await s.everything_at(s.stable)
    assert s.desk.record.table.cause.by == said.json["by"]
    assert s.desk.judge() > 0


async def test_who_may_read_and_ask_may_look_and_roll_back(guarded: Scene) -> None:
    s, namespace = guarded, guarded.desk.record.namespace
    bob = await person(s.desk.cluster, namespace, "bob", shipped("strategy-rollouts-on-call"))
    said = await run(bob, *s.words("status"))
    assert said.code == 0, said
    said = await run(bob, *s.words("rollback", "--no-wait", *WHY))
    assert said.code == 0, said
    said = await run(bob, *s.words("retry"))
    assert said.code == 1, said
    assert "the API server refuses" in said.err
    assert "docs/cli.md" in said.err
