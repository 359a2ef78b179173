"""Fixtures every test may ask for: the cluster of the session and a namespace of one's own in it."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cluster.cluster import RUNNING, Cluster
from tests.cluster.enter import inside

_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """The one cluster of this run: the one that `python -m tests.cluster run` started, or one of its own."""
    if not inside():
        pytest.fail("tests of the cluster need it; run them as: python -m tests.cluster.enter -- pytest ...", False)
    if folder := os.environ.get(RUNNING):
        yield Cluster.attach(Path(folder))
        return
    async with Cluster.start(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest_asyncio.fixture
async def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A namespace for one test, ready to run pods in; its end is not waited for."""
    word = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].strip("-")
    # Workers that share a cluster count each for themselves.
    name = f"{word}-{os.environ.get('PYTEST_XDIST_WORKER', 'n')}{next(_numbers)}"
    status, answer = await cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    assert status == 201, answer
    await cluster.service_account_exists(name, "default")
    yield name
    await cluster.request("DELETE", f"/api/v1/namespaces/{name}")
