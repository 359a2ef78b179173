"""Which rollout is looked at next: every key once, never in two workers, reverts before all else.

The semantics are those of Kubernetes' own controllers. A key is added any number of times and worked on once; a key
that changes while it is worked on is worked on once more afterwards; failures back off per key. Two lanes, because a
hundred routine passes must not stand before one revert. Nothing here is lost by a restart: every start lists the world.
"""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_DELAY = 0.05
LONGEST_DELAY = 30.0


class Closed(Exception):
    """The queue takes and gives no more work."""


@dataclass
class Counters:
    """What the queue did so far; `waited` is called with the seconds between add and get, and the lane."""

    added: int = 0
    retried: int = 0
    waited: Callable[[float, bool], None] = field(default=lambda _seconds, _urgent: None)


class WorkQueue(Generic[K]):
    """Give every worker: `key = await get()`, then work, then `forget(key)` or `fail(key)`, and always `done(key)`.

    One event loop, no locks. `clock` is in seconds and never goes back.
    """

    def __init__(
        self, *, clock: Callable[[], float] = monotonic, first: float = FIRST_DELAY, longest: float = LONGEST_DELAY
    ) -> None:
        self.counters = Counters()
        self._clock = clock
        self._first, self._longest = first, longest
        self._lanes: tuple[deque[K], deque[K]] = (deque(), deque())  # urgent, routine
        self._dirty: dict[K, tuple[bool, float]] = {}  # to be worked on: is it urgent, since when
        self._processing: set[K] = set()
        self._due: dict[K, tuple[float, bool, int]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._serial = itertools.count()
        self._failures: dict[K, int] = {}
        self._presses: dict[K, asyncio.Future[None]] = {}
        # Waiting workers: those for urgent keys alone, and those for all.
        self._getters: tuple[deque[asyncio.Future[None]], deque[asyncio.Future[None]]] = (deque(), deque())
        self._alarm: asyncio.TimerHandle | None = None
        self._closed = False

    def add(self, key: K, *, urgent: bool = False) -> None:
        """To be worked on as soon as a worker is free."""
        if self._closed:
            return
        was_urgent, since = self._dirty.get(key, (None, self._clock()))
        if was_urgent or (was_urgent is not None and not urgent):
            return
        if was_urgent is None:
            self.counters.added += 1
        self._dirty[key] = (urgent, since)
        if urgent and (press := self._presses.pop(key, None)) is not None:
            press.set_result(None)
        if key not in self._processing:
            self._lanes[0 if urgent else 1].append(key)  # what is left in the other lane is skipped by `_pop`
            self._wake_one(urgent=urgent)

    def add_after(self, key: K, seconds: float, *, urgent: bool = False) -> None:
        """To be added in `seconds`. Of several such wishes for one key the earliest holds, urgent if any was."""
        if seconds <= 0:
            self.add(key, urgent=urgent)
            return
        if self._closed:
            return
        due = self._clock() + seconds
        before = self._due.get(key)
        if before is not None:
            urgent = urgent or before[1]
            if before[0] <= due:
                self._due[key] = (before[0], urgent, before[2])
                return
        serial = next(self._serial)
        self._due[key] = (due, urgent, serial)
        heapq.heappush(self._heap, (due, serial, key))
        if len(self._heap) > 2 * len(self._due) + 64:  # mostly wishes that an earlier one has replaced
            self._heap = [(when, number, name) for name, (when, _, number) in self._due.items()]
            heapq.heapify(self._heap)
        self._set_alarm()

    async def get(self, *, only_urgent: bool = False) -> K:
        """The next key, urgent ones first, then the oldest. Raises `Closed`.

        A few workers that take nothing else keep room for what is urgent, however many routine passes hang.
        """
        getters = self._getters[0 if only_urgent else 1]
        while True:
            if self._closed:
                raise Closed
            key = self._pop(only_urgent=only_urgent)
            if key is not None:
                return key
            waiter = asyncio.get_running_loop().create_future()
            getters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake_one(urgent=True)  # the wake-up was ours and is not used
                    self._wake_one(urgent=False)
                raise
            finally:
                if waiter in getters:
                    getters.remove(waiter)

    def done(self, key: K) -> None:
        """The worker has finished; what changed meanwhile is queued now."""
        self._processing.discard(key)
        if key in self._dirty and not self._closed:
            urgent = self._dirty[key][0]
            self._lanes[0 if urgent else 1].append(key)
            self._wake_one(urgent=urgent)

    def fail(self, key: K) -> float:
        """To be tried again; returns after how many seconds. Twice as long with every failure in a row."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        self.counters.retried += 1
        seconds = min(self._first * float(1 << min(count, 30)), self._longest)
        self.add_after(key, seconds)
        return seconds

    def forget(self, key: K) -> None:
        """It went well: the next failure starts from the shortest delay."""
        self._failures.pop(key, None)

    def drop(self, key: K) -> None:
        """The key names nothing any more: no timer and no failure is kept."""
        self.forget(key)
        self._due.pop(key, None)

    async def pressed(self, key: K) -> None:
        """Returns once a key that is being worked on has become urgent: whatever can wait should make way."""
        if self._dirty.get(key, (False, 0.0))[0]:
            return
        press = self._presses.setdefault(key, asyncio.get_running_loop().create_future())
        try:
            await asyncio.shield(press)
        finally:
            if self._presses.get(key) is press:
                del self._presses[key]

    def depth(self) -> int:
        """Keys waiting for a worker."""
        return sum(1 for key in self._dirty if key not in self._processing)

    def busy(self) -> int:
        """Keys being worked on."""
        return len(self._processing)

    def close(self) -> None:
        """No more work is given out; every `get` raises `Closed`. What is being worked on may finish."""
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        for waiter in (*self._getters[0], *self._getters[1]):
            if not waiter.done():
                waiter.set_result(None)

    def _pop(self, *, only_urgent: bool = False) -> K | None:
        for urgent, lane in ((True, self._lanes[0]), (False, self._lanes[1]))[: 1 if only_urgent else 2]:
            while lane:
                key = lane.popleft()
                state = self._dirty.get(key)
                # A key may stand in a lane it has left, by becoming urgent or by being taken from the other one.
                if state is None or state[0] != urgent or key in self._processing:
                    continue
                del self._dirty[key]
                self._processing.add(key)
                self.counters.waited(self._clock() - state[1], urgent)
                return key
        return None

    def _wake_one(self, *, urgent: bool) -> None:
        for getters in self._getters if urgent else self._getters[1:]:
            while getters:
                waiter = getters.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    return

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._heap and self._due.get(self._heap[0][2], (0, False, -1))[2] != self._heap[0][1]:
            heapq.heappop(self._heap)
        if self._heap:
            wait = max(self._heap[0][0] - self._clock(), 0.0)
            self._alarm = asyncio.get_running_loop().call_later(wait, self.fire)

    def fire(self) -> None:
        """Adds every key that is due. The queue's own alarm calls it; tests with a clock of their own do too."""
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            _, serial, key = heapq.heappop(self._heap)
            state = self._due.get(key)
            if state is not None and state[2] == serial:
                del self._due[key]
                self.add(key, urgent=state[1])
        self._set_alarm()
