"""Replicas, a Lease and a network that loses and delays, in a time of their own: what the rule is tried against.

Each replica does what `cluster/election.py` does, one request at a time: look, then take or renew by a
compare-and-swap, look again whenever an answer did not come. Its clock has a rate of its own. A request it gave up may
still arrive.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from strategyrollout.core import leadership
from strategyrollout.core.leadership import Move, Standing, Timing

T = TypeVar("T")
GIVES_UP = 2.0
Fate = Literal["arrives", "request lost", "answer lost"]


@dataclass(frozen=True)
class Step:
    """After `gap` seconds one replica does something; its request takes `there` seconds and the answer `back`."""

    gap: float
    replica: int
    what: Literal["work", "release"]
    there: float = 0.0
    back: float = 0.0
    fate: Fate = "arrives"


@dataclass(frozen=True)
class Lease:
    """As stored. No version: there is none."""

    version: int = 0
    holder: str = ""
    stamp: str = ""
    duration: float = 0.0


@dataclass
class Replica:
    """`rate` seconds pass on its clock while one passes."""

    known: Standing
    rate: float
    lease: Lease = field(default_factory=Lease)
    sure: bool = False
    busy: int = 0


class World:
    """`leaders` are those that may write at this moment, each by its own clock."""

    def __init__(self, timing: Timing, rates: list[float]) -> None:
        self.timing = timing
        self.now = 0.0
        self.lease = Lease()
        self.replicas = [Replica(Standing(f"r{n}"), rate) for n, rate in enumerate(rates)]
        self.led: list[str] = []
        self._serial = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    @property
    def leaders(self) -> list[str]:
        """Names."""
        return [r.known.me for r in self.replicas if leadership.leads(r.known, self.timing, self._clock(r))]

    def play(self, steps: list[Step]) -> None:
        """Raises AssertionError at the first moment with two leaders."""
        at = 0.0
        for step in steps:
            at += step.gap
            self._at(at, lambda step=step: self._do(step))  # type: ignore[misc]
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()
            now = self.leaders
            assert len(now) < 2, f"{now} lead at {self.now:.3f} s"
            self.led += [name for name in now if not self.led or self.led[-1] != name]

    def _at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._serial), event))

    def _clock(self, replica: Replica) -> float:
        return self.now * replica.rate

    def _do(self, step: Step) -> None:
        me = self.replicas[step.replica % len(self.replicas)]
        if me.busy:
            return
        move = leadership.decide(me.known, self.timing, self._clock(me))
        if move is Move.LOST:  # its process ends, and another one begins
            me.known, me.sure = Standing(f"{me.known.me}'"), False
        elif step.what == "release":
            if move is Move.HOLD:
                me.known = leadership.resigned(me.known)
                if me.sure:
                    self._write(me, step, Lease(holder="", stamp=self._stamp(), duration=1.0))
        elif not me.sure or move is Move.WAIT:
            self._look(me, step)
        else:
            self._write(me, step, Lease(holder=me.known.me, stamp=self._stamp(), duration=self.timing.duration))

    def _stamp(self) -> str:
        return str(next(self._serial))

    def _look(self, me: Replica, step: Step) -> None:
        def answer(found: Lease) -> None:
            now = self._clock(me)
            if found.version:
                me.known = leadership.observed(me.known, found.holder, found.stamp, found.duration, now)
            else:
                me.known = leadership.absent(me.known, now)
            me.lease, me.sure = found, True

        self._request(me, step, lambda: self.lease, answer)

    def _write(self, me: Replica, step: Step, wanted: Lease) -> None:
        before, sent, me.sure = me.lease, self._clock(me), False

        def swap() -> Lease | None:
            if self.lease.version != before.version:
                return None
            self.lease = Lease(before.version + 1, wanted.holder, wanted.stamp, wanted.duration)
            return self.lease

        def answer(stored: Lease | None) -> None:
            if stored is None:
                return
            me.lease, me.sure = stored, True
            if stored.holder == me.known.me:
                me.known = leadership.won(me.known, stored.stamp, stored.duration, sent)

        self._request(me, step, swap, answer)

    def _request(self, me: Replica, step: Step, serve: Callable[[], T], answer: Callable[[T], None]) -> None:
        ticket = me.busy = next(self._serial) + 1

        def arrive() -> None:
            found = serve()
            if step.fate == "arrives":
                self._at(self.now + step.back, lambda: end(lambda: answer(found)))

        def end(then: Callable[[], None]) -> None:
            if me.busy == ticket:
                me.busy = 0
                then()

        if step.fate != "request lost":
            self._at(self.now + step.there, arrive)
        self._at(self.now + GIVES_UP / me.rate, lambda: end(lambda: None))
