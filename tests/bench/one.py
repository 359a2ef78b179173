"""One rollout with real routers: from a sample being readable to every router having stopped the candidate."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp

from strategyrollout.api import meta
from strategyrollout.cluster.access import from_kubeconfig
from strategyrollout.cluster.client import Api
from strategyrollout.cluster.kinds import ASSIGNMENTS, LEASES, ROLLOUTS
from tests.api.install import install_crds
from tests.bench import manifests
from tests.bench.crowd import PRODUCTION
from tests.bench.figures import Report
from tests.bench.footprint import Footprint, tell
from tests.bench.signals import Signals
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.operator_process import Operator
from tests.router.image import add_router_image
from tests.strategy.image import add_image, pod_template

Object = dict[str, Any]
# Scrapes at another pace than queries, so that the wait for the next query is any part of the interval.
_ROUTERS, _GATE_MS, _SCRAPE, _SAMPLES, _LONGEST = 2, 100, "90ms", 320, 420.0
_TARGET = 0.1
_NAMESPACE, _NAME = "desk", "momentum"


class _Followed:
    """Every state of the assignment and of the Leases with the moment it was seen, by watches of the bench's own."""

    def __init__(self, api: Api, session: aiohttp.ClientSession, host: str) -> None:
        self._api, self._session, self._host = api, session, host
        self.assignment: Object = {}
        self.acks: dict[str, dict[int, float]] = {}
        """Lease -> epoch -> when its acknowledgement was first seen."""
        self._news = asyncio.Event()

    async def until(self, what: str, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():
                self._news.clear()
                await self._news.wait()

    async def follow(self, path: str) -> None:
        listed = await self._api.get(path)
        for item in listed["items"]:
            self._take(item)
        version = listed["metadata"]["resourceVersion"]
        while True:
            query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "3000"}
            async with self._session.get(self._host + path, params=query) as response:
                async for line in response.content:
                    event = json.loads(line)
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._take(event["object"])

    def _take(self, body: Object) -> None:
        now = time.time()
        if body["kind"] == "TrafficAssignment":
            self.assignment = body["spec"]
        elif meta.LABEL_ROLLOUT_UID in (body["metadata"].get("labels") or {}):
            epoch = int(body["metadata"]["annotations"].get(meta.ANNOTATION_ACKED) or 0)
            self.acks.setdefault(body["metadata"]["name"], {}).setdefault(epoch, now)
        self._news.set()

    @property
    def record(self) -> Object:
        return dict(self.assignment.get("record") or {})

    @property
    def holding(self) -> bool:
        attempt = self.record.get("attempt") or {}
        return attempt.get("weight") == 1000 and bool(attempt.get("heldFrom"))

    @property
    def reverting(self) -> bool:
        return bool((self.record.get("revert") or {}).get("away"))

    def acked(self, epoch: int) -> list[float]:
        """When each router acknowledged this epoch; those that have."""
        return [seen[epoch] for seen in self.acks.values() if epoch in seen]


class _World:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.asynccontextmanager
    async def ready(self) -> AsyncIterator[_World]:
        """The rollout holds at 10 % inside."""
        async with contextlib.AsyncExitStack() as stack:
            cluster = await stack.enter_async_context(Cluster.start(self._folder / "cluster"))
            await cluster.stop_prometheus()
            self.signals = await stack.enter_async_context(Signals(self._folder, _SCRAPE).running())
            await install_crds(cluster)
            access = from_kubeconfig(str(cluster.kubeconfig))
            self.api = await stack.enter_async_context(Api(access))
            router = add_router_image(cluster.images)
            settings = {**PRODUCTION, "prometheus": self.signals.url, "router_image": router}
            self.operator = Operator(cluster, self._folder, None, **settings)
            await stack.enter_async_context(self.operator.running())
            await cluster.apply(manifests.namespace(_NAMESPACE), manifests.gate_template(f"{_GATE_MS}ms"))
            await cluster.service_account_exists(_NAMESPACE, "default")
            session = await stack.enter_async_context(
                aiohttp.ClientSession(
                    headers={"Authorization": f"Bearer {access.token}"},
                    connector=aiohttp.TCPConnector(ssl=access.tls()),
                    timeout=aiohttp.ClientTimeout(total=None),
                )
            )
            self.followed = _Followed(self.api, session, access.host)
            for kind in (ASSIGNMENTS, LEASES):
                task = asyncio.create_task(self.followed.follow(kind.path(_NAMESPACE)))
                stack.push_async_callback(_ended, task)
            await self._version(cluster, "1.0.0")
            await until("the first version serves", self._served, 60)
            await self._version(cluster, "2.0.0")
            await self.followed.until("10 %", lambda: self.followed.holding)
            yield self

    async def _version(self, cluster: Cluster, version: str) -> None:
        template = pod_template(add_image(cluster.images, version))
        await cluster.apply(manifests.rollout(_NAMESPACE, _NAME, version, routers=_ROUTERS, template=template))

    async def _served(self) -> bool:
        return bool(self.followed.record.get("stable")) and len(self.followed.acks) == _ROUTERS

    async def revert(self) -> dict[str, float]:
        """One breach; moments in seconds since 1970."""
        followed = self.followed
        subject = (_NAMESPACE, _NAME, followed.record["attempt"]["revision"])
        readable = await self.signals.breach(subject)
        await followed.until("the Freeze", lambda: followed.reverting)
        frozen = followed.record.get("frozenAt")
        epoch, cause = followed.assignment["epoch"], followed.record["revert"]["cause"]
        await followed.until("the acks", lambda: len(followed.acked(epoch)) == _ROUTERS)
        await followed.until("the Grant", lambda: followed.record["revert"].get("servedAt"))
        revert = followed.record["revert"]
        assert frozen, "the Freeze was missed"
        return {
            "readable": readable,
            "answered": cause["sampledAt"] / 1000,
            "decided": cause["at"] / 1000,
            "stopped": max(followed.acked(epoch)),
            "granted": revert["servedAt"] / 1000,
            "epoch": epoch,
        }

    async def again(self, word: str) -> None:
        """The same candidate at 10 % once more."""
        subject = (_NAMESPACE, _NAME, self.followed.record["revert"]["away"])
        self.signals.good([subject])
        await self.signals.readable(subject)
        patch = {"metadata": {"annotations": {meta.ANNOTATION_RETRY: word}}}
        await self.api.merge(ROLLOUTS.path(_NAMESPACE, _NAME), patch)
        await self.followed.until("10 %", lambda: self.followed.holding)


async def run(folder: Path) -> Report:
    """Breach, revert, retry, over and over."""
    about = f"one rollout, {_ROUTERS} real routers, gate at {_GATE_MS} ms"
    report = Report("one", about)
    seen: list[dict[str, float]] = []
    deadline = time.monotonic() + _LONGEST
    async with _World(folder).ready() as world:
        began = await Footprint.of(world.operator, folder, folder / "cluster")
        world.signals.good([(_NAMESPACE, _NAME, world.followed.record["attempt"]["revision"])])
        while len(seen) < _SAMPLES and time.monotonic() < deadline:
            await asyncio.sleep(random.uniform(0.1, 0.1 + _GATE_MS / 1000))
            seen.append(await world.revert())
            await world.again(f"try-{len(seen)}")
        spent = await began.spent()
        written = _written(world.operator.evidence)

    def between(start: str, end: str) -> list[float]:
        return [moments[end] - moments[start] for moments in seen]

    for moments in seen:
        moments["written"] = written[int(moments["epoch"])]
    report.measured("readable in Prometheus -> last router acked the Freeze", between("readable", "stopped"))
    report.measured("  wait: readable in Prometheus -> answer at the operator", between("readable", "answered"))
    control = report.measured("  control path: answer at the operator -> last ack", between("answered", "stopped"))
    report.measured("    answer at the operator -> revert decided", between("answered", "decided"))
    report.measured("    revert decided -> Freeze written", between("decided", "written"))
    report.measured("    Freeze written -> last ack", between("written", "stopped"))
    report.measured("readable in Prometheus -> target granted", between("readable", "granted"))
    tell(report, spent, requests=False)
    words = f"control path p99 under {_TARGET * 1000:g} ms with 300 samples or more: {control.p99 * 1000:.1f} ms"
    report.target(f"{words} (n {control.n})", control.p99 < _TARGET and control.n >= 300)
    return report


def _written(evidence: Path) -> dict[int, float]:
    """Epoch -> when the answer to its write was there, by the operator's own evidence."""
    lines = (json.loads(line) for line in evidence.read_text().splitlines())
    return {line["written"]["spec"]["epoch"]: line["written"]["writtenAt"] / 1000 for line in lines}


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
