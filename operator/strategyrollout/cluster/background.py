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

    def __init__(self, at_once: int = 16) -> None:
        self._limit = asyncio.Semaphore(at_once)
        self._running: dict[Hashable, asyncio.Task[None]] = {}
        self._ended: dict[Hashable, float] = {}

    def run(self, name: Hashable, every: float, work: Callable[[], Awaitable[object]]) -> bool:
        """Starts the work unless it runs, or ran less than `every` ago. Returns whether it is under way."""
        if name in self._running:
            return True
        if monotonic() - self._ended.get(name, float("-inf")) < every:
            return False
        self._running[name] = asyncio.create_task(self._guarded(name, work), name=f"background {name}")
        return True

    async def close(self) -> None:
        """Ends everything under way."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _guarded(self, name: Hashable, work: Callable[[], Awaitable[object]]) -> None:
        try:
            async with self._limit:
                await work()
        except (ApiError, Unavailable) as error:
            _log.warning("%s: %s", name, error)
        except Exception:
            _log.exception("%s failed", name)
        finally:
            self._running.pop(name, None)
            if len(self._ended) > _FORGET:
                self._ended.clear()
            self._ended[name] = monotonic()
