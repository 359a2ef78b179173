"""Kept connections to all routers there are at the moment; new orders go round them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.orders.connection import Address, Connection, Unsent

# Routers close connections that rest for a minute. One that is used at that very instant would look like a lost order.
_LONGEST_REST = 20.0
_CONNECT_TIMEOUT = 2.0


class Pool:
    """Idle connections by router."""

    def __init__(self) -> None:
        self._addresses: tuple[Address, ...] = ()
        self._idle: dict[Address, list[Connection]] = {}
        self._turn = 0

    @property
    def size(self) -> int:
        """Number of routers."""
        return len(self._addresses)

    def use(self, addresses: Sequence[Address]) -> None:
        """These routers from now on. Orders that wait for an answer of another one get it."""
        self._addresses = tuple(addresses)
        for address in self._idle.keys() - set(addresses):
            for connection in self._idle.pop(address):
                connection.close()

    async def take(self, avoid: Address | None = None) -> tuple[Address, Connection]:
        """A connection to the next router, another one than `avoid` where there is a choice. Raises Unsent."""
        choice = [address for address in self._addresses if address != avoid] or list(self._addresses)
        if not choice:
            raise Unsent("there is no ready router")
        self._turn += 1
        address = choice[self._turn % len(choice)]
        now = asyncio.get_running_loop().time()
        idle = self._idle.setdefault(address, [])
        while idle:
            connection = idle.pop()
            if connection.open and now - connection.idle_since < _LONGEST_REST:
                return address, connection
            connection.close()
        return address, await Connection.to(address, _CONNECT_TIMEOUT)

    def give_back(self, address: Address, connection: Connection) -> None:
        """It may be used again."""
        if not connection.open:
            return
        if address not in self._addresses:
            connection.close()
            return
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.setdefault(address, []).append(connection)

    def close(self) -> None:
        """Close everything that is idle."""
        self.use(())
