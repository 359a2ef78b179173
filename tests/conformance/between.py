"""A man in the middle of operator and API server: counts the operator's writes, stops it at one, keeps news from it.

Outside the product on purpose: the operator is told another address of the API server and knows nothing of all this.
"""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
import yaml
from aiohttp import web

from tests.cluster.cluster import Cluster
from tests.cluster.control_plane import ADMIN_TOKEN

When = Literal["before", "after"]
_READS = {"GET", "HEAD", "OPTIONS"}
_NOT_COUNTED = ("/events", "/selfsubjectaccessreviews", "/selfsubjectreviews")


@dataclass(frozen=True)
class Write:
    """A write the operator asked for."""

    method: str
    path: str
    body: Any

    @property
    def of_assignment(self) -> bool:
        """Whether it changes the table."""
        return "/trafficassignments" in self.path


class Between:
    """`at_write(write, when)` is awaited before a write is passed on and after it was answered; True swallows it."""

    def __init__(self, cluster: Cluster) -> None:
        self._server = cluster.server
        self._tls = ssl.create_default_context(cafile=str(cluster.ca_file))
        self._address = ""
        self.writes: list[Write] = []
        self.at_write: Callable[[Write, When], Awaitable[bool]] | None = None
        self.silent = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Between]:
        """Listens inside."""
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            app = web.Application(client_max_size=1 << 24)
            app.router.add_route("*", "/{rest:.*}", self._pass)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._address = f"http://127.0.0.1:{runner.addresses[0][1]}"
            try:
                yield self
            finally:
                await runner.cleanup()

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig that leads here."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "kubeconfig-between"
        named = {"name": "here"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{**named, "cluster": {"server": self._address}}],
            "users": [{**named, "user": {"token": ADMIN_TOKEN}}],
            "contexts": [{**named, "context": {"cluster": "here", "user": "here"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        counted = request.method not in _READS and "dryRun" not in request.query
        counted = counted and not any(part in request.path for part in _NOT_COUNTED)
        write = Write(request.method, request.path, json.loads(data) if data else None) if counted else None
        if write and await self._stopped(write, "before"):
            return _hung_up(request)
        headers = {k: v for k, v in request.headers.items() if k not in ("Host", "Content-Length", "Connection")}
        url = f"{self._server}{request.path_qs}"
        forever = aiohttp.ClientTimeout(total=None)
        async with self._session.request(
            request.method,
            url,
            data=data or None,
            headers=headers,
            timeout=forever,
            skip_auto_headers=("Content-Type",),
        ) as answer:
            if write and answer.status < 300:
                self.writes.append(write)
                if await self._stopped(write, "after"):
                    return _hung_up(request)
            return await self._answer(request, answer)

    async def _stopped(self, write: Write, when: When) -> bool:
        return self.at_write is not None and await self.at_write(write, when)

    async def _answer(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        kept = {k: v for k, v in answer.headers.items() if k in ("Content-Type", "Content-Encoding", "Retry-After")}
        response = web.StreamResponse(status=answer.status, headers=kept)
        watching = "watch" in request.query
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                if not (watching and self.silent):
                    await response.write(chunk)
            await response.write_eof()
        return response


def _hung_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)
