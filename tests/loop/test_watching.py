"""Where watches begin: at the end of our own lists, the first time and whenever the server has forgotten the place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kopf._cogs.clients import api as kopfs

from strategyrollout import handlers
from strategyrollout.api.meta import LABEL_MANAGED_BY, LABEL_ROLE, MANAGED_BY, ROLE_ROUTER
from strategyrollout.cluster.access import from_kubeconfig
from strategyrollout.cluster.cache import Cache, name_of
from strategyrollout.cluster.client import Api
from strategyrollout.cluster.consumers import has_ended
from strategyrollout.cluster.inputs import references
from strategyrollout.cluster.kinds import CONFIGMAPS, ROLLOUTS, ROUTERS, WATCHED, Kind
from strategyrollout.cluster.resync import Resync
from strategyrollout.ports import Unavailable
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.conformance.api_client import Api as Client
from tests.loop.conftest import IMAGE, Desk, template


class Watched:
    """A cache kept by Kopf's watches; `asked` is what they asked to be listed."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._kubeconfig = str(cluster.kubeconfig)
        self._namespace = namespace
        self.asked: list[Kind] = []
        self.cache = Cache(references, lambda kind, old, new: None)
        self.first: str | Unavailable | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Watched]:
        """Filled and watching inside."""
        access, stop = from_kubeconfig(self._kubeconfig), asyncio.Event()
        async with Api(access) as api:
            self._resync = Resync(api, self.cache, [self._namespace], lambda kind: None)
            await self._resync.fill()
            work = handlers.run(self.cache, lambda: access, (self._namespace,), stop, lambda: None, listed=self._listed)
            watching = asyncio.create_task(work)
            try:
                yield self
            finally:
                stop.set()
                await asyncio.wait_for(watching, 10)

    async def _listed(self, kind: Kind, namespace: str | None) -> str:
        self.asked.append(kind)
        if kind is ROLLOUTS and self.asked.count(ROLLOUTS) == 1 and self.first is not None:
            if isinstance(self.first, Unavailable):
                raise self.first
            return self.first
        return await self._resync.listed(kind, namespace)

    def versions(self) -> dict[str, str]:
        """Of the rollouts that are known."""
        return {name_of(body)[1]: body["spec"]["version"] for body in self.cache.all(ROLLOUTS)}


async def test_kopf_lists_nothing_and_watches_from_the_end_of_the_first_lists(
    prepared: Cluster, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    streams: dict[str, str] = {}
    get, stream = kopfs.get, kopfs.stream

    def noted(url: str, **words: Any) -> Any:
        read.append(url)
        return get(url, **words)

    def followed(url: str, **words: Any) -> Any:
        path, _, query = url.partition("?")
        streams.setdefault(path, query)
        return stream(url=url, **words)

    monkeypatch.setattr(kopfs, "get", noted)
    monkeypatch.setattr(kopfs, "stream", followed)
    await desk.apply("before")
    async with Watched(prepared, desk.namespace).running() as watched:
        assert watched.versions() == {"before": "1.0.0"}
        await desk.apply("after", "2.0.0")
        await until("the watch tells", lambda: _told(watched.versions() == {"before": "1.0.0", "after": "2.0.0"}), 10)
        await until("every kind is watched", lambda: _told(len(streams) >= len(WATCHED)), 10)
    assert sorted(map(str, watched.asked)) == sorted(map(str, WATCHED))
    assert all("resourceVersion=" in query for query in streams.values())
    collections = {kind.path() for kind in WATCHED} | {kind.path(desk.namespace) for kind in WATCHED}
    assert not [url for url in read if url.partition("?")[0] in collections]


async def test_a_watch_whose_place_the_server_has_forgotten_begins_at_a_new_list(prepared: Cluster, desk: Desk) -> None:
    watched = Watched(prepared, desk.namespace)
    watched.first = "1"
    await desk.apply("before")
    async with watched.running():
        await until("the rollouts are listed once more", lambda: _told(watched.asked.count(ROLLOUTS) == 2), 10)
        await desk.apply("after")
        await until("the watch tells", lambda: _told("after" in watched.versions()), 10)
    assert watched.asked.count(ROLLOUTS) == 2


async def test_a_list_that_fails_is_asked_for_again(prepared: Cluster, desk: Desk) -> None:
    watched = Watched(prepared, desk.namespace)
    watched.first = Unavailable("no answer within 5 s")
    async with watched.running():
        await desk.apply("after")
        await until("the watch tells", lambda: _told("after" in watched.versions()), 10)


async def test_first_lists_know_which_routers_have_ended_and_which_configmaps_matter(
    prepared: Cluster, namespace: str
) -> None:
    client = Client(prepared)
    over = {"terminated": {"exitCode": 0}}
    for name, phase, state in (
        ("runs", "Running", {"running": {}}),
        ("evicted", "Failed", over),
        ("deleted", "Running", over),
    ):
        await client.call("POST", f"/api/v1/namespaces/{namespace}/pods", _router_pod(name))
        status = {"phase": phase, "containerStatuses": [_container_status(state)]}
        await client.merge(f"/api/v1/namespaces/{namespace}/pods/{name}/status", {"status": status})
    await client.delete(f"/api/v1/namespaces/{namespace}/pods/deleted")
    for name, labels in (("copy", {LABEL_MANAGED_BY: MANAGED_BY}), ("mentioned", {}), ("of-nobody", {})):
        body = {"metadata": {"name": name, "labels": labels}, "data": {"a": "1"}}
        await client.call("POST", f"/api/v1/namespaces/{namespace}/configmaps", body)
    await Desk(prepared, namespace).apply(
        "momentum", template=template(envFrom=[{"configMapRef": {"name": "mentioned"}}])
    )
    await client.close()
    cache = Cache(references, lambda kind, old, new: None)
    async with Api(from_kubeconfig(str(prepared.kubeconfig))) as api:
        resync = Resync(api, cache, [namespace], lambda kind: None)
        await resync.fill()
    assert resync.filled, resync.failing
    ended = {name_of(pod)[1]: has_ended(pod) for pod in cache.all(ROUTERS)}
    assert ended == {"runs": False, "evicted": True, "deleted": True}
    found = {name_of(body)[1]: body["data"] for body in cache.all(CONFIGMAPS)}
    assert found == {"copy": {"a": "1"}, "mentioned": {"a": "1"}}


def _router_pod(name: str) -> dict[str, Any]:
    """Bound to a node that is not there, so that nobody but the test says anything of it, and kept when deleted."""
    spec = {"nodeName": "nowhere", "restartPolicy": "Never", "containers": [{"name": "agent", "image": IMAGE}]}
    labels = {LABEL_ROLE: ROLE_ROUTER}
    return {"metadata": {"name": name, "labels": labels, "finalizers": ["tests/kept"]}, "spec": spec}


def _container_status(state: dict[str, Any]) -> dict[str, Any]:
    return {
        **{"name": "agent", "image": IMAGE, "imageID": "", "restartCount": 0, "ready": False, "started": False},
        "state": state,
    }


async def _told(so: bool) -> bool:
    return so
