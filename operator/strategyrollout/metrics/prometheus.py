"""Asks a Prometheus over HTTP, and turns everything that can go wrong on the way into an answer.

A question that hangs holds one connection and nothing else. Questions that failed last time share a few connections of
each source, so that they can never use up those of the healthy ones.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Container
from typing import Any

import aiohttp
import orjson
from yarl import URL

from strategyrollout.core.gates import Query
from strategyrollout.metrics.answer import Answer, Subject, read, refused

_CONNECTIONS = 32  # of one source; a Prometheus runs 20 queries at once by default and queues the rest
_CONNECTIONS_FOR_FAILED = 4
_LARGEST_ANSWER = 8 * 1024 * 1024  # parsing more would hold up everybody's reverts for a tenth of a second
_REFUSED = (400, 422)  # cannot be parsed; cannot be executed


class _TooLarge(Exception):
    pass


class Prometheus:
    """Every source there is. Create it inside the event loop; close it in the end."""

    def __init__(self, default_address: str | None, now: Callable[[], int]) -> None:
        self._default = default_address
        self._now = now
        connector = aiohttp.TCPConnector(limit=0, limit_per_host=_CONNECTIONS)
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        self._failed: dict[str | None, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(_CONNECTIONS_FOR_FAILED)
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def ask(self, query: Query, wanted: Container[Subject], *, failed_before: bool) -> Answer:
        """One question, one answer. Never raises; takes at most `patience` seconds once it has a connection."""
        if not failed_before:
            return await self._ask(query, wanted)
        async with self._failed[query.source.address or self._default]:
            return await self._ask(query, wanted)

    async def _ask(self, query: Query, wanted: Container[Subject]) -> Answer:
        seconds = patience(query)
        address = query.source.address or self._default
        if not address:
            problem = "no Prometheus to ask: set source.address, or STRATEGYROLLOUT_PROMETHEUS of the operator"
            return Answer(self._now(), problem=problem, invalid=True)
        try:
            status, body = await self._post(address, query, seconds)
        except TimeoutError:
            return self._blind(address, f"did not answer within {seconds:g} s")
        except _TooLarge:
            problem = (
                f"the answer is larger than {_LARGEST_ANSWER >> 20} MiB; "
                "aggregate in the query, such as sum by (namespace, rollout, revision) (...)"
            )
            return Answer(self._now(), problem=problem, invalid=True)
        except (aiohttp.InvalidURL, ValueError) as error:
            problem = f"the query cannot be sent: {error}; correct source.address or source.headers"
            return Answer(self._now(), problem=problem, invalid=True)
        except (aiohttp.ClientError, OSError) as error:
            return self._blind(address, f"cannot be asked: {error or type(error).__name__}")
        return self._read(address, status, body, query, wanted)

    async def _post(self, address: str, query: Query, seconds: float) -> tuple[int, bytes]:
        # By POST, because a long query does not fit into the URLs that some proxies take.
        form = {
            "query": query.text,
            "lookback_delta": f"{query.max_age}ms",
            "timeout": f"{int(seconds * 1000)}ms",
        }
        url = f"{address.rstrip('/')}/api/v1/query"

        async def once() -> tuple[int, bytes]:
            sent = self._session.post(url, data=form, headers=query.source.headers, allow_redirects=False)
            async with sent as response:
                return response.status, await _limited(response)

        async with asyncio.timeout(seconds):
            try:
                return await once()
            except aiohttp.ServerDisconnectedError:
                # An idle connection that the other side closed just now; a query can safely be asked again.
                return await once()

    def _read(self, address: str, status: int, raw: bytes, query: Query, wanted: Container[Subject]) -> Answer:
        at = self._now()
        body = _parsed(raw)
        if status == 200 and body is not None:
            return read(body, query.source, wanted, at)
        if status in _REFUSED and body is not None:
            return refused(body, at)
        said = str(body.get("error", "")) if body is not None else "the body is not the JSON of a Prometheus"
        return self._blind(address, f"answered status {status}" + (f": {said}" if said else ""))

    def _blind(self, address: str, what: str) -> Answer:
        return Answer(self._now(), problem=f"Prometheus at {_public(address)} {what}", blind=True)


def patience(query: Query) -> float:
    """Seconds to wait for an answer: two intervals, but at least 1 and at most 5."""
    return min(max(2 * query.interval, 1_000), 5_000) / 1_000


async def _limited(response: aiohttp.ClientResponse) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > _LARGEST_ANSWER:
            raise _TooLarge
        chunks.append(chunk)
    return b"".join(chunks)


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        body = orjson.loads(raw)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _public(address: str) -> str:
    """The address without a user and password in it."""
    return str(URL(address).with_user(None))
