"""The metric that gates look at: one series a revision, exported here, scraped by a real Prometheus of the bench's own.

Why not the strategies' own metrics: a benchmark needs to know the very moment from which a breach could be read, and
five hundred strategies would not leave a small machine any room to measure in.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.cluster.build import binary
from tests.cluster.processes import Program, until

METRIC = "strategy_loss"
LIMIT = "0.5"
PORT = 9290
"""Of the Prometheus."""
_LOOPBACK = "127.0.0.1"
_EXPORTER = (_LOOPBACK, 9200)
_POLL = 0.002

Subject = tuple[str, str, str]
"""Namespace, rollout, revision."""


class Signals:
    """Values by subject; a subject nobody named has no series."""

    def __init__(self, folder: Path, scrape_interval: str, address: str = _LOOPBACK) -> None:
        """`address`: where Prometheus listens, for operators that are in a network of their own."""
        self._folder = folder
        self._address = f"{address}:{PORT}"
        self._interval = scrape_interval
        self._values: dict[Subject, int] = {}
        self._scraped = asyncio.Event()
        self._program = Program(folder, "bench-prometheus")

    @property
    def url(self) -> str:
        """Of the Prometheus."""
        return f"http://{self._address}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Signals]:
        """Exporter and Prometheus run inside."""
        application = web.Application()
        application.router.add_get("/metrics", self._export)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, *_EXPORTER).start()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        try:
            await self._start()
            yield self
        finally:
            await self._program.stop(grace=0.0)
            await self._session.close()
            await runner.cleanup()

    def good(self, subjects: Iterable[Subject]) -> None:
        """From the next scrape on these are well."""
        self._values.update(dict.fromkeys(subjects, 0))

    async def breach(self, *subjects: Subject) -> float:
        """These are not well any more; returns when that could be read in Prometheus (seconds since 1970).

        That is when the first question was sent whose answer said so, so it may be late by one question (some ms)
        and never early by more than one.
        """
        self._values.update(dict.fromkeys(subjects, 1))
        self._scraped.clear()
        async with asyncio.timeout(30):
            await self._scraped.wait()
            while True:
                sent = time.time()
                if await self._is_bad(subjects[-1]):
                    return sent
                await asyncio.sleep(_POLL)

    async def readable(self, subject: Subject) -> None:
        """Waits until Prometheus says that this one is well."""

        async def well() -> bool:
            return not await self._is_bad(subject)

        await until("Prometheus says that all is well", well, 30, every=0.02)

    async def _is_bad(self, subject: Subject) -> bool:
        namespace, rollout, revision = subject
        text = f'{METRIC}{{namespace="{namespace}",rollout="{rollout}",revision="{revision}"}}'
        async with self._session.post(f"{self.url}/api/v1/query", data={"query": text}) as response:
            answer = await response.json()
        rows = answer["data"]["result"]
        return bool(rows) and float(rows[0]["value"][1]) > float(LIMIT)

    async def _export(self, _request: web.Request) -> web.Response:
        lines = [
            f'{METRIC}{{namespace="{namespace}",rollout="{rollout}",revision="{revision}"}} {value}'
            for (namespace, rollout, revision), value in self._values.items()
        ]
        self._scraped.set()
        return web.Response(text="\n".join((f"# TYPE {METRIC} gauge", *lines, "")))

    async def _start(self) -> None:
        target = {"targets": [f"{_EXPORTER[0]}:{_EXPORTER[1]}"]}
        job = {"job_name": "bench", "static_configs": [target]}
        configuration = {
            "global": {"scrape_interval": self._interval, "scrape_timeout": self._interval},
            "scrape_configs": [job],
        }
        path = self._folder / "bench-prometheus.json"
        await asyncio.to_thread(path.write_text, json.dumps(configuration))
        flags = {
            "config.file": str(path),
            "storage.tsdb.path": str(self._folder / "bench-prometheus"),
            "web.listen-address": self._address,
            "log.level": "warn",
        }
        self._program.start([str(binary("prometheus")), *(f"--{name}={value}" for name, value in flags.items())])
        await until("the bench's Prometheus is ready", self._ready, 30)

    async def _ready(self) -> bool:
        try:
            async with self._session.get(f"{self.url}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False
