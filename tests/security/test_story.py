"""A whole story under exactly the shipped rules: nothing is refused, and no verb is shipped that nothing uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from strategyrollout.api import meta
from strategyrollout.cluster.access import Access
from strategyrollout.cluster.cache import Cache
from strategyrollout.cluster.client import Api as OperatorsApi
from strategyrollout.cluster.inputs import references
from strategyrollout.cluster.kinds import WATCHED
from strategyrollout.cluster.resync import Resync
from tests.api.install import install_crds
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.conformance.api_client import OURS, Api
from tests.conformance.desk import Desk
from tests.conformance.manifests import LIMIT, add_image, blue_green, query, steps, template
from tests.operator_process import Operator
from tests.router.image import add_router_image
from tests.security.audit import asked, refusals
from tests.security.conftest import WORKER
from tests.security.needed import ALL, BEHIND, Verb
from tests.security.shipped import HOME, Account, Object, install_policies, remove_policies

pytestmark = pytest.mark.cluster

NAME = f"story-{WORKER}"


@dataclass
class Stage:
    """An operator under its own account, and the namespace it works in."""

    cluster: Cluster
    api: Api
    namespace: str
    account: Account
    operator: Operator

    def path(self, group: str, plural: str, name: str) -> str:
        """Of an object here."""
        return f"{group}/namespaces/{self.namespace}/{plural}/{name}"

    async def until(self, what: str, path: str, check: Callable[[Object], bool], seconds: float = 40) -> Object:
        """Waits until an object is as it should be; `{}` when it is not there."""
        found: Object = {}

        async def there() -> bool:
            nonlocal found
            status, body = await self.cluster.request("GET", path)
            found = body if status == 200 else {}
            return check(found)

        try:
            await until(what, there, seconds)
        except Exception as error:
            raise AssertionError(f"not so: {what}: {found}") from error
        return found


@pytest_asyncio.fixture
async def stage(cluster: Cluster, namespace: str, tmp_path: Path) -> AsyncIterator[Stage]:
    await install_crds(cluster)
    await cluster.set_scrape_interval("250ms")
    account = Account(cluster, NAME, [namespace])
    await account.install()
    await install_policies(cluster, NAME, [namespace])
    settings = {"namespaces": namespace, "prometheus": cluster.prometheus_url, "leader_lease": f"{HOME}/{NAME}"}
    settings["router_image"] = add_router_image(cluster.images)
    api = Api(cluster)
    operator = Operator(cluster, tmp_path, await account.kubeconfig(), **settings)
    async with operator.running():
        yield Stage(cluster, api, namespace, account, operator)
    await api.close()
    await remove_policies(cluster, NAME)
    await cluster.set_scrape_interval("1s")


async def test_a_story_needs_every_verb_and_no_other(stage: Stage) -> None:
    scenes: tuple[Callable[[Stage], Awaitable[None]], ...] = (canary, switch, requests, lost_router, healing)
    for scene in scenes:
        await scene(stage)
    assert refusals(stage.cluster, stage.account.user) == []
    used = _used(stage)
    assert sorted(map(str, set(ALL) - used - set(BEHIND))) == [], "verbs that nothing uses"
    assert sorted(map(str, used - set(ALL))) == [], "verbs that are used and not shipped"


def _used(stage: Stage) -> set[Verb]:
    found = set()
    for one in asked(stage.cluster, stage.account.user):
        if one.group in {"authorization.k8s.io", ""} and one.resource == "selfsubjectaccessreviews":
            continue  # everybody may ask what he may
        place = "leaderLease" if one.namespace == HOME else "namespaced"
        verb = Verb("cluster" if not one.namespace else place, one.group, one.resource, one.verb)  # type: ignore[arg-type]
        found.add(verb)
    return found


async def canary(stage: Stage) -> None:
    """Direct to 100 %, a canary by routers, a breach that is taken back; and somebody changes what is not theirs."""
    cluster_template = {
        "apiVersion": meta.API_VERSION,
        "kind": "ClusterGateTemplate",
        "metadata": {"name": NAME},
        "spec": {"query": query("rejects"), "limit": {"above": LIMIT}, "interval": "250ms", "maxAge": "2s"},
    }
    await stage.cluster.apply(cluster_template)
    gates = [{"name": "rejects", "template": {"kind": "ClusterGateTemplate", "name": NAME}}]
    async with Desk(stage.cluster, stage.api, stage.namespace, "momentum").recorded() as desk:
        await desk.promoted("1.0.0", gates=gates)
        await desk.apply("2.0.0", gates=gates, method=steps(("10%", "1h")))
        await desk.reaches("Holding", weight="10%")
        await desk.judged("Pass")
        await desk.signal("2.0.0", "rejects", "0.9")
        await desk.reaches("Reverted")
        for _ in range(2):  # the same words twice are one event with a count
            await desk.apply("3.0.0", gates=[{"name": "rejects", "template": {**gates[0]["template"], "name": "x"}}])  # type: ignore[dict-item]
            await desk.reaches("InvalidGate")
            await desk.apply("2.0.0", gates=gates, method=steps(("10%", "1h")))
            await desk.reaches("Reverted")
        await _meddle(stage, "statefulsets", "momentum-router")
        await _meddle(stage, "deployments", f"momentum-{desk.hashes['1.0.0']}")
        await stage.cluster.request(
            "PATCH",
            stage.path("/api/v1", "services", "momentum"),
            {"spec": {"ports": [{"name": "orders", "port": 80}, {"name": "more", "port": 81}]}},
        )
        await stage.until(
            "the Service is mended",
            stage.path("/api/v1", "services", "momentum"),
            lambda service: len(service["spec"]["ports"]) == len({p["port"] for p in service["spec"]["ports"]} - {81}),
        )


async def _meddle(stage: Stage, plural: str, name: str) -> None:
    path = stage.path("/apis/apps/v1", plural, name)
    added = {"spec": {"template": {"spec": {"tolerations": [{"key": "any", "operator": "Exists"}]}}}}
    status, answer = await stage.cluster.request("PATCH", path, added)
    assert status == 200, answer
    await stage.until("it is mended", path, lambda b: "tolerations" not in b["spec"]["template"]["spec"])


async def switch(stage: Stage) -> None:
    """Blue/green by a Service, with a ConfigMap that is pinned and a template that is kept; old versions go."""
    kept = {"name": "kept", "namespace": stage.namespace}
    spec = {"query": query("rejects"), "limit": {"above": LIMIT}, "interval": "250ms", "maxAge": "2s"}
    await stage.cluster.apply(
        {"apiVersion": meta.API_VERSION, "kind": "GateTemplate", "metadata": kept, "spec": spec},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**kept, "name": "limits"}, "data": {"size": "1"}},
    )
    for version in ("1.0.0", "2.0.0", "3.0.0", "4.0.0"):
        pods = template(add_image(stage.cluster.images, f"pinned-{version}"), version)
        pods["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "limits"}}]
        await stage.cluster.apply(
            {
                "apiVersion": meta.API_VERSION,
                "kind": "StrategyRollout",
                "metadata": {"name": "pinned", "namespace": stage.namespace},
                "spec": {
                    "version": version,
                    "workload": "RequestDriven",
                    "replicas": 1,
                    "revisionHistoryLimit": 1,
                    "template": pods,
                    "method": blue_green(),
                    "traffic": {"service": {"name": "pinned-orders"}, "drain": "100ms"},
                    "gates": [{"name": "rejects", "template": {"kind": "GateTemplate", "name": "kept"}}],
                    "settle": "0s",
                },
            }
        )
        await _state(stage, "Promoted", version)
    copies = f"/api/v1/namespaces/{stage.namespace}/configmaps?labelSelector={meta.LABEL_VERSION}%3D1.0.0"
    await stage.until("copies of old versions are gone", copies, lambda listed: not listed["items"])


async def _state(stage: Stage, state: str, version: str) -> None:
    await stage.until(
        f"{version} is {state}",
        stage.path(OURS, "strategyrollouts", "pinned"),
        lambda b: (
            (b.get("status") or {}).get("state") == state
            and b["status"].get("stableVersion") == version
            and b["status"].get("observedGeneration") == b["metadata"]["generation"]
        ),
    )


async def requests(stage: Stage) -> None:
    """A Rollback that works and one that names nothing."""
    for name, rollout, outcome in (("back", "pinned", "Succeeded"), ("lost", "nowhere", "Refused")):
        await stage.cluster.apply(
            {
                "apiVersion": meta.API_VERSION,
                "kind": "Rollback",
                "metadata": {"name": name, "namespace": stage.namespace},
                "spec": {"rollout": rollout, "reason": "fills look wrong"},
            }
        )
        await stage.until(
            f"{name} is {outcome}",
            stage.path(OURS, "rollbacks", name),
            lambda b, outcome=outcome: (b.get("status") or {}).get("outcome") == outcome,  # type: ignore[misc]
        )


async def lost_router(stage: Stage) -> None:
    """A router that ends without a word: its Lease is closed on proof, and cleared away after a while."""
    rollout = await stage.until("it is there", stage.path(OURS, "strategyrollouts", "pinned"), bool)
    labels = {
        meta.LABEL_ROLLOUT: "pinned",
        meta.LABEL_ROLLOUT_UID: rollout["metadata"]["uid"],
        meta.LABEL_ROLE: meta.ROLE_ROUTER,
    }
    account = {"name": "silent", "namespace": stage.namespace}
    rbac = "rbac.authorization.k8s.io"
    grant = {"apiGroups": [meta.GROUP], "resources": ["trafficassignments"], "verbs": [meta.VERB_ACKNOWLEDGE]}
    leases = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]}
    await stage.cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": account, "rules": [grant, leases]},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": account,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "silent"},
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
    )
    spec = template(add_image(stage.cluster.images, "silent"))["spec"]
    body = {"metadata": {**account, "labels": labels}, "spec": {**spec, "serviceAccountName": "silent"}}
    body["spec"]["restartPolicy"] = "Never"
    _, pod = await stage.cluster.request("POST", f"/api/v1/namespaces/{stage.namespace}/pods", body)
    collection = f"/apis/coordination.k8s.io/v1/namespaces/{stage.namespace}/leases"
    lease = {
        "metadata": {
            "name": pod["metadata"]["uid"],
            "labels": labels,
            "annotations": {meta.ANNOTATION_CONSUMER: meta.CONSUMER_OPEN, "strategyrollout.io/pod": "silent"},
        },
        "spec": {"renewTime": "2026-11-01T00:00:00.000000Z"},
    }
    token = await stage.cluster.service_account_token(stage.namespace, "silent", pod)

    async def opened() -> bool:
        return (await stage.cluster.request("POST", collection, lease, token))[0] == 201

    await until("its Lease is open", opened, 10)
    path = stage.path("/api/v1", "pods", "silent")
    await stage.until("it runs", path, lambda b: bool((b.get("status") or {}).get("podIP")))
    await asyncio.sleep(6)  # one sweep asks for the pod of a Lease that is silent for so long, and finds it running
    stage.cluster.node.kill(stage.namespace, "silent")
    await stage.until("its Lease is gone", f"{collection}/{pod['metadata']['uid']}", lambda b: not b)


async def healing(stage: Stage) -> None:
    """What the watches have lost is read again, one by one: by the operator's own code, with its account."""
    cluster = stage.cluster
    async with OperatorsApi(Access(cluster.server, ca=cluster.ca_file, token=await stage.account.token())) as api:
        resync = Resync(api, Cache(references, lambda *_: None), [stage.namespace], lambda _: None)
        await resync.compare(WATCHED)
        assert resync.failing == {}
