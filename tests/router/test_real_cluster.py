"""Router pods on the real API server: their own tokens and rights, EndpointSlices of real Services, real Leases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from strategyrollout.api.meta import LABEL_REVISION, LABEL_ROLLOUT, LABEL_ROLLOUT_UID
from strategyrollout.core.build import Owner, owned, selector, service_port
from strategyrollout.core.routing import bucket_of
from strategyrollout.traffic.haproxy import Routers, objects
from tests.api.install import install_crds
from tests.api.manifests import sample
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.router.image import add_router_image
from tests.router.router import CANDIDATE, HEADER, STABLE, span
from tests.strategy.image import add_image, pod_template

pytestmark = pytest.mark.cluster

Object = dict[str, Any]
DRAIN = 250


class Desk:
    """A rollout with two revisions and two routers, and the operator's hand on its assignment."""

    def __init__(self, cluster: Cluster, owner: Owner) -> None:
        self.cluster = cluster
        self.owner = owner
        self._stored: Object = {}

    async def get(self, path: str) -> Object:
        status, answer = await self.cluster.request("GET", path)
        assert status == 200, answer
        return answer

    async def leases(self) -> list[Object]:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.owner.namespace}/leases"
        listed = await self.get(f"{path}?labelSelector={LABEL_ROLLOUT_UID}={self.owner.uid}")
        return list(listed["items"])

    async def said(self, word: str) -> list[str]:
        """What every router says about one thing."""
        return [lease["metadata"]["annotations"][f"strategyrollout.io/{word}"] for lease in await self.leases()]

    async def pods(self) -> list[Object]:
        """Ready routers."""
        label = f"{LABEL_ROLLOUT}={self.owner.name},strategyrollout.io/role=router"
        listed = await self.get(f"/api/v1/namespaces/{self.owner.namespace}/pods?labelSelector={label}")
        return [
            pod
            for pod in listed["items"]
            if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or ())
        ]

    async def write(self, epoch: int, *ranges: Object) -> None:
        spec = {
            "epoch": epoch,
            "rolloutUID": self.owner.uid,
            "salt": self.owner.uid,
            "header": HEADER,
            "drain": f"{DRAIN}ms",
            "lease": "10s",
            "ranges": list(ranges),
            "cause": {"kind": "Step", "at": 1},
        }
        path = f"/apis/strategyrollout.io/v1alpha1/namespaces/{self.owner.namespace}/trafficassignments"
        body = {"apiVersion": "strategyrollout.io/v1alpha1", "kind": "TrafficAssignment", "spec": spec}
        metadata = self._stored.get("metadata") or {"name": self.owner.name, "namespace": self.owner.namespace}
        method, target = ("PUT", f"{path}/{self.owner.name}") if self._stored else ("POST", path)
        status, self._stored = await self.cluster.request(method, target, {**body, "metadata": metadata})
        assert status in (200, 201), self._stored

    async def acked(self, epoch: int) -> float:
        """Wait until both routers have acknowledged; seconds since the call."""
        began = time.monotonic()
        while await self.said("acked-epoch") != [str(epoch)] * 2:
            assert time.monotonic() - began < 10, await self.leases()
            await asyncio.sleep(0.005)
        return time.monotonic() - began


async def order(client: aiohttp.ClientSession, pod: Object, unit: str) -> tuple[int, str]:
    """Status and serving revision of one order."""
    url = f"http://{pod['status']['podIP']}:8080/orders"
    body = {"account": unit, "symbol": "X", "side": "buy", "quantity": 1, "price": "1.0"}
    async with client.post(url, json=body, headers={HEADER: unit}) as response:
        await response.read()
        return response.status, response.headers.get("X-Strategy-Revision", "")


@pytest_asyncio.fixture
async def desk(cluster: Cluster, namespace: str) -> AsyncIterator[Desk]:
    await install_crds(cluster)
    rollout = sample("canary.yaml")
    rollout["metadata"] = {"name": "momentum", "namespace": namespace}
    path = f"/apis/strategyrollout.io/v1alpha1/namespaces/{namespace}/strategyrollouts"
    status, stored = await cluster.request("POST", path, rollout)
    assert status == 201, stored
    owner = Owner(namespace, "momentum", stored["metadata"]["uid"])
    template = pod_template(add_image(cluster.images, "router-test"))
    for revision in (STABLE, CANDIDATE):
        labels = {LABEL_REVISION: revision}
        pods = {"metadata": {"labels": selector(owner, revision)}, **template}
        metadata = owned(owner, f"momentum-{revision}", labels)
        await cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata,
                "spec": {"selector": selector(owner, revision), "ports": [service_port("orders")]},
            },
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": metadata,
                "spec": {"replicas": 1, "selector": {"matchLabels": selector(owner, revision)}, "template": pods},
            },
        )
    await cluster.apply(
        *objects(
            Routers(
                owner=owner,
                image=add_router_image(cluster.images),
                replicas=2,
                port_name="orders",
                header=HEADER,
                salt=owner.uid,
                drain=DRAIN,
            )
        )
    )
    yield Desk(cluster, owner)


async def test_real_routers_move_units_acknowledge_and_end_tidily(desk: Desk) -> None:
    async def opened() -> bool:
        return await desk.said("consumer") == ["Open"] * 2

    async def both_ready() -> bool:
        return len(await desk.pods()) == 2

    await until("both routers have opened their Leases", opened, 60)
    await desk.write(10, span(0, 9999, STABLE, token=10))
    await until("both routers are ready", both_ready, 60)
    await desk.acked(10)
    routers = await desk.pods()
    units = [f"ACC-{number}" for number in range(40)]
    moving = {unit for unit in units if bucket_of(desk.owner.uid, unit) < 5000}
    async with aiohttp.ClientSession() as client:
        for pod in routers:
            answers = [await order(client, pod, unit) for unit in units]
            assert {revision for _, revision in answers} == {STABLE}
        await desk.write(11, span(0, 4999, STABLE, to=CANDIDATE, token=10), span(5000, 9999, STABLE, token=10))
        frozen = await desk.acked(11)
        for pod in routers:
            statuses = {unit: (await order(client, pod, unit))[0] for unit in units}
            assert {unit for unit, status in statuses.items() if status == 423} == moving
        await desk.write(12, span(0, 4999, CANDIDATE, token=12, leased=True), span(5000, 9999, STABLE, token=10))
        granted = await desk.acked(12)
        assert max(frozen, granted) < 0.5
        for pod in routers:
            served = {unit: (await order(client, pod, unit))[1] for unit in units}
            assert served == {unit: CANDIDATE if unit in moving else STABLE for unit in units}

    async def one_closed() -> bool:
        return sorted(await desk.said("consumer"))[0] == "Closed"

    name = routers[0]["metadata"]["name"]
    await desk.cluster.kubectl("delete", "pod", name, "--namespace", desk.owner.namespace, "--wait=false")
    await until("the deleted router has closed its Lease", one_closed, 20)
    closed = next(lease for lease in await desk.leases() if "Closed" in lease["metadata"]["annotations"].values())
    assert closed["metadata"]["name"] == routers[0]["metadata"]["uid"]
