"""Puts tables into force in the proxy, and nothing else may: every change of its memory goes through here, one by one.

Order matters throughout. File before memory: a proxy that restarts must not undo a revert. Servers before the map that
names them. A new table and the deadline of the read that brought it in one swap: a deadline set before the table would
let the old one go on too long.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Mapping
from pathlib import Path

from strategyrollout.core import routing
from strategyrollout.core.routing import Table
from strategyrollout.router.admin import Admin, CommandFailed, ProxyGone
from strategyrollout.router.backends import Address, Backends
from strategyrollout.router.disk import Disk
from strategyrollout.router.flight import Flight, Sample, begun_before, requests_so_far, samples_in
from strategyrollout.router.settings import MAP, SOCKET

log = logging.getLogger("router")

_RECONNECT = 0.05
_REPEAT = 1.0
_WATCHING = 0.02
_RESTING = 1.0


class Enforcement:
    """What the proxy does now, and the only hand on it."""

    def __init__(self, run_dir: Path) -> None:
        self._socket = run_dir / SOCKET
        self._map = run_dir / MAP
        self._lock = asyncio.Lock()
        self._admin: Admin | None = None
        self._backends = Backends()
        self._ready: Mapping[str, frozenset[Address]] = {}
        self._flight = Flight()
        self._leaving: frozenset[str] = frozenset()
        self._cuts: list[tuple[float, int, frozenset[str]]] = []
        self._not_after = 0
        self._read_at = 0
        self._refusing = False
        self.disk = Disk(self._map)
        self._floor = routing.epoch_in(self.disk.read())
        self.table: Table | None = None
        """The newest since the first that a consistent read confirmed; in force whenever the proxy is reachable."""
        self.met = asyncio.Event()
        """Set once the proxy was reached. Before that no table may be confirmed: which of its backends stand for which
        revision is only known from the proxy itself, if an agent before this one left it serving."""
        self.in_force = asyncio.Event()
        self.changed = asyncio.Event()
        """Set when something happened that an acknowledgement tells."""
        self.moved = asyncio.Event()
        """Set when there is something new to `look` at."""

    @property
    def empty(self) -> bool:
        """Whether ranges are frozen and nothing of them is in flight."""
        return self.table is not None and bool(self.table.frozen) and not self._leaving and self._flight.over

    async def keep_connected(self) -> None:
        """Connect, tell the proxy everything, wait until it is gone, again; never returns."""
        while True:
            try:
                admin = await Admin.connect(self._socket, self._map)
            except ProxyGone:
                await asyncio.sleep(_RECONNECT)
                continue
            try:
                async with self._lock:
                    await self._begin(admin)
                await admin.lost()
                log.warning("lost the proxy; one that restarts answers 503 until it is told the table again")
            except (ProxyGone, CommandFailed) as error:
                log.warning("cannot tell the proxy its table: %s", error)
                await asyncio.sleep(_REPEAT)
            finally:
                self._admin = None
                self.in_force.clear()
                self._flight.forget()
                admin.close()

    async def _begin(self, admin: Admin) -> None:
        """Learn what the proxy holds, then hand it the confirmed table if there is one."""
        entries = await admin.read_map()
        self._backends.learn(await admin.command("show servers state"))
        self._floor = max(self._floor, routing.epoch_in(entries))
        self._admin = admin
        self.met.set()
        if self.table is None:
            self._backends.adopt(routing.backends_in(entries))
            if self._refusing:
                await self._close_door(admin)
            log.info("proxy reached; it knows epoch %d", routing.epoch_in(entries))
            return
        await self._swap(admin, self.table)
        self.changed.set()
        log.info("proxy reached; epoch %d is in force again", self.table.epoch)

    async def confirm(self, table: Table, sent_at: int) -> bool:
        """A consistent read sent at `sent_at` (ms) brought this table. Whether it was believed.

        An older one, or another one of the same epoch, prolongs nothing. Raises UnusableTable and OSError (disk).
        """
        async with self._lock:
            if table.epoch < self._floor or (self.table and table.epoch == self.table.epoch and table != self.table):
                return False
            self._read_at = max(self._read_at, sent_at)
            not_after = routing.not_after(sent_at, table.lease)
            if table != self.table:
                await self._adopt(table, not_after)
            elif not_after != self._not_after or not self.in_force.is_set():
                self._not_after = not_after
                await self._prolong(table)
        return True

    async def learn(self, table: Table) -> bool:
        """An event brought this table: in force at once when it is newer than the one that is. Whether it was.

        No deadline gets later by it, and one of a longer lease gets earlier: the operator waits for a silent router
        only as long as the newest table says. Raises OSError (disk).
        """
        async with self._lock:
            if self.table is None or table.epoch <= self._floor:
                return False
            await self._adopt(table, min(self._not_after, routing.not_after(self._read_at, table.lease)))
        return True

    async def _adopt(self, table: Table, not_after: int) -> None:
        old = self.table
        busy = [name for name, sample in (await self._samples()).items() if sample.current]
        self._backends.assign(table.revisions, busy)
        self.disk.write(routing.rows(table, self._backends.of))
        if old is None:
            left = frozenset(routing.backend_names())
        else:
            left = frozenset(self._backends.of[revision] for revision in routing.left_behind(table, old))
        self._leaving |= left
        self._floor, self.table, self._not_after = table.epoch, table, not_after
        self.in_force.clear()
        if self._admin:
            await self._told(self._swap(self._admin, table))
        await self._observe()
        self.changed.set()

    async def _prolong(self, table: Table) -> None:
        if self._admin and self.in_force.is_set():
            await self._told(self._admin.set_entry(routing.KEY_NOT_AFTER, str(self._not_after)))
        elif self._admin:
            await self._told(self._swap(self._admin, table))
            self.changed.set()

    async def _swap(self, admin: Admin, table: Table) -> None:
        await self._fill(admin)
        entries = routing.live_rows(table, self._backends.of, not_after=self._not_after, admitting=not self._refusing)
        await admin.swap_map(entries)
        # Only now does nothing in the proxy name the revisions that the table does not name.
        self._backends.keep(table.revisions)
        self._leave(table, requests_so_far(await admin.command("show info")))
        self.in_force.set()

    async def _fill(self, admin: Admin) -> None:
        for line in self._backends.commands(self._ready):
            answer = await admin.command(line)
            if answer and "chang" not in answer:
                raise CommandFailed(f"{line}: {answer}")

    async def _told(self, telling: Awaitable[None]) -> None:
        """Tell the proxy; after a failure give the connection up, and everything is told anew on the next one."""
        try:
            await telling
        except (ProxyGone, CommandFailed) as error:
            log.warning("the proxy was not told: %s", error)
            self.in_force.clear()
            if self._admin:
                self._admin.close()

    async def endpoints(self, ready: Mapping[str, frozenset[Address]]) -> None:
        """These pods are ready, and no others."""
        async with self._lock:
            self._ready = ready
            if self._admin and self.table:
                await self._told(self._fill(self._admin))

    def _leave(self, table: Table, number: int) -> None:
        backends, self._leaving = self._leaving, frozenset()
        if backends:
            self._flight.leave(backends, time.monotonic())
            self._cuts.append((time.monotonic() + table.limit / 1000, number, backends))
            self.moved.set()

    async def look(self) -> float:
        """Sample what is in flight, cut what outlasted the drain of a Freeze. Returns seconds until the next look."""
        self.moved.clear()
        async with self._lock:
            due = [cut for cut in self._cuts if cut[0] <= time.monotonic()]
            self._cuts = [cut for cut in self._cuts if cut not in due]
            for _, number, backends in due:
                await self._cut(backends, number)
            was = self.empty
            await self._observe()
            if self.empty != was:
                self.changed.set()
        wait = _RESTING if self._flight.over else _WATCHING
        return max(0.0, min([wait, *(cut[0] - time.monotonic() for cut in self._cuts)]))

    async def _observe(self) -> None:
        if self.table and self.in_force.is_set():
            samples = await self._samples()
            if samples:
                self._flight.observe(samples, time.monotonic(), self.table.limit / 1000)

    async def _cut(self, backends: frozenset[str], number: int) -> None:
        samples = await self._samples()
        if not any(samples[name].current for name in backends & samples.keys()):
            return
        streams = begun_before(await self._asked("show sess all"), backends, number)
        for stream in streams:
            await self._asked(f"shutdown session {stream}")
        if streams:
            log.warning("cut %d requests that lasted longer than they may", len(streams))

    async def refuse(self) -> None:
        """Let nothing in any more, until `start_over`."""
        async with self._lock:
            self._refusing = True
            if self._admin:
                await self._told(self._close_door(self._admin))

    async def _close_door(self, admin: Admin) -> None:
        if any(key == routing.KEY_ADMITTING for key, _ in await admin.read_map()):
            await admin.set_entry(routing.KEY_ADMITTING, routing.REFUSING)

    async def start_over(self) -> None:
        """Serve again, but only what a read from now on confirms."""
        async with self._lock:
            self._refusing = False
            self.table = None
            self.in_force.clear()

    async def idle(self) -> bool:
        """Whether the proxy proves that nothing at all is in flight; one that does not answer proves nothing."""
        async with self._lock:
            if not self._floor:  # nothing was ever let in
                return True
            samples = await self._samples()
            return bool(samples) and not any(sample.current for sample in samples.values())

    async def cut_all(self) -> None:
        """End whatever is in flight."""
        async with self._lock:
            await self._cut(frozenset(routing.backend_names()), sys.maxsize)

    async def _samples(self) -> dict[str, Sample]:
        return samples_in(await self._asked("show stat -1 2 -1"))

    async def _asked(self, line: str) -> str:
        """Answer of the proxy, empty when it is gone; `keep_connected` sees to the rest."""
        try:
            return await self._admin.command(line) if self._admin else ""
        except ProxyGone as error:
            log.warning("the proxy does not answer: %s", error)
            return ""
