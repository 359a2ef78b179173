"""One desk for all tests that change nothing of it: 1.0.0 is trusted, 2.0.0 holds 10 %, no operator runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.cli.scene import Scene, scene
from tests.cluster.cluster import Cluster


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def desk(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """Nobody at work."""
    namespace = f"cli-{os.environ.get('PYTEST_XDIST_WORKER', 'n')}"
    await cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    await cluster.service_account_exists(namespace, "default")
    async with scene(cluster, namespace, tmp_path_factory.mktemp("cli")) as s:
        await s.desk.candidate()
        await s.desk.operator.kill()
        yield s
    await cluster.request("DELETE", f"/api/v1/namespaces/{namespace}")
