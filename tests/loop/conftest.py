"""What tests of the loop share: a cluster with our kinds, an operator in it, and a rollout that needs nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from strategyrollout.api.assignment import AssignmentSpec
from tests.api.install import install_crds
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.conformance.api_client import Api
from tests.history.history import History
from tests.operator_process import Operator

Body = dict[str, Any]
IMAGE = "registry.example/momentum@sha256:" + "4b" * 32
_APIS = "/apis/strategyrollout.io/v1alpha1"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def prepared(cluster: Cluster) -> Cluster:
    """The cluster with our kinds and with nodes on which pods of any image are ready at once."""
    await install_crds(cluster)
    await cluster.add_fake_nodes(1)
    return cluster


@pytest_asyncio.fixture
async def operator(prepared: Cluster, namespace: str, tmp_path: Path) -> AsyncIterator[Operator]:
    """A running operator of this test's namespace."""
    url = prepared.prometheus_url
    async with Operator(prepared, tmp_path, namespaces=namespace, prometheus=url).running() as running:
        yield running


class Desk:
    """A namespace as its users see it."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    async def apply(self, name: str, version: str = "1.0.0", **spec: Any) -> None:
        """A blue/green rollout behind a Service, unless told otherwise."""
        await self.cluster.apply(
            {
                "apiVersion": "strategyrollout.io/v1alpha1",
                "kind": "StrategyRollout",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {
                    "version": version,
                    "workload": "RequestDriven",
                    "replicas": 1,
                    "template": template(),
                    "method": {"type": "BlueGreen"},
                    "traffic": {"service": {"name": f"{name}-orders"}, "drain": "100ms"},
                    "settle": "100ms",
                    **spec,
                },
            }
        )

    async def get(self, plural: str, name: str, group: str = _APIS) -> Body | None:
        """An object, or None."""
        status, body = await self.cluster.request("GET", f"{group}/namespaces/{self.namespace}/{plural}/{name}")
        return body if status == 200 else None

    async def status(self, name: str) -> Body:
        """What a rollout says of itself."""
        return ((await self.get("strategyrollouts", name)) or {}).get("status") or {}

    async def reaches(self, name: str, state: str, version: str | None = None, seconds: float = 30) -> Body:
        """Waits until a rollout is in a state, serving a version if one is given."""
        found: Body = {}

        async def there() -> bool:
            nonlocal found
            found = await self.status(name)
            return found.get("state") == state and version in (None, found.get("stableVersion"))

        try:
            await until(f"{name} is {state}", there, seconds)
        except Exception as error:
            raise AssertionError(f"{name} is not {state} {version or ''}: {found}") from error
        return found


@pytest_asyncio.fixture
async def desk(prepared: Cluster, namespace: str) -> AsyncIterator[Desk]:
    """The namespace of this test. Whatever the test is about, no rule may have been broken in any of its tables."""
    api, histories = Api(prepared), dict[str, History]()
    task = asyncio.create_task(_record(api, namespace, histories))
    try:
        yield Desk(prepared, namespace)
        assert not task.done(), "the record of the API has gaps"
        for history in histories.values():
            history.assert_clean()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await api.close()


async def _record(api: Api, namespace: str, histories: dict[str, History]) -> None:
    """Every version of every assignment of a namespace, by the UID of its rollout."""
    async for kind, item in api.watch(f"{_APIS}/namespaces/{namespace}/trafficassignments", ""):
        spec = AssignmentSpec.model_validate(item["spec"])
        history = histories.setdefault(spec.rollout_uid, History(flips=True))
        if kind == "DELETED":
            history.record_loss()
        else:
            history.record_table(int(time.time() * 1000), spec)


def template(**container: Any) -> Body:
    """Pods that need no program: a pretended node makes them ready."""
    ports = [{"name": "orders", "containerPort": 8080}, {"name": "metrics", "containerPort": 9100}]
    return {
        "spec": {
            "nodeSelector": {"type": "fake"},
            "tolerations": [{"key": "fake", "operator": "Exists"}],
            "containers": [{"name": "strategy", "image": IMAGE, "ports": ports, **container}],
        }
    }
