"""The API of this tree in the cluster of the session, and a small door to its objects."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest_asyncio

from strategyrollout.api.meta import API_VERSION
from strategyrollout.api.schema import KINDS
from tests.api.install import install_crds
from tests.api.manifests import Object
from tests.cluster.cluster import Cluster


@dataclass(frozen=True)
class Door:
    """Writes objects of the API into one namespace, strictly: a field that is not known is refused."""

    cluster: Cluster
    namespace: str

    async def create(self, item: Object, *, dry_run: bool = False) -> tuple[int, Object]:
        """Status and answer of a POST."""
        return await self.cluster.request("POST", self._path(item) + _strict(dry_run), item)

    async def replace(self, item: Object, stored: Object, *, dry_run: bool = False) -> tuple[int, Object]:
        """Status and answer of a PUT of `item` over what is stored now."""
        path = f"{self._path(item)}/{stored['metadata']['name']}"
        metadata = {**stored["metadata"], **item["metadata"]}
        return await self.cluster.request("PUT", path + _strict(dry_run), {**item, "metadata": metadata})

    async def delete(self, stored: Object) -> tuple[int, Object]:
        """Status and answer of a DELETE."""
        return await self.cluster.request("DELETE", f"{self._path(stored)}/{stored['metadata']['name']}")

    def _path(self, item: Object) -> str:
        kind = next(kind for kind in KINDS if kind.name == item["kind"])
        namespace = f"namespaces/{self.namespace}/" if kind.scope == "Namespaced" else ""
        return f"/apis/{API_VERSION}/{namespace}{kind.plural}"


def _strict(dry_run: bool) -> str:
    return "?fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api(cluster: Cluster) -> Cluster:
    """The cluster with the CRDs of this tree."""
    await install_crds(cluster)
    return cluster


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def door(api: Cluster) -> AsyncIterator[Door]:
    """A namespace that the tests of the API share; each leaves it as it found it."""
    status, answer = await api.request("POST", "/api/v1/namespaces", {"metadata": {"name": "api-tests"}})
    assert status == 201, answer
    yield Door(api, "api-tests")
    await api.request("DELETE", "/api/v1/namespaces/api-tests")
