"""HAProxy's runtime socket: one connection held open, commands one after another, its end noticed at once.

Held open because a broken connection is the fastest news that the proxy was restarted and has forgotten its state.
"""

import asyncio
from pathlib import Path

from strategyrollout.core.routing import Row

_PROMPT = b"\n> "
_TIMEOUT = 2.0
_LINES = 100  # of a map in one command; the proxy's input buffer bounds it


class ProxyGone(Exception):
    """The proxy does not answer, or not any more; what it had in memory must be thought lost."""


class CommandFailed(Exception):
    """The proxy refused a command; the message is its own."""


class _Wire(asyncio.Protocol):
    """Collects bytes until the prompt that ends every answer."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.answer: asyncio.Future[bytes] | None = None
        self.lost = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Ends the pending answer at the prompt."""
        self.received += data
        if self.received.endswith(_PROMPT) and self.answer and not self.answer.done():
            self.answer.set_result(bytes(self.received[: -len(_PROMPT)]))
            self.received.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails the pending answer."""
        self.lost.set()
        if self.answer and not self.answer.done():
            self.answer.set_exception(ProxyGone(f"connection closed: {exc or 'end of file'}"))


class Admin:
    """One connection. Not for use by two tasks at once; the caller holds a lock."""

    def __init__(self, transport: asyncio.Transport, wire: _Wire, map_file: Path) -> None:
        self._transport = transport
        self._wire = wire
        self._map = map_file

    @classmethod
    async def connect(cls, socket: Path, map_file: Path) -> "Admin":
        """Raises ProxyGone when nobody listens."""
        try:
            transport, wire = await asyncio.get_running_loop().create_unix_connection(_Wire, str(socket))
        except OSError as error:
            raise ProxyGone(str(error)) from error
        admin = cls(transport, wire, map_file)
        await admin.command("prompt")
        return admin

    async def lost(self) -> None:
        """Returns when the connection has ended."""
        await self._wire.lost.wait()

    def close(self) -> None:
        """Give the connection up; `lost` returns."""
        self._transport.abort()
        self._wire.lost.set()

    async def command(self, line: str) -> str:
        """Answer to one command. A missing answer ends the connection: a late one would be taken for the next."""
        if self._wire.lost.is_set():
            raise ProxyGone("connection closed")
        self._wire.answer = asyncio.get_running_loop().create_future()
        self._transport.write(line.encode() + b"\n")
        try:
            # Not `wait_for`: until Python 3.12 it may swallow a cancellation that meets the answer.
            async with asyncio.timeout(_TIMEOUT):
                answer = await self._wire.answer
        except TimeoutError as error:
            self.close()
            raise ProxyGone(f"no answer to {line.split(' <<', maxsplit=1)[0]!r} within {_TIMEOUT:g} s") from error
        except asyncio.CancelledError:
            self.close()
            raise
        return answer.decode(errors="replace").strip()

    async def silent(self, line: str) -> None:
        """A command whose only answer is a complaint."""
        answer = await self.command(line)
        if answer:
            raise CommandFailed(f"{line.split(' <<', maxsplit=1)[0]}: {answer}")

    async def read_map(self) -> list[Row]:
        """Entries of the map in force, in no order."""
        lines = (await self.command(f"show map {self._map}")).splitlines()
        entries = [line.split(" ", 2) for line in lines if line]
        return [(entry[1], entry[2]) for entry in entries if len(entry) == 3]

    async def swap_map(self, entries: list[Row]) -> None:
        """Put a whole new map into force in one step, and look whether it is there."""
        answer = await self.command(f"prepare map {self._map}")
        if not answer.startswith("New version created: "):
            raise CommandFailed(f"prepare map: {answer}")
        version = int(answer.rpartition(" ")[2])
        for at in range(0, len(entries), _LINES):
            payload = "".join(f"{key} {value}\n" for key, value in entries[at : at + _LINES])
            await self._add(version, payload)
        await self.silent(f"commit map @{version} {self._map}")
        if sorted(await self.read_map()) != sorted(entries):
            raise CommandFailed(f"commit map @{version}: the map in force is not the one that was sent")

    async def _add(self, version: int, payload: str) -> None:
        # Some versions print a prompt for every line of a payload; only what is left over is a complaint.
        answer = (await self.command(f"add map @{version} {self._map} <<\n{payload}")).strip("+ \n")
        if answer:
            raise CommandFailed(f"add map @{version}: {answer}")

    async def set_entry(self, key: str, value: str) -> None:
        """Change one entry of the map in force."""
        await self.silent(f"set map {self._map} {key} {value}")
