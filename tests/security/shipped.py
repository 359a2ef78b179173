"""The permissions and policies that the chart ships, put into a cluster as they are, or with one verb missing."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from tests.cluster.cluster import Cluster
from tests.cluster.processes import until

Object = dict[str, Any]
Scope = Literal["cluster", "namespaced", "leaderLease"]

HOME = "strategy-rollouts"
"""Namespace of the operators' accounts; the API server of the local cluster keeps an audit log of what they ask for."""
_FILES = Path(__file__).parents[2] / "charts" / "strategy-rollouts" / "files"
_RBAC = "rbac.authorization.k8s.io"


def rules() -> dict[Scope, list[Object]]:
    """As in `files/rules.yaml`."""
    loaded: dict[Scope, list[Object]] = yaml.safe_load((_FILES / "rules.yaml").read_text())
    return loaded


def policy(part: str) -> Object:
    """As in `files/admission/`: `assignments` or `leases`."""
    loaded: Object = yaml.safe_load((_FILES / "admission" / f"{part}.yaml").read_text())
    return loaded


def without(scope: Scope, group: str, resource: str, verb: str) -> dict[Scope, list[Object]]:
    """The rules with one verb taken away, and nothing else."""
    changed = copy.deepcopy(rules())
    touched = [r for r in changed[scope] if r["apiGroups"] == [group] and r["resources"] == [resource]]
    rule = next(r for r in touched if verb in r["verbs"])
    rule["verbs"].remove(verb)
    if not rule["verbs"]:
        changed[scope].remove(rule)
    return changed


class Account:
    """A ServiceAccount of an operator that works in some namespaces, with a Role in each, as the chart makes them."""

    def __init__(self, cluster: Cluster, name: str, namespaces: Sequence[str]) -> None:
        self.cluster = cluster
        self.name = name
        self.namespaces = tuple(namespaces)
        self.user = f"system:serviceaccount:{HOME}:{name}"

    async def install(self) -> None:
        """Makes the account and gives it the shipped rules."""
        await self.cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": self.name, "namespace": HOME}},
            *(part for role in self._roles(rules()) for part in (role, self._binding(role))),
        )

    async def change(self, given: dict[Scope, list[Object]]) -> None:
        """Gives it these rules and no others."""
        for role in self._roles(given):
            namespace = role["metadata"].get("namespace")
            scope = f"namespaces/{namespace}/roles" if namespace else "clusterroles"
            status, answer = await self.cluster.request(
                "PUT", f"/apis/{_RBAC}/v1/{scope}/{role['metadata']['name']}", role
            )
            assert status == 200, answer

    def _roles(self, given: dict[Scope, list[Object]]) -> Iterable[Object]:
        places: list[tuple[str, str | None, Scope]] = [(self.name, None, "cluster")]
        places += [(self.name, namespace, "namespaced") for namespace in self.namespaces]
        places += [(f"{self.name}-leader", HOME, "leaderLease")]
        for name, namespace, scope in places:
            metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
            kind = "Role" if namespace else "ClusterRole"
            yield {"apiVersion": f"{_RBAC}/v1", "kind": kind, "metadata": metadata, "rules": given[scope]}

    def _binding(self, role: Object) -> Object:
        return {
            "apiVersion": f"{_RBAC}/v1",
            "kind": f"{role['kind']}Binding",
            "metadata": role["metadata"],
            "roleRef": {"apiGroup": _RBAC, "kind": role["kind"], "name": role["metadata"]["name"]},
            "subjects": [{"kind": "ServiceAccount", "name": self.name, "namespace": HOME}],
        }

    async def kubeconfig(self) -> Path:
        """For an operator that runs beside the cluster."""
        return await self.cluster.service_account_kubeconfig(HOME, self.name)

    async def token(self) -> str:
        """For requests in its name."""
        return await self.cluster.service_account_token(HOME, self.name)

    async def can(self, verb: str, resource: str, namespace: str) -> bool:
        """`kubectl auth can-i`."""
        plural, _, sub = resource.partition("/")
        answer = await self.cluster.kubectl(
            *("auth", "can-i", verb, plural, f"--subresource={sub}", "-n", namespace, f"--as={self.user}"), check=False
        )
        return answer.strip().splitlines()[-1] == "yes"


async def install_policies(cluster: Cluster, name: str, namespaces: Sequence[str]) -> None:
    """The admission policies, for these namespaces alone; returns when they are in force."""
    for part in ("assignments", "leases"):
        here = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(namespaces)}
        where = {"matchResources": {"namespaceSelector": {"matchExpressions": [here]}}}
        metadata = {"name": f"{name}-{part}"}
        api = "admissionregistration.k8s.io/v1"
        await cluster.apply(
            {"apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": metadata, "spec": policy(part)},
            {
                "apiVersion": api,
                "kind": "ValidatingAdmissionPolicyBinding",
                "metadata": metadata,
                "spec": {"policyName": f"{name}-{part}", "validationActions": ["Deny"], **where},
            },
        )
    for namespace in namespaces:
        await _in_force(cluster, namespace)


async def remove_policies(cluster: Cluster, name: str) -> None:
    """Takes them away again."""
    for part in ("assignments", "leases"):
        for plural in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
            await cluster.request("DELETE", f"/apis/admissionregistration.k8s.io/v1/{plural}/{name}-{part}")


async def _in_force(cluster: Cluster, namespace: str) -> None:
    # The administrator may do anything, except open a router's Lease without being the router's pod.
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases?dryRun=All"
    probe = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "probe", "labels": {"strategyrollout.io/rollout-uid": "probe"}},
    }

    async def refused() -> bool:
        return (await cluster.request("POST", path, probe))[0] == 403

    await until(f"the policies are in force in {namespace}", refused, 30)
