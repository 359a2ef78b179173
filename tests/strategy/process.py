"""The example strategy as a process on an address of its own, for tests that need no cluster."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

PROGRAM = Path(__file__).with_name("program.py")
REVISION = "0123456789"
_numbers = itertools.count(2)


class Running:
    """One that takes orders."""

    def __init__(self, process: asyncio.subprocess.Process, address: str, log: Path) -> None:
        self.process = process
        self.router = (address, 8080)
        self._address = address
        self._log = log

    def lines(self) -> list[dict[str, object]]:
        """Its log of orders."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    async def misbehave(self, wish: dict[str, object]) -> int:
        """Ask for it; returns the status."""
        async with aiohttp.ClientSession() as session:
            url = f"http://{self._address}:8080/misbehave"
            async with session.post(url, data=json.dumps(wish)) as response:
                return response.status

    async def metrics(self) -> tuple[int, dict[str, float]]:
        """Status and series of `/metrics`."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{self._address}:9100/metrics") as response:
            text = await response.text()
        if response.status != 200:
            return response.status, {}
        pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return response.status, {series: float(value) for series, _, value in pairs}


@contextlib.asynccontextmanager
async def running(folder: Path, **environment: str) -> AsyncIterator[Running]:
    """Started and taking orders inside, killed at the end."""
    address, log = f"127.7.{os.getpid() % 250 + 1}.{next(_numbers)}", folder / "orders.jsonl"
    given = {"POD_IP": address, "ORDER_LOG": str(log), "REVISION": REVISION, "VERSION": "1.0.0", **environment}
    command = [sys.executable, "-I", "-S", str(PROGRAM)]
    process = await asyncio.create_subprocess_exec(*command, env=given, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), 10)
        yield Running(process, address, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
