"""The table on disk: what a proxy or an agent that is started again begins with.

It is there for every process as soon as it is written, so a restart never goes back to an older table. Only a crash of
the whole machine needs the disk itself to have it, and disks may stand still for seconds; so that is seen to afterwards
and nobody waits for it: after such a crash nothing is admitted before a read has confirmed a table anyway.
"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from strategyrollout.core.routing import Row
from strategyrollout.router.saying import Saying

_AGAIN = 1.0


class Disk:
    """A map file of the proxy. One writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = asyncio.Event()
        self._saying = Saying()

    def read(self) -> list[Row]:
        """Its entries; none without a file."""
        try:
            lines = self._path.read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(key, value) for key, _, value in (line.partition(" ") for line in lines)]

    def write(self, entries: Sequence[Row]) -> None:
        """Replaces all entries in one step. Raises OSError."""
        fresh = self._path.with_suffix(".new")
        fresh.write_text("".join(f"{key} {value}\n" for key, value in entries))
        fresh.replace(self._path)
        self._written.set()

    async def keep_synced(self) -> None:
        """Lets what is written survive a crash of the machine, for ever."""
        while True:
            await self._written.wait()
            self._written.clear()
            try:
                await asyncio.to_thread(self._sync)
                self._saying.well("the table is on disk")
            except OSError as error:
                self._saying.badly(f"the table is not on disk ({error}); a crash of the machine may lose it")
                await asyncio.sleep(_AGAIN)
                self._written.set()

    def _sync(self) -> None:
        for path in (self._path, self._path.parent):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
