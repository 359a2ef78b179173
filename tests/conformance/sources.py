"""A door in front of the real Prometheus that a test can shut: it refuses, or takes the question and never answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal
from urllib.parse import urlsplit

Mode = Literal["open", "hang", "refuse"]


class Door:
    """Passes bytes on while open."""

    def __init__(self, behind: str) -> None:
        parts = urlsplit(behind)
        self._behind = (str(parts.hostname), int(parts.port or 80))
        self._mode: Mode = "open"
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._busy: set[asyncio.Task[None]] = set()
        self.address = ""

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Door]:
        """Listens on `address` inside."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            self._end_all()
            await asyncio.gather(*self._busy, return_exceptions=True)

    def set(self, mode: Mode) -> None:
        """From now on, for connections that exist too."""
        self._mode = mode
        if mode == "hang":
            self._flowing.clear()
        else:
            self._flowing.set()
        if mode != "hang":
            self._end_all()

    def _end_all(self) -> None:
        for task in self._busy:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._between(reader, writer)
        finally:
            self._busy.discard(task)
            writer.close()

    async def _between(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "refuse":
            return
        behind_reader, behind_writer = await asyncio.open_connection(*self._behind)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, behind_writer))
                group.create_task(self._pump(behind_reader, writer))
        finally:
            behind_writer.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            await self._flowing.wait()
            sink.write(data)
            await sink.drain()
        sink.close()
