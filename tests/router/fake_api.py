"""An API server that can hang, answer 404, bring back an old object or stop telling: faults the real one cannot have.

Serves only what a router asks for. Everything else about routers is tested against the real one.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

Body = dict[str, Any]


class FakeApi:
    """One rollout's assignment, its EndpointSlices and its routers' Leases."""

    def __init__(self) -> None:
        self.assignment: Body | None = None
        self.slices: dict[str, Body] = {}
        self.leases: dict[str, Body] = {}
        self.reads: list[float] = []
        self.opened: list[float] = []
        """When Leases were created."""
        self.acks: list[tuple[float, int, bool]] = []
        """When, epoch and in-flight-zero of every write of a Lease."""
        self.answering = asyncio.Event()
        self.answering.set()
        self.telling = True
        """Whether watches say what happened."""
        self._version = 1
        self._watchers: set[tuple[str, asyncio.Queue[Body]]] = set()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self, host: str) -> None:
        app = web.Application()
        group = "/apis/{group}/{version}/namespaces/{namespace}"
        app.router.add_get(f"{group}/trafficassignments", self._list)
        app.router.add_get(f"{group}/trafficassignments/{{name}}", self._get_assignment)
        app.router.add_get(f"{group}/endpointslices", self._list)
        app.router.add_post(f"{group}/leases", self._create_lease)
        app.router.add_get(f"{group}/leases/{{name}}", self._get_lease)
        app.router.add_put(f"{group}/leases/{{name}}", self._put_lease)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://{host}:{port}"

    def end_watches(self) -> None:
        """Close every watch, as the real one does every few minutes."""
        for _, queue in self._watchers:
            queue.put_nowait({})

    async def stop(self) -> None:
        self.answering.set()
        self.end_watches()
        if self._runner:
            await self._runner.cleanup()

    def put_assignment(self, spec: Body | None) -> None:
        """What the operator would have written; None deletes it."""
        self.assignment = None if spec is None else self._stored("ro", spec=spec)
        self._tell("trafficassignments", self.assignment or self._stored("ro"))

    def put_pods(self, revision: str, addresses: Mapping[str, bool], port: int) -> None:
        """Pods of a revision by address, and whether they are ready."""
        name = f"ro-{revision}-x"
        self.slices[name] = self._stored(
            name,
            labels={"strategyrollout.io/rollout": "ro", "strategyrollout.io/revision": revision},
            ports=[{"name": "metrics", "port": 1}, {"name": "orders", "port": port}],
            endpoints=[{"addresses": [a], "conditions": {"ready": ready}} for a, ready in addresses.items()],
        )
        self._tell("endpointslices", self.slices[name])

    def _stored(self, name: str, labels: Mapping[str, str] | None = None, **fields: Any) -> Body:
        self._version += 1
        metadata = {"name": name, "resourceVersion": str(self._version), "labels": dict(labels or {})}
        return {"metadata": metadata, **fields}

    def _tell(self, plural: str, item: Body) -> None:
        for kind, queue in self._watchers:
            if kind == plural and self.telling:
                queue.put_nowait({"type": "MODIFIED", "object": item})

    async def _list(self, request: web.Request) -> web.StreamResponse:
        await self.answering.wait()
        plural = request.path.rpartition("/")[2]
        if "watch" in request.query:
            return await self._watch(request, plural)
        items = list(self.slices.values()) if plural == "endpointslices" else []
        return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[Body] = asyncio.Queue()
        watcher = (plural, queue)
        self._watchers.add(watcher)
        try:
            while event := await queue.get():
                await response.write(json.dumps(event).encode() + b"\n")
        except ConnectionError:
            pass
        finally:
            self._watchers.discard(watcher)
        return response

    async def _get_assignment(self, request: web.Request) -> web.Response:
        self.reads.append(time.monotonic())
        await self.answering.wait()
        return _found(self.assignment)

    async def _get_lease(self, request: web.Request) -> web.Response:
        await self.answering.wait()
        return _found(self.leases.get(request.match_info["name"]))

    async def _create_lease(self, request: web.Request) -> web.Response:
        await self.answering.wait()
        self.opened.append(time.monotonic())
        return self._save(await request.json(), fresh=True)

    async def _put_lease(self, request: web.Request) -> web.Response:
        await self.answering.wait()
        return self._save(await request.json(), fresh=False)

    def _save(self, body: Body, *, fresh: bool) -> web.Response:
        name = body["metadata"]["name"]
        stored = self.leases.get(name)
        if fresh and stored:
            return _error(409, "already exists")
        if not fresh and not stored:
            return _error(404, "not found")
        if stored and stored["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            return _error(409, "the object has been modified")
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self.leases[name] = body
        said = body["metadata"]["annotations"]
        empty = said["strategyrollout.io/in-flight-zero"] == "true"
        self.acks.append((time.monotonic(), int(said["strategyrollout.io/acked-epoch"]), empty))
        return web.json_response(body, status=201 if fresh else 200)


def _found(item: Body | None) -> web.Response:
    return _error(404, "not found") if item is None else web.json_response(item)


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "message": message, "code": status}, status=status)
