"""Work that a pass wants done but must not wait for: slow reads, dry runs, looks at pods.

The pass that asked goes on with what is known; whoever does the work wakes the rollout when there is news.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from time import monotonic

from strategyrollout.cluster.client import ApiError
from strategyrollout.ports import Unavailable

_log = logging.getLogger(__name__)
_FORGET = 4_096


class Background:
    """Runs each piece of work once at a time, by name, and not more often than its `every` (seconds)."""

    def __init__(self, at_once: int = 48) -> None:
        self._limit = asyncio.Semaphore(at_once)
        self._running: dict[Hashable, asyncio.Task[None]] = {}
        self._ended: dict[Hashable, float] = {}

    def run(
        self,
        name: Hashable,
        every: float,
        work: Callable[[], Awaitable[object]],
        failed: Callable[[], object] | None = None,
    ) -> None:
        """Starts the work: at once, or when `every` has passed since it last ended. Not if it is already under way.

        When it fails, `failed` is called; what then asks again is served after `every`.
        """
        if name not in self._running:
            wait = self._ended.get(name, float("-inf")) + every - monotonic()
            task = asyncio.create_task(self._guarded(name, wait, work, failed), name=f"background {name}")
            self._running[name] = task

    async def close(self) -> None:
        """Ends everything under way."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _guarded(
        self,
        name: Hashable,
        wait: float,
        work: Callable[[], Awaitable[object]],
        failed: Callable[[], object] | None,
    ) -> None:
        try:
            if wait > 0:
                await asyncio.sleep(wait)
            async with self._limit:
                await work()
        except Exception as error:
            expected = isinstance(error, ApiError | Unavailable)
            _log.warning("%s: %s", name, error, exc_info=None if expected else error)
            if failed is not None:
                failed()
        finally:
            self._running.pop(name, None)
            if len(self._ended) > _FORGET:
                self._ended.clear()
            self._ended[name] = monotonic()
