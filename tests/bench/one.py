"""One rollout with real routers: from a sample being readable to every router having stopped the candidate.

The same measurement on pods that are processes (`one`) and on a real node (`one-node`); places.py makes either.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import aiohttp

from strategyrollout.api import meta
from strategyrollout.cluster.access import from_kubeconfig
from strategyrollout.cluster.client import Api
from strategyrollout.cluster.kinds import ASSIGNMENTS, LEASES, ROLLOUTS
from tests.bench import manifests, places
from tests.bench.figures import Report
from tests.bench.footprint import Footprint, tell
from tests.bench.places import Place
from tests.cluster.processes import until

Object = dict[str, Any]
# Scrapes at another pace than queries, and breaches at any part of the time after which both paces meet again: all else
# in a round ends with an answer of the gate, and the wait for the next query shall be any part of the interval.
_ROUTERS, _GATE_MS, _SCRAPE_MS, _SAMPLES, _LONGEST = 2, 100, 90, 320, 600.0
_MEET_AGAIN = math.lcm(_GATE_MS, _SCRAPE_MS) / 1000
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
    def __init__(self, place: Place, api: Api, followed: _Followed) -> None:
        self._place, self._api, self.followed = place, api, followed

    @classmethod
    @contextlib.asynccontextmanager
    async def ready(cls, place: Place) -> AsyncIterator[_World]:
        """The rollout holds at 10 % inside."""
        cluster, access = place.cluster, from_kubeconfig(str(place.cluster.kubeconfig))
        async with contextlib.AsyncExitStack() as stack:
            api = await stack.enter_async_context(Api(access))
            await cluster.apply(manifests.namespace(_NAMESPACE), manifests.gate_template(f"{_GATE_MS}ms"))
            await cluster.service_account_exists(_NAMESPACE, "default")
            session = await stack.enter_async_context(
                aiohttp.ClientSession(
                    headers={"Authorization": f"Bearer {access.token}"},
                    connector=aiohttp.TCPConnector(ssl=access.tls()),
                    timeout=aiohttp.ClientTimeout(total=None),
                )
            )
            world = cls(place, api, _Followed(api, session, access.host))
            for kind in (ASSIGNMENTS, LEASES):
                task = asyncio.create_task(world.followed.follow(kind.path(_NAMESPACE)))
                stack.push_async_callback(_ended, task)
            await world._version("1.0.0")
            await until("the first version serves", world._served, 60)
            await world._version("2.0.0")
            await world.followed.until("10 %", lambda: world.followed.holding)
            yield world

    async def _version(self, version: str) -> None:
        template = await self._place.template(version)
        rollout = manifests.rollout(_NAMESPACE, _NAME, version, routers=_ROUTERS, template=template)
        await self._place.cluster.apply(rollout)

    async def _served(self) -> bool:
        return bool(self.followed.record.get("stable")) and len(self.followed.acks) == _ROUTERS

    async def revert(self) -> dict[str, float]:
        """One breach; moments in seconds since 1970."""
        followed = self.followed
        subject = (_NAMESPACE, _NAME, followed.record["attempt"]["revision"])
        readable = await self._place.signals.breach(subject)
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
        self._place.signals.good([subject])
        await self._place.signals.readable(subject)
        patch = {"metadata": {"annotations": {meta.ANNOTATION_RETRY: word}}}
        await self._api.merge(ROLLOUTS.path(_NAMESPACE, _NAME), patch)
        await self.followed.until("10 %", lambda: self.followed.holding)


async def run(folder: Path, *, node: bool = False) -> Report:
    """Breach, revert, retry, over and over."""
    where = "on a real node" if node else "pods are processes"
    about = f"one rollout, {_ROUTERS} real routers, gate at {_GATE_MS} ms, {where}"
    report = Report("one-node" if node else "one", about)
    seen: list[dict[str, float]] = []
    made = places.node if node else places.process
    async with made(folder, f"{_SCRAPE_MS}ms") as place, _World.ready(place) as world:
        began = await Footprint.of(place.operator, folder, place.cluster.folder)
        place.signals.good([(_NAMESPACE, _NAME, world.followed.record["attempt"]["revision"])])
        deadline = time.monotonic() + _LONGEST
        while len(seen) < _SAMPLES and time.monotonic() < deadline:
            await asyncio.sleep(random.uniform(0.1, 0.1 + _MEET_AGAIN))
            seen.append(await world.revert())
            await world.again(f"try-{len(seen)}")
        spent = await began.spent()
        written = _written(place.evidence)

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


def _written(evidence: Iterable[Path]) -> dict[int, float]:
    """Epoch -> when the answer to its write was there, by the operator's own evidence."""
    texts = [path.read_text() for path in evidence if path.exists()]  # a replica that never led has decided nothing
    lines = (json.loads(line) for text in texts for line in text.splitlines())
    return {line["written"]["spec"]["epoch"]: line["written"]["writtenAt"] / 1000 for line in lines}


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
