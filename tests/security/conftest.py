"""Two desks under the shipped policies, and everybody who might want to meddle with them.

The pods here never run: a token bound to a pod is all that the API server sees of a process.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest_asyncio

from strategyrollout.api import meta
from strategyrollout.core.build import Owner
from strategyrollout.traffic.haproxy import Routers, objects
from tests.api.install import install_crds
from tests.api.manifests import sample
from tests.cluster.cluster import Cluster
from tests.security.shipped import Account, Object, install_policies, remove_policies

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "n")
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"
ASSIGNMENTS = f"/apis/{meta.API_VERSION}/namespaces/{{}}/trafficassignments"
_numbers = itertools.count(1)
_PLAIN = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]


@dataclass
class Guarded:
    """A namespace with two rollouts, `momentum` and `reversion`, and no operator at work."""

    cluster: Cluster
    namespace: str
    operator: Account
    owners: dict[str, Owner] = field(default_factory=dict)

    async def routed(self, name: str) -> Owner:
        """A rollout and who its routers are, as the operator makes them."""
        rollout = sample("canary.yaml")
        rollout["metadata"] = {"name": name, "namespace": self.namespace}
        path = f"/apis/{meta.API_VERSION}/namespaces/{self.namespace}/strategyrollouts"
        status, stored = await self.cluster.request("POST", path, rollout)
        assert status == 201, stored
        owner = self.owners[name] = Owner(self.namespace, name, stored["metadata"]["uid"])
        made = objects(Routers(owner, "registry.example/router@sha256:" + "0" * 64, 1, "orders", "X", "salt", 250))
        await self.cluster.apply(*(o for o in made if o["kind"] in {"ServiceAccount", "Role", "RoleBinding"}))
        return owner

    async def may(self, name: str, subject: Object, *rules: Object) -> None:
        """A Role of this namespace, and who has it."""
        rbac = "rbac.authorization.k8s.io"
        metadata = {"name": name, "namespace": self.namespace}
        await self.cluster.apply(
            {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": list(rules)},
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "RoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
                "subjects": [subject],
            },
        )

    async def pod(self, account: str, labels: Mapping[str, str] | None = None) -> Object:
        """A pod of that account, on no node."""
        body = {
            "metadata": {"name": f"{account}-{next(_numbers)}", "labels": dict(labels or {})},
            "spec": {
                "serviceAccountName": account,
                "nodeSelector": {"kubernetes.io/hostname": "nowhere"},
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "any", "image": "registry.example/any"}],
            },
        }
        status, pod = await self.cluster.request("POST", f"/api/v1/namespaces/{self.namespace}/pods", body)
        assert status == 201, pod
        return pod

    async def token(self, account: str, pod: Object | None = None) -> str:
        """A token of that account, for that pod if one is given."""
        return await self.cluster.service_account_token(self.namespace, account, pod)

    def lease(self, name: str, rollout: str = "momentum", uid: str = "", **annotations: str) -> Object:
        """A router's Lease as its agent opens it."""
        words = {meta.ANNOTATION_CONSUMER: meta.CONSUMER_OPEN, meta.ANNOTATION_ACKED: "0", **annotations}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": {
                    meta.LABEL_ROLLOUT: rollout,
                    meta.LABEL_ROLLOUT_UID: uid or self.owners[rollout].uid,
                    meta.LABEL_ROLE: meta.ROLE_ROUTER,
                },
                "annotations": words,
            },
            "spec": {"holderIdentity": name, "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")},
        }

    def table(self, rollout: str = "momentum", cause: str = "Step") -> Object:
        """An assignment that gives everything to one revision."""
        revision, epoch = "a" * 10, int(time.time() * 1000)
        return {
            "apiVersion": meta.API_VERSION,
            "kind": "TrafficAssignment",
            "metadata": {"name": rollout, "namespace": self.namespace},
            "spec": {
                "epoch": epoch,
                "rolloutUID": self.owners[rollout].uid if rollout in self.owners else "uid-of-nobody",
                "salt": "salt",
                "header": "X-Account-Id",
                "drain": "250ms",
                "lease": "10s",
                "ranges": [{"from": 0, "to": 9999, "owner": revision, "token": epoch, "leased": False}],
                "cause": {"kind": cause, "at": 1},
            },
        }

    async def send(self, method: str, path: str, body: Object | None, token: str) -> tuple[int, str]:
        """Status and what people read."""
        status, answer = await self.cluster.request(method, path, body, token)
        return status, str(answer.get("message") or "")

    async def stored(self, path: str) -> Object:
        """The object as it is."""
        status, body = await self.cluster.request("GET", path)
        assert status == 200, body
        return body


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def guarded(cluster: Cluster) -> AsyncIterator[Guarded]:
    """The desks, the policies, and the people: alice has wide rights, bob may override, carol may for `momentum`."""
    await install_crds(cluster)
    namespace, doomed = f"guarded-{WORKER}", f"doomed-{WORKER}"
    for name in (namespace, doomed):
        await cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        await cluster.service_account_exists(name, "default")
    operator = Account(cluster, f"guarded-{WORKER}", [namespace, doomed])
    await operator.install()
    desks = Guarded(cluster, namespace, operator)
    for rollout in ("momentum", "reversion"):
        await desks.routed(rollout)
    await _people(desks)
    await install_policies(cluster, f"guarded-{WORKER}", [namespace, doomed])
    yield desks
    await remove_policies(cluster, f"guarded-{WORKER}")
    for name in (namespace, doomed):
        await cluster.request("DELETE", f"/api/v1/namespaces/{name}")


async def _people(desks: Guarded) -> None:
    wide = (
        {"apiGroups": [meta.GROUP], "resources": ["trafficassignments"], "verbs": _PLAIN},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": _PLAIN},
    )
    override = {"apiGroups": [meta.GROUP], "resources": ["trafficassignments"], "verbs": [meta.VERB_OVERRIDE]}
    await desks.may("wide", {"kind": "User", "name": "alice"}, *wide)
    await desks.may("override", {"kind": "User", "name": "bob"}, *wide, override)
    await desks.may("one", {"kind": "User", "name": "carol"}, *wide, {**override, "resourceNames": ["momentum"]})
    account = {"kind": "ServiceAccount", "name": "strategy", "namespace": desks.namespace}
    await desks.cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "strategy", "namespace": desks.namespace}}
    )
    await desks.may("strategy", account, *wide)
