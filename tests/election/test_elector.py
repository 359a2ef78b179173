"""The elector and the door it keeps, on a real API server: what people and crashes do to a Lease."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from strategyrollout.cluster.access import from_kubeconfig
from strategyrollout.cluster.client import Api, Fenced
from strategyrollout.cluster.election import Elector, identity
from strategyrollout.core.leadership import Timing
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.conformance.between import Between, When, Write

pytestmark = pytest.mark.cluster

TIMING = Timing(duration=3, renew_deadline=2, retry=0.2)
LEASES = "/apis/coordination.k8s.io/v1/namespaces"


class Candidate:
    """An elector that says what became of it."""

    def __init__(self, api: Api, namespace: str, name: str, *, ready: bool = True) -> None:
        self.lost: list[str] = []
        self.ready = asyncio.Event()
        if ready:
            self.ready.set()
        self.elector = Elector(api, (namespace, "lead"), identity(name), TIMING, self.lost.append)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Candidate]:
        task = asyncio.create_task(self._run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        await self.elector.acquire(self.ready)
        await self.elector.keep()


@pytest_asyncio.fixture
async def api(cluster: Cluster) -> AsyncIterator[Api]:
    async with Api(from_kubeconfig(str(cluster.kubeconfig))) as made:
        yield made


async def until_so(what: str, holds: Callable[[], bool], seconds: float = 15) -> None:
    async def check() -> bool:
        return holds()

    await until(what, check, seconds)


async def spec(api: Api, namespace: str) -> dict[str, Any]:
    return dict((await api.get(f"{LEASES}/{namespace}/leases/lead"))["spec"])


async def test_the_lease_is_made_kept_and_handed_over_with_its_history(api: Api, namespace: str) -> None:
    first, second = Candidate(api, namespace, "a"), Candidate(api, namespace, "b")
    async with second.running():
        await until_so("b leads", lambda: second.elector.leading)
        async with first.running():
            made = await spec(api, namespace)
            assert made["holderIdentity"].startswith("b_")
            assert (made["leaseDurationSeconds"], made["leaseTransitions"]) == (3, 0)
            await asyncio.sleep(4)  # longer than the Lease
            kept = await spec(api, namespace)
            assert (kept["acquireTime"], kept["leaseTransitions"]) == (made["acquireTime"], 0)
            assert kept["renewTime"] > made["renewTime"]
            assert not first.elector.leading
            assert first.elector.role == f"standing by; {made['holderIdentity']} leads"
    async with first.running():
        await second.elector.release()
        await until_so("a leads", lambda: first.elector.leading)
        assert not second.elector.leading
        assert (await spec(api, namespace))["leaseTransitions"] == 1
        assert second.lost == first.lost == []


async def test_nobody_takes_the_lease_before_it_is_ready(api: Api, namespace: str) -> None:
    async with Candidate(api, namespace, "a", ready=False).running() as candidate:
        await asyncio.sleep(1)
        assert not candidate.elector.leading
        candidate.ready.set()
        await until_so("it leads", lambda: candidate.elector.leading)


async def test_a_lease_that_was_deleted_is_made_anew_by_who_has_it(api: Api, namespace: str) -> None:
    async with Candidate(api, namespace, "a").running() as a:
        await until_so("a leads", lambda: a.elector.leading)
        async with Candidate(api, namespace, "b").running() as b:
            await until_so("b sees it", lambda: b.elector.holder.startswith("a_"))
            await api.delete(f"{LEASES}/{namespace}/leases/lead")
            await asyncio.sleep(4)
            assert (await spec(api, namespace))["holderIdentity"].startswith("a_")
            assert (a.elector.leading, b.elector.leading, a.lost) == (True, False, [])


async def test_who_finds_another_name_in_its_lease_leads_no_more(api: Api, namespace: str) -> None:
    async with Candidate(api, namespace, "a").running() as a:
        await until_so("a leads", lambda: a.elector.leading)
        await api.merge(f"{LEASES}/{namespace}/leases/lead", {"spec": {"holderIdentity": "somebody"}})
        await until_so("a has lost it", lambda: bool(a.lost))
        assert a.lost == [f"somebody holds the Lease {namespace}/lead"]
        await a.elector.release()
        assert (await spec(api, namespace))["holderIdentity"] == "somebody"


async def test_a_write_that_was_never_answered_is_given_back_all_the_same(
    cluster: Cluster, api: Api, namespace: str, tmp_path: Path
) -> None:
    async def unheard(write: Write, when: When) -> bool:
        return when == "after" and write.method == "POST" and write.path.endswith("/leases")

    async with Between(cluster).running() as between:
        between.at_write = unheard
        async with Api(from_kubeconfig(str(between.kubeconfig(tmp_path)))) as lossy:
            a = Candidate(lossy, namespace, "a")
            leading = asyncio.create_task(a.elector.acquire(a.ready))
            await until_so("its write has arrived", lambda: bool(between.writes))
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)
            assert (await spec(api, namespace))["holderIdentity"].startswith("a_")
            assert not a.elector.leading
            await a.elector.release()
    assert (await spec(api, namespace))["holderIdentity"] == ""


async def test_who_does_not_lead_sends_no_write_of_any_kind(cluster: Cluster, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    leads = True
    async with Api(from_kubeconfig(str(cluster.kubeconfig)), may_write=lambda: leads) as api:
        await api.create(path, body)
        leads = False
        writes: list[Callable[[], Awaitable[Any]]] = [
            lambda: api.create(path, {**body, "metadata": {"name": "b"}}),
            lambda: api.replace(f"{path}/a", body),
            lambda: api.merge(f"{path}/a", {"data": {"x": "y"}}),
            lambda: api.apply(f"{path}/a", body, manager="test"),
            lambda: api.delete(f"{path}/a"),
        ]
        for write in writes:
            with pytest.raises(Fenced, match="this replica does not lead"):
                await write()
        found = (await api.list(path))["items"]
        assert [item["metadata"]["name"] for item in found if item["metadata"]["name"] != "kube-root-ca.crt"] == ["a"]
        assert "data" not in await api.get(f"{path}/a")
        assert sum(n for (_, _, status), n in api.requests_total.items() if status == "fenced") == len(writes)
