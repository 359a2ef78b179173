"""What tests of the hands share: the real API server, a cache fed as a watch would, and a rollout that owns things."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from strategyrollout.cluster.access import from_kubeconfig
from strategyrollout.cluster.apply import Applier
from strategyrollout.cluster.cache import Cache
from strategyrollout.cluster.client import Api, NotFound
from strategyrollout.cluster.kinds import ROLLOUTS, Kind
from strategyrollout.core.build import Owner
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until

Body = dict[str, Any]
CRDS = Path(__file__).parents[2] / "crds"
IMAGE = "registry.example/momentum@sha256:" + "4b" * 32


def pod_template(**container: Any) -> Body:
    """A template that the API server takes and whose pods need not run."""
    ports = [{"name": "orders", "containerPort": 8080}]
    return {"spec": {"containers": [{"name": "strategy", "image": IMAGE, "ports": ports, **container}]}}


def rollout(name: str, namespace: str, template: Body) -> Body:
    """A rollout that is accepted."""
    return {
        "apiVersion": ROLLOUTS.api_version,
        "kind": "StrategyRollout",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "version": "2.4.0",
            "workload": "RequestDriven",
            "replicas": 2,
            "template": template,
            "method": {"type": "BlueGreen"},
            "traffic": {"service": {"name": f"{name}-orders"}},
        },
    }


class World:
    """The API server, and what the operator knows of it."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.cache = Cache(lambda body: [], lambda kind, old, new: None)
        self.applier = Applier(api, self.cache)

    async def make(self, name: str = "momentum", template: Body | None = None) -> Owner:
        """A rollout, so that the garbage collector finds an owner."""
        body = rollout(name, self.namespace, template or pod_template())
        made = await self.api.create(ROLLOUTS.path(self.namespace), body)
        return Owner(self.namespace, name, made["metadata"]["uid"])

    async def get(self, kind: Kind, name: str) -> Body:
        """An object as it is."""
        return await self.api.get(kind.path(self.namespace, name))

    async def exists(self, kind: Kind, name: str) -> bool:
        """Whether there is such an object."""
        try:
            await self.get(kind, name)
        except NotFound:
            return False
        return True

    async def see(self, kind: Kind, name: str) -> Body | None:
        """What a watch would do: take the object's latest state into the cache."""
        known = self.cache.get(kind, self.namespace, name)
        try:
            body = await self.get(kind, name)
        except NotFound:
            if known is not None:
                self.cache.remove(kind, known)
            return None
        self.cache.put(kind, body)
        return body

    def writes(self) -> int:
        """Requests so far that change something."""
        return sum(n for (verb, _, _), n in self.api.requests_total.items() if verb not in {"GET", "LIST"})

    def requests(self) -> int:
        """Requests so far."""
        return sum(self.api.requests_total.values())


@pytest.fixture(scope="session")
def _installed() -> set[str]:
    return set()


@pytest_asyncio.fixture
async def api(cluster: Cluster, _installed: set[str]) -> AsyncIterator[Api]:
    """The operator's client, as administrator, with our kinds installed."""
    async with Api(from_kubeconfig(str(cluster.kubeconfig))) as client:
        if not _installed:
            await cluster.kubectl("apply", "--server-side", "-f", str(CRDS))

            async def served() -> bool:
                try:
                    await client.list(ROLLOUTS.path())
                except NotFound:
                    return False
                return True

            await until("our kinds are served", served, 30)
            _installed.add("crds")
        yield client


@pytest_asyncio.fixture
async def world(api: Api, namespace: str) -> World:
    """A namespace and the hands in it."""
    return World(api, namespace)
