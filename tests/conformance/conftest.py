"""One operator for all cases, in a namespace of its own; a desk, that is a rollout with its record, for each."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.api.install import install_crds
from tests.cluster.cluster import Cluster
from tests.conformance.api_client import Api
from tests.conformance.desk import Desk
from tests.operator_process import Operator
from tests.router.image import add_router_image
from tests.security.audit import refusals
from tests.security.shipped import Account, install_policies, remove_policies

_numbers = itertools.count(1)
MakeDesk = Callable[..., Awaitable[Desk]]


@dataclass(frozen=True)
class Floor:
    """What all desks share."""

    cluster: Cluster
    api: Api
    namespace: str


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def floor(cluster: Cluster) -> AsyncIterator[Floor]:
    """The cluster with our kinds, a namespace for every worker, and a Prometheus that scrapes four times a second."""
    await install_crds(cluster)
    await cluster.set_scrape_interval("250ms")
    namespace = f"conformance-{os.environ.get('PYTEST_XDIST_WORKER', 'n')}"
    api = Api(cluster)
    await api.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    await cluster.service_account_exists(namespace, "default")
    yield Floor(cluster, api, namespace)
    await api.delete(f"/api/v1/namespaces/{namespace}")
    await api.close()
    await cluster.set_scrape_interval("1s")


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def operator(floor: Floor, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Operator]:
    """The operator of the cases that do not kill it, under the permissions and policies that are shipped."""
    image, url = add_router_image(floor.cluster.images), floor.cluster.prometheus_url
    folder, settings = tmp_path_factory.mktemp("operator"), {"namespaces": floor.namespace}
    account = Account(floor.cluster, floor.namespace, [floor.namespace])
    await account.install()
    await install_policies(floor.cluster, floor.namespace, [floor.namespace])
    kubeconfig = await account.kubeconfig()
    running = Operator(floor.cluster, folder, kubeconfig, **settings, prometheus=url, router_image=image)
    async with running.running():
        yield running
        assert "Traceback" not in running.log.read_text(), running.log.read_text()[-5000:]
    assert refusals(floor.cluster, account.user) == []
    await remove_policies(floor.cluster, floor.namespace)


@pytest_asyncio.fixture
async def desks(floor: Floor, operator: Operator, request: pytest.FixtureRequest) -> AsyncIterator[MakeDesk]:
    """Makes recorded desks; `await desks("name", flips=True)`."""
    word = re.sub(r"[^a-z0-9]+", "", request.node.name.lower().removeprefix("test_case_"))[:12]
    prefix = f"c{word}{next(_numbers)}"
    async with AsyncExitStack() as stack:

        async def make(name: str = "", *, flips: bool = False) -> Desk:
            desk = Desk(floor.cluster, floor.api, floor.namespace, f"{prefix}{name}", flips=flips)
            return await stack.enter_async_context(desk.recorded())

        yield make


@pytest_asyncio.fixture
async def desk(desks: MakeDesk) -> Desk:
    """A canary's desk."""
    return await desks()


@pytest_asyncio.fixture
async def switched(desks: MakeDesk) -> Desk:
    """A desk whose provider flips."""
    return await desks(flips=True)


async def side_by_side(make: MakeDesk, table: Mapping[str, Any], case: Callable[..., Awaitable[None]]) -> None:
    """The same case for each row of a table at the same time, each at a desk of its own: most of it is waiting."""

    async def one(desk: Desk, name: str) -> None:
        try:
            await case(desk, table[name])
        except BaseException as error:
            error.add_note(f"at {desk.name}: {name}")
            raise

    desks = [await make(str(number)) for number in range(len(table))]
    await asyncio.gather(*(one(desk, name) for desk, name in zip(desks, table, strict=True)))
