"""Simulated routers, all in one process of their own: `python -m tests.bench.consumers KUBECONFIG PORT`.

Each one does at the API server what a real router's agent does, with the same requests in the same order: it opens a
Lease named by its pod's UID, reads the assignment at first and every third of a lease while it serves leased ranges,
takes in each newer table that the watch tells of, needs a moment to put it into force, acknowledges it in its Lease,
and renews that every minute. Two things are cheaper than in reality: there is no proxy behind it, and all share one
watch of the assignments where every real agent has a watch of its own.

It also says in the status of every Deployment that all its pods are ready, as controllers and kubelets would.

`GET /acks` returns what was acknowledged since the last `DELETE /acks`; `GET /` how many routers there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from strategyrollout.api import meta
from strategyrollout.cluster.access import from_kubeconfig
from strategyrollout.cluster.client import Api, ApiError
from strategyrollout.cluster.kinds import ASSIGNMENTS, DEPLOYMENTS, LEASES, PODS
from strategyrollout.ports import Unavailable
from strategyrollout.router.consumer import DURATION_SECONDS, RENEW_SECONDS

Object = dict[str, Any]
_IN_FORCE_AFTER = (0.001, 0.004)  # seconds a real agent takes for files and the proxy's maps
_READS_PER_LEASE = 3


class Router:
    """One consumer of one rollout."""

    def __init__(self, api: Api, pod: Object, acks: list[Object]) -> None:
        self._api = api
        self._acks = acks
        meta_ = pod["metadata"]
        self.namespace: str = meta_["namespace"]
        self.rollout: str = meta_["labels"][meta.LABEL_ROLLOUT]
        self._pod, self._uid = str(meta_["name"]), str(meta_["uid"])
        self._changed = asyncio.Event()
        self._lease: Object = {}
        self._epoch = 0
        self._every: float | None = None
        self._told: Object = {}
        self._must_read = True
        self._read_at = 0.0

    async def run(self) -> None:
        """Opens the Lease, then follows the assignment until cancelled."""
        renew = time.monotonic() + random.uniform(0, RENEW_SECONDS)
        while True:
            await self._wait(renew)
            try:
                if self._told and self._lease:
                    told, self._told = self._told, {}
                    await self._take(told)
                    self._must_read = self._every is not None
                if self._must_read or self._read_due() <= time.monotonic():
                    await self._read()
                    self._must_read = False
                if time.monotonic() >= renew:
                    await self._say({})
                    renew = time.monotonic() + RENEW_SECONDS
            except (ApiError, Unavailable):
                await asyncio.sleep(0.1)
                self._must_read = True

    async def _wait(self, renew: float) -> None:
        if not self._must_read:
            seconds = min(renew, self._read_due()) - time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, seconds)):
                    await self._changed.wait()
        self._changed.clear()

    def _read_due(self) -> float:
        return self._read_at + self._every if self._every is not None else float("inf")

    async def _read(self) -> None:
        self._read_at = time.monotonic()
        spec = (await self._api.get(ASSIGNMENTS.path(self.namespace, self.rollout)))["spec"]
        if not self._lease:
            await self._open(spec["rolloutUID"])
        await self._take(spec)

    def tell(self, spec: Object) -> None:
        """What the watch says."""
        self._told = spec
        self._changed.set()

    async def _take(self, spec: Object) -> None:
        leased = any(r.get("leased") and not r.get("next") for r in spec["ranges"])
        self._every = _seconds(spec["lease"]) / _READS_PER_LEASE if leased else None
        if spec["epoch"] > self._epoch:
            await asyncio.sleep(random.uniform(*_IN_FORCE_AFTER))
            words = {meta.ANNOTATION_ACKED: str(spec["epoch"]), meta.ANNOTATION_EMPTY: "true"}
            await self._say(words)
            self._epoch = spec["epoch"]
            self._acks.append(
                {
                    "namespace": self.namespace,
                    "rollout": self.rollout,
                    "consumer": self._uid,
                    "epoch": self._epoch,
                    "cause": spec["cause"]["kind"],
                    "frozen": any(r.get("next") for r in spec["ranges"]),
                    "at": time.time(),
                }
            )

    async def _open(self, uid: str) -> None:
        annotations = {
            meta.ANNOTATION_CONSUMER: meta.CONSUMER_OPEN,
            meta.ANNOTATION_ACKED: "0",
            meta.ANNOTATION_EMPTY: "false",
            f"{meta.GROUP}/pod": self._pod,
        }
        labels = {
            meta.LABEL_ROLLOUT: self.rollout,
            meta.LABEL_ROLLOUT_UID: uid,
            meta.LABEL_ROLE: meta.ROLE_ROUTER,
        }
        spec = {"holderIdentity": self._uid, "leaseDurationSeconds": DURATION_SECONDS, "renewTime": _now()}
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._uid, "namespace": self.namespace, "labels": labels, "annotations": annotations},
            "spec": spec,
        }
        self._lease = await self._api.create(LEASES.path(self.namespace), body)

    async def _say(self, words: dict[str, str]) -> None:
        if not self._lease:
            return
        lease = self._lease
        annotations = {**lease["metadata"]["annotations"], **words}
        body = {
            **lease,
            "metadata": {**lease["metadata"], "annotations": annotations, "managedFields": [{}]},
            "spec": {**lease["spec"], "renewTime": _now()},
        }
        self._lease = await self._api.replace(LEASES.path(self.namespace, self._uid), body)


class Crowd:
    """All of them."""

    def __init__(self, api: Api, session: aiohttp.ClientSession, host: str) -> None:
        self._api, self._session, self._host = api, session, host
        self.acks: list[Object] = []
        self._routers: dict[str, Router] = {}
        self._of: dict[tuple[str, str], list[Router]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self._routers)

    async def follow_pods(self) -> None:
        """Every router pod that runs becomes a consumer."""
        path = f"{PODS.path()}?labelSelector={meta.LABEL_ROLE}%3D{meta.ROLE_ROUTER}"
        await self._follow(path, self._pod)

    async def follow_assignments(self) -> None:
        """Every change is a hint."""
        await self._follow(ASSIGNMENTS.path(), self._hint)

    async def follow_deployments(self) -> None:
        """Every Deployment has its pods as soon as they are asked for."""
        await self._follow(DEPLOYMENTS.path(), self._deployment)

    def _deployment(self, deployment: Object) -> None:
        replicas, generation = deployment["spec"]["replicas"], deployment["metadata"]["generation"]
        status = deployment.get("status") or {}
        if (status.get("readyReplicas", 0), status.get("observedGeneration")) != (replicas, generation):
            self._tasks.add(task := asyncio.create_task(self._are_ready(deployment["metadata"], replicas)))
            task.add_done_callback(self._tasks.discard)

    async def _are_ready(self, meta_: Object, replicas: int) -> None:
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        status = {"observedGeneration": meta_["generation"], **dict.fromkeys(counts, replicas)}
        with contextlib.suppress(ApiError, Unavailable):  # what fails here is seen by who waits for it
            await self._api.merge(DEPLOYMENTS.path(meta_["namespace"], meta_["name"], "status"), {"status": status})

    def _pod(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if uid in self._routers or (pod.get("status") or {}).get("phase") != "Running":
            return
        router = self._routers[uid] = Router(self._api, pod, self.acks)
        self._of.setdefault((router.namespace, router.rollout), []).append(router)
        task = asyncio.create_task(router.run())
        self._tasks.add(task)
        task.add_done_callback(lambda done: done.cancelled() or sys.exit(f"a router ended: {done.exception()!r}"))

    def _hint(self, assignment: Object) -> None:
        name = assignment["metadata"]
        for router in self._of.get((name["namespace"], name["name"]), ()):
            router.tell(assignment["spec"])

    async def _follow(self, path: str, take: Callable[[Object], None]) -> None:
        version = ""
        while True:
            if not version:
                listed = await self._api.get(path.partition("?")[0], **_query(path))
                for item in listed["items"]:
                    take(item)
                version = listed["metadata"]["resourceVersion"]
            async for event in self._watch(path, version):
                if event["type"] == "ERROR":
                    version = ""
                    break
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    take(event["object"])
            await asyncio.sleep(0.05)  # while the server is away, that is all there is to do

    async def _watch(self, path: str, version: str) -> AsyncIterator[Object]:
        query = {**_query(path), "watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.get(self._host + path.partition("?")[0], params=query) as response:
                buffer = b""
                if response.status != 200:  # a server that has just started may refuse everything for a moment
                    return
                async for chunk in response.content.iter_any():
                    *lines, buffer = (buffer + chunk).split(b"\n")
                    for line in lines:
                        yield json.loads(line)


def _query(path: str) -> dict[str, str]:
    selector = path.partition("?labelSelector=")[2].replace("%3D", "=")
    return {"labelSelector": selector} if selector else {}


def _seconds(duration: str) -> float:
    units = {"ms": 0.001, "s": 1.0, "m": 60.0}
    unit = next(u for u in units if duration.endswith(u))
    return float(duration.removesuffix(unit)) * units[unit]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def main(kubeconfig: str, port: int) -> None:
    """Runs until it is ended."""
    access = from_kubeconfig(kubeconfig)
    headers = {"Authorization": f"Bearer {access.token}"}
    connector = aiohttp.TCPConnector(ssl=access.tls())
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        Api(access) as api,
        aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session,
    ):
        crowd = Crowd(api, session, access.host)

        async def state(_request: web.Request) -> web.Response:
            return web.json_response({"routers": crowd.size})

        async def acks(_request: web.Request) -> web.Response:
            return web.json_response(crowd.acks)

        async def forget(_request: web.Request) -> web.Response:
            crowd.acks.clear()
            return web.Response()

        application = web.Application()
        application.add_routes([web.get("/", state), web.get("/acks", acks), web.delete("/acks", forget)])
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.gather(crowd.follow_pods(), crowd.follow_assignments(), crowd.follow_deployments())


if __name__ == "__main__":
    asyncio.run(main(str(Path(sys.argv[1])), int(sys.argv[2])))
