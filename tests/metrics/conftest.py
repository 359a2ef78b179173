"""What the query plane is tested with: a real Prometheus, and a server for faults that a real one does not have."""

import asyncio
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from strategyrollout.api.gates import Source
from strategyrollout.core.gates import Gate, Query, Sample
from strategyrollout.metrics.plane import QueryPlane
from strategyrollout.ports import Key
from tests.cluster.build import ensure
from tests.cluster.processes import Program, until
from tests.core.judging import gate

KEY = Key("desk-a", "momentum")
GREEN = "00000000a2"


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def asking(text: str, *, interval: int = 100, max_age: int = 15_000, **fields: Any) -> Gate:
    """A gate with this query. Its name is the query's text unless given."""
    source = Source.model_validate(fields.pop("source", {}))
    return replace(gate("0.05"), **{"name": text, "query": Query(text, interval, max_age, source), **fields})


class Watcher:
    """A query plane and what it said."""

    def __init__(self, address: str | None) -> None:
        self.woken: list[tuple[Key, bool]] = []
        self.plane = QueryPlane(address, lambda key, urgent: self.woken.append((key, urgent)), now)

    def recent(self, gate: Gate, key: Key = KEY, revision: str = GREEN) -> tuple[Sample, ...]:
        """Samples of a gate."""
        return self.plane.recent(key, revision, gate)

    async def sample(self, gate: Gate, after: int = 0) -> Sample:
        """The latest sample, as soon as there is one from after that time."""

        async def there() -> bool:
            return bool(self.recent(gate)) and self.recent(gate)[-1].at > after

        await until(f"a sample of {gate.name}", there, 15, 0.01)
        return self.recent(gate)[-1]

    async def becomes(self, what: str, gate: Gate, check: Callable[[Sample], bool], timeout: float = 20) -> Sample:
        """The latest sample once it is like that."""

        async def so() -> bool:
            return bool(self.recent(gate)) and check(self.recent(gate)[-1])

        await until(what, so, timeout, 0.01)
        return self.recent(gate)[-1]


Watch = Callable[[str | None], Awaitable[Watcher]]


@pytest_asyncio.fixture
async def watching() -> AsyncIterator[Watch]:
    """Makes query planes with that default address, and closes them in the end."""
    made: list[Watcher] = []

    async def make(address: str | None) -> Watcher:
        watcher = Watcher(address)
        await watcher.plane.start()
        made.append(watcher)
        return watcher

    yield make
    for watcher in made:
        await watcher.plane.close()


Reaction = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Faulty:
    """Answers each query in the way the test sets for it; counts what it was asked."""

    def __init__(self) -> None:
        self.address = ""
        self.reactions: dict[str, Reaction] = {}
        self.asked: list[str] = []
        self.forms: dict[str, dict[str, str]] = {}
        self.headers: dict[str, dict[str, str]] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Every request."""
        form = {name: str(text) for name, text in (await request.post()).items()}
        query = form["query"]
        self.asked.append(query)
        self.forms[query] = form
        self.headers[query] = dict(request.headers)
        return await self.reactions.get(query, self.says("0.01"))(request)

    def vector(self, *rows: tuple[Key, str], **more: Any) -> Reaction:
        """Rows about the revision `GREEN` of these rollouts."""
        names = ("namespace", "rollout", "revision")
        result = [
            {"metric": dict(zip(names, (key.namespace, key.name, GREEN), strict=True)), "value": [1.0, value]}
            for key, value in rows
        ]
        return self.status(200, json.dumps({"data": {"resultType": "vector", "result": result}, **more}))

    def says(self, value: str) -> Reaction:
        """One row about `KEY`."""
        return self.vector((KEY, value))

    def status(self, status: int, text: str = "{}") -> Reaction:
        """That status and body."""

        async def react(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, text=text)

        return react

    async def hang(self, _: web.Request) -> web.StreamResponse:
        """No answer, ever."""
        await asyncio.Event().wait()
        raise AssertionError

    async def hang_up(self, request: web.Request) -> web.StreamResponse:
        """Close the connection instead of answering."""
        assert request.transport is not None
        request.transport.close()
        return web.Response()


@pytest_asyncio.fixture
async def faulty() -> AsyncIterator[Faulty]:
    """A server for faults."""
    server = Faulty()
    app = web.Application()
    app.router.add_post("/api/v1/query", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.address = f"http://{host}:{port}"
    yield server
    await runner.cleanup()


class Exporter:
    """Serves whatever lines of metrics a test sets."""

    def __init__(self) -> None:
        self.lines: dict[str, str] = {}
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = "".join(f"{name} {value}\n" for name, value in list(exporter.lines.items())).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class RealPrometheus:
    """A real Prometheus that scrapes the exporter five times a second."""

    def __init__(self, folder: Path) -> None:
        self.exporter = Exporter()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"
        self.program = Program(folder, "prometheus")
        self._folder = folder
        config = {
            "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
            "scrape_configs": [
                {"job_name": "test", "static_configs": [{"targets": [f"127.0.0.1:{self.exporter.port}"]}]}
            ],
        }
        (folder / "prometheus.json").write_text(json.dumps(config))

    def start(self) -> None:
        """Start it and wait until it answers."""
        flags = {
            "config.file": self._folder / "prometheus.json",
            "storage.tsdb.path": self._folder / "data",
            "web.listen-address": f"127.0.0.1:{self._port}",
            "log.level": "warn",
        }
        self.program.start(
            [str(ensure(["prometheus"])["prometheus"]), *(f"--{name}={value}" for name, value in flags.items())]
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{self.address}/-/ready", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline, self.program.last_words()
                time.sleep(0.1)

    def stop(self) -> None:
        """End it."""
        asyncio.run(self.program.stop())


@pytest.fixture(scope="package")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    """The Prometheus of these tests."""
    real = RealPrometheus(tmp_path_factory.mktemp("prometheus"))
    real.start()
    yield real
    real.stop()
    real.exporter.server.shutdown()
    real.exporter.server.server_close()


def number(sample: Sample) -> Decimal:
    """The only value of a sample."""
    (value,) = sample.values
    return value
