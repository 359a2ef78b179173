"""Whether this replica works, in sentences: what is in its way for `/readyz`, what a restart mends for `/livez`."""

import asyncio
import time
from collections.abc import Sequence

from strategyrollout import handlers
from strategyrollout.cluster.election import Alone, Elector
from strategyrollout.cluster.resync import Resync
from strategyrollout.readiness import Readiness

_LAG = 10.0
_GRACE = 5.0


class Health:
    """`watching` is the task of the watchers, once there is one."""

    def __init__(
        self, readiness: Readiness, resync: Resync, elector: Elector | Alone, namespaces: Sequence[str]
    ) -> None:
        self._readiness = readiness
        self._resync = resync
        self._elector = elector
        self._namespaces = len(namespaces)
        self._heartbeat = time.monotonic()
        self.watching: asyncio.Task[None] | None = None

    async def beat(self) -> None:
        """Shows that the event loop runs, for ever."""
        while True:
            self._heartbeat = time.monotonic()
            await asyncio.sleep(1)

    def in_the_way(self) -> list[str]:
        """What keeps the operator from working; empty when it works."""
        lines = [*self._readiness.kinds, *self._readiness.verbs]
        lines += [f"cannot list {kind}: {why}" for kind, why in self._resync.failing.items()]
        if not self._resync.filled:
            lines.append("the first lists are not complete")
        lines += [self._elector.trouble] if self._elector.trouble else []
        return lines + self.watch_troubles()

    def not_alive(self) -> list[str]:
        """What only a restart mends."""
        lag = time.monotonic() - self._heartbeat
        lines = [f"the event loop was last seen {lag:.0f} s ago"] if lag > _LAG else []
        age = self._elector.overdue(_GRACE)
        lines += [] if age is None else [f"leading, and the Lease was last renewed {age:.0f} s ago"]
        return lines + (self.watch_troubles() if self._resync.filled else [])

    def watch_troubles(self) -> list[str]:
        """What is wrong with the watchers."""
        if self.watching is None or self.watching.done():
            return ["watching has not begun"] if self.watching is None and not self._resync.filled else ["not watching"]
        alive, wanted = handlers.watchers(self._namespaces)
        return [f"{alive} of {wanted} watchers are there"] if alive < wanted else []
