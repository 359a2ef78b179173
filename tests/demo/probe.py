"""Asks Prometheus itself, so that the operator is not the only witness of when a sample could be read."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from tests.demo.manifests import REJECT_LIMIT, REJECT_RATE

_EVERY = 0.02


async def first_readable(prometheus: str, revision: str) -> float:
    """When a query was sent that found the reject rate of the revision above its limit (seconds since 1970)."""
    async with aiohttp.ClientSession() as session:
        while True:
            sent_at = time.time()
            async with session.get(f"{prometheus}/api/v1/query", params={"query": REJECT_RATE}) as response:
                rows = (await response.json())["data"]["result"]
            mine = [float(row["value"][1]) for row in rows if row["metric"].get("revision") == revision]
            if any(value > float(REJECT_LIMIT) for value in mine):
                return sent_at
            await asyncio.sleep(_EVERY)


async def misbehave(address: str, kind: str, since: float, port: int = 8080) -> None:
    """Tell one strategy pod to misbehave from that moment on. Raises aiohttp errors."""
    async with aiohttp.ClientSession() as session:
        wish = {"kind": kind, "since": since}
        async with session.post(f"http://{address}:{port}/misbehave", json=wish) as response:
            response.raise_for_status()
