"""One kept connection to a router, one order at a time.

Written by hand on asyncio because a load generator must cost little beside what it measures, and because it must know
exactly how an order ended: never sent, answered, or sent and never answered. Clients made for convenience hide that.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

Address = tuple[str, int]


class Unsent(Exception):
    """The connection could not be had; no byte of the order left."""


class Unanswered(Exception):
    """The order was sent and no complete answer came; nobody can tell whether it was executed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive."""

    def __init__(self) -> None:
        self.open = False
        self.idle_since = 0.0
        self._buffer = b""
        self._waiting: asyncio.Future[Answer] | None = None

    @classmethod
    async def to(cls, address: Address, timeout: float) -> Connection:
        """Connect. Raises Unsent."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, connection = await loop.create_connection(cls, *address)
        except (OSError, TimeoutError) as error:
            raise Unsent(f"{address[0]}:{address[1]}: {error or 'no connection in time'}") from error
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready for the first order."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.open = True

    def connection_lost(self, exc: Exception | None) -> None:
        """An order that waits for its answer will not get it."""
        self.open = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Unanswered(f"connection ended: {exc or 'closed by the router'}"))

    def data_received(self, data: bytes) -> None:
        """Hand over the answer once it is complete."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._waiting is None or self._waiting.done():
            return
        first, *rest = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        total = end + 4 + int(headers.get("content-length") or 0)
        if len(self._buffer) < total:
            return
        answer = Answer(int(first.split(" ", 2)[1]), headers, self._buffer[end + 4 : total])
        self._buffer = self._buffer[total:]
        if headers.get("connection", "").lower() == "close":
            self.close()
        self._waiting.set_result(answer)

    async def ask(self, request: bytes, timeout: float) -> Answer:
        """Send one request and wait for its answer. Raises Unsent or Unanswered."""
        if not self.open or self._transport.is_closing():
            raise Unsent("the connection ended before the order was sent")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            async with asyncio.timeout(timeout):
                return await self._waiting
        except TimeoutError as error:
            self.close()
            raise Unanswered(f"no answer within {timeout:g} s") from error
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._waiting = None

    def close(self) -> None:
        """Give it up."""
        self.open = False
        self._transport.abort()
