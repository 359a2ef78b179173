"""One leader among the replicas, by a Lease of their own; the rule is in core/leadership.py, this is its hands.

Why not the electors of the official client: one crashes where there is no Lease, both go on working when the API
server hangs, neither gives the Lease back (docs/decisions). Election only decides who should write. What keeps two
writers from harm is the compare-and-swap of the assignment, which needs no clock.
"""

import asyncio
import logging
import math
import random
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from strategyrollout.cluster.client import Api, ApiError, Body, Conflict, NotFound, resource_path
from strategyrollout.core import leadership
from strategyrollout.core.leadership import Move, Standing, Timing
from strategyrollout.ports import Unavailable

_log = logging.getLogger(__name__)

CALL = 2.0
"""Seconds for one request at most."""
_LOOKS = 4
"""A standby looks so often in a retry period: one that ends in order is followed at once, and a look costs little."""


def boot_clock() -> float:
    """Seconds that never go back and that count while the process, or the whole machine, stands still."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def identity(pod: str) -> str:
    """A name that no other process has or will have, also not the next one of the same pod."""
    return f"{pod}_{uuid.uuid4()}"


class Alone:
    """The elector of an operator without replicas: it always leads."""

    leading = True
    transitions = 0
    role = trouble = ""

    def overdue(self, grace: float) -> float | None:
        """Nothing has to be renewed."""

    async def acquire(self, ready: asyncio.Event) -> None:
        """Returns when it is ready."""
        await ready.wait()

    async def keep(self) -> None:
        """Never returns."""
        await asyncio.Event().wait()

    async def release(self) -> None:
        """Nobody waits for it."""


class Elector:
    """`lease` is namespace and name. `lost` is called once when it no longer leads; it should end the process."""

    def __init__(
        self,
        api: Api,
        lease: tuple[str, str],
        me: str,
        timing: Timing,
        lost: Callable[[str], object],
        *,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self._api = api
        self._namespace, self._name = lease
        self._timing = timing
        self._lost = lost
        self._clock = clock
        self._known = Standing(me)
        self._lease: Body | None = None
        self._sure = False
        """Whether `_lease` may be built upon: false before the first read and after a write nobody answered."""
        self._asked = False
        self.trouble = ""
        """Why the latest request failed; empty when it did not."""

    @property
    def leading(self) -> bool:
        """Whether a write may be sent at this moment."""
        return leadership.leads(self._known, self._timing, self._clock())

    @property
    def holder(self) -> str:
        """Who leads, as last seen; empty for nobody."""
        return self._known.seen.holder if self._known.seen is not None else ""

    @property
    def role(self) -> str:
        """What this replica does, for people."""
        return "leading" if self.leading else f"standing by; {self.holder or 'nobody'} leads"

    @property
    def transitions(self) -> int:
        """How often the Lease went from one to another."""
        return int(_spec(self._lease).get("leaseTransitions") or 0)

    def overdue(self, grace: float) -> float | None:
        """Seconds since the last renewal of one that leads, when that is longer ago than the Lease and `grace`."""
        renewed = self._known.renewed
        age = 0.0 if renewed is None else self._clock() - renewed
        return age if age > self._timing.duration + grace else None

    async def acquire(self, ready: asyncio.Event) -> None:
        """Returns once this replica leads. It looks from the start and takes the Lease only when `ready`."""
        while True:
            await self._look()
            if self._decide() is Move.ACQUIRE and ready.is_set() and await self._write(self._claim()):
                if self.leading:
                    _log.info("leading as %s, transition %d", self._known.me, self.transitions)
                    return
                self._known = leadership.resigned(self._known)  # the answer came too late to begin with anything
            await asyncio.sleep(self._until_next_look())

    async def keep(self) -> None:
        """Renews until it is lost, which `lost` is told first."""
        pause = self._timing.retry
        while True:
            await asyncio.sleep(min(pause, self._left()))
            if self._decide() is not Move.LOST:
                if not self._sure:
                    await self._look()
                if self._decide() is Move.HOLD:
                    pause = self._timing.retry if await self._write(self._claim()) else self._timing.retry / _LOOKS
            if self._decide() is Move.LOST:
                self._lost(self._why())
                return

    async def release(self) -> None:
        """Gives the Lease back, if it is or may be ours, so that nobody waits for its end. Never raises."""
        self._known = leadership.resigned(self._known)
        for _ in range(2):  # once more if an earlier write of ours arrived later than we thought
            if self._asked and not self._sure:
                await self._look()
            if not self._asked or _spec(self._lease).get("holderIdentity") != self._known.me:
                return
            spec = {**_spec(self._lease), "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
            if await self._send(spec):
                _log.info("the Lease %s/%s is given back", self._namespace, self._name)
                return

    def _decide(self) -> Move:
        return leadership.decide(self._known, self._timing, self._clock())

    def _left(self) -> float:
        return leadership.time_left(self._known, self._timing, self._clock())

    def _until_next_look(self) -> float:
        """Replicas do not look at the same moment; but where a Lease is about to end, none looks late."""
        pause = self._timing.retry / _LOOKS * random.uniform(0.75, 1.25)
        end = leadership.free_in(self._known, self._timing, self._clock())
        return pause if end is None else min(pause, end + 0.001)

    def _patience(self) -> float:
        return CALL if self._known.renewed is None else min(CALL, self._left())

    def _why(self) -> str:
        if self.holder != self._known.me:
            return f"{self.holder or 'nobody'} holds the Lease {self._namespace}/{self._name}"
        return f"the Lease {self._namespace}/{self._name} could not be renewed for {self._timing.renew_deadline:g} s"

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(self._patience()):
                body = await self._api.get(self._path(self._name))
        except NotFound:
            self._known, self._lease = leadership.absent(self._known, self._clock()), None
        except Exception as error:
            self._complain("read", error)
            return
        else:
            spec, self._lease = _spec(body), body
            holder, stamp = str(spec.get("holderIdentity") or ""), str(spec.get("renewTime") or "")
            duration = float(spec.get("leaseDurationSeconds") or 0)
            self._known = leadership.observed(self._known, holder, stamp, duration, self._clock())
        self._sure = True
        self.trouble = ""

    def _claim(self) -> dict[str, Any]:
        before, now = _spec(self._lease), _now()
        mine = before.get("holderIdentity") == self._known.me
        changes = int(before.get("leaseTransitions") or 0)
        return {
            **before,
            "holderIdentity": self._known.me,
            "leaseDurationSeconds": math.ceil(self._timing.duration),
            "acquireTime": before.get("acquireTime") if mine else now,
            "renewTime": now,
            "leaseTransitions": changes if mine or self._lease is None else changes + 1,
        }

    async def _write(self, spec: dict[str, Any]) -> bool:
        """Takes or renews the Lease. What counts is when the request was sent, whenever its answer comes."""
        sent = self._clock()
        if not await self._send(spec):
            return False
        stamp, duration = str(_spec(self._lease).get("renewTime") or ""), float(spec["leaseDurationSeconds"])
        self._known = leadership.won(self._known, stamp, duration, sent)
        return True

    async def _send(self, spec: dict[str, Any]) -> bool:
        before, self._sure, self._asked = self._lease, False, True
        try:
            async with asyncio.timeout(self._patience()):
                if before is None:
                    named = {"namespace": self._namespace, "name": self._name}
                    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": named, "spec": spec}
                    self._lease = await self._api.create(self._path(), body)
                else:
                    self._lease = await self._api.replace(self._path(self._name), {**before, "spec": spec})
        except Conflict:
            return False  # somebody else was first, or an earlier write of ours arrived after all: look again
        except Exception as error:
            self._complain("write", error)
            return False
        self._sure = True
        self.trouble = ""
        return True

    def _complain(self, verb: str, error: Exception) -> None:
        expected = isinstance(error, ApiError | Unavailable | TimeoutError)
        text = f"cannot {verb} the Lease {self._namespace}/{self._name}: {error or type(error).__name__}"
        if text != self.trouble:
            _log.warning(text, exc_info=None if expected else error)
        self.trouble = text

    def _path(self, name: str | None = None) -> str:
        return resource_path("coordination.k8s.io/v1", "leases", self._namespace, name)


def _spec(lease: Body | None) -> dict[str, Any]:
    return (lease or {}).get("spec") or {}


def _now() -> str:
    """For people and other electors to see that something changed; nobody compares it with a clock."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
