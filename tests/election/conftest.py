"""What tests of the election share: a namespace with a rollout that needs nothing else, and two replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.cluster.cluster import Cluster
from tests.conformance.conftest import floor  # noqa: F401
from tests.loop.conftest import desk, prepared  # noqa: F401
from tests.replicas import Replicas


@pytest_asyncio.fixture
async def replicas(prepared: Cluster, namespace: str, tmp_path: Path) -> AsyncIterator[Replicas]:  # noqa: F811
    """Two operators of this test's namespace, one of which leads."""
    url = prepared.prometheus_url
    async with Replicas(prepared, tmp_path, namespace, namespaces=namespace, prometheus=url).running() as running:
        yield running
