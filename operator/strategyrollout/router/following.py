"""What the agent follows at the API server: its assignment, by a watch and by reads, and the ready pods, by a watch.

A newer table is put into force whichever way it comes, a Freeze one round trip sooner by the watch. But events may be
late, doubled or lost, and say nothing about how old they are: the right to serve what is leased comes from consistent
reads alone, and so does everything before the first of them.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping

from strategyrollout.api import meta
from strategyrollout.core import routing
from strategyrollout.core.routing import Table, UnusableTable
from strategyrollout.router.backends import Address, ready_addresses
from strategyrollout.router.kube import CALL_TIMEOUT, ApiError, Body, Kube, Unreachable, backoff
from strategyrollout.router.saying import Saying, log
from strategyrollout.router.settings import Settings

Believe = Callable[[Table, int], Awaitable[bool]]
"""Takes a table and when (ms) its read was sent; says whether it was believed."""
Learn = Callable[[Table], Awaitable[bool]]
"""Takes a table that came by an event; says whether it was news and is put into force."""


class AssignmentReader:
    """Reads the assignment when something may have changed and as often as leased ranges need; one read at a time."""

    def __init__(self, kube: Kube, settings: Settings, believe: Believe, learn: Learn) -> None:
        collection = f"/apis/{meta.API_VERSION}/namespaces/{settings.namespace}/trafficassignments"
        self._kube = kube
        self._uid = settings.rollout_uid
        self._believe = believe
        self._learn = learn
        self._learned_at = 0
        self._path = f"{collection}/{settings.rollout}"
        self._collection = collection
        self._selector = {"fieldSelector": f"metadata.name={settings.rollout}"}
        self._hint = asyncio.Event()
        self._interval: int | None = None
        self._reading = Saying()
        self._watching = Saying()

    def hint(self) -> None:
        """Something may have changed: read now."""
        self._hint.set()

    async def read(self) -> None:
        """Read for ever."""
        failures = 0
        while True:
            self._hint.clear()
            started = time.monotonic()
            failures = 0 if await self._once() else failures + 1
            if failures:
                await self._hinted(backoff(failures))
            else:
                await self._due(started)

    async def _due(self, last: float) -> None:
        """Wait until there is a reason to read; an event may take the reason away."""
        while not self._hint.is_set():
            if self._interval is None:
                await self._hint.wait()
                return
            await self._hinted(last + self._interval / 1000 - time.monotonic())
            if self._interval is not None:
                return

    async def _hinted(self, seconds: float) -> None:
        """Wait for a hint, so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._hint.wait()

    async def _once(self) -> bool:
        """One read; False when it should be tried again soon."""
        timeout = CALL_TIMEOUT if self._interval is None else min(CALL_TIMEOUT, self._interval / 1000)
        # The clock is read before the request leaves, never when its answer comes: the right counts from the send.
        sent_at = int(time.time() * 1000)
        try:
            item = await self._kube.get(self._path, timeout=timeout)
            table = routing.parse_table(item["spec"], self._uid)
            believed = await self._believe(table, sent_at)
        except (ApiError, Unreachable) as error:
            self._reading.badly(f"cannot read the assignment ({error}); the last table stays")
            return False
        except (UnusableTable, OSError) as error:
            self._reading.badly(f"cannot enforce the assignment ({error}); the last table stays")
            return False
        if not believed and sent_at <= self._learned_at:  # an event overtook it
            return False
        if not believed:
            self._reading.badly(f"epoch {table.epoch} does not follow the one in force; not believed")
            return False
        self._interval = routing.read_interval(table)
        self._reading.well(f"epoch {table.epoch} confirmed")
        return True

    async def watch(self) -> None:
        """Take every change of the object in, for ever."""
        failures = 0
        while True:
            try:
                # From here on nothing is missed; what came before is caught by the read that is asked for.
                listed = await self._kube.get(self._collection, {**self._selector, "limit": "1"})
                self.hint()
                since = listed["metadata"]["resourceVersion"]
                self._watching.well("watching the assignment")
                async for event in self._kube.watch(self._collection, self._selector, since):
                    await self._take(event)
                failures = 0
            except (ApiError, Unreachable) as error:
                self._watching.badly(f"cannot watch the assignment ({error})")
                await asyncio.sleep(backoff(failures))
                failures += 1

    async def _take(self, event: Body) -> None:
        """Put a newer table into force at once; of anything else a read says what it means."""
        try:
            table = routing.parse_table(event["object"].get("spec") or {}, self._uid)
            learned = event["type"] != "DELETED" and await self._learn(table)
        except (UnusableTable, OSError):
            learned = False
        if not learned:
            self.hint()
            return
        self._learned_at = int(time.time() * 1000)
        self._interval = routing.read_interval(table)
        if self._interval is not None:
            self.hint()
        self._reading.well(f"epoch {table.epoch} is news")


class EndpointFollower:
    """Keeps the ready pods of every revision of the rollout."""

    def __init__(
        self, kube: Kube, settings: Settings, tell: Callable[[Mapping[str, frozenset[Address]]], Awaitable[None]]
    ) -> None:
        self._kube = kube
        self._tell = tell
        self._port_name = settings.port_name
        self._path = f"/apis/discovery.k8s.io/v1/namespaces/{settings.namespace}/endpointslices"
        self._selector = {"labelSelector": f"{meta.LABEL_ROLLOUT}={settings.rollout},{meta.LABEL_REVISION}"}
        self._following = Saying()
        self._slices: dict[str, Body] = {}
        self._told: Mapping[str, frozenset[Address]] = {}
        self.known = asyncio.Event()
        """Set once the ready pods have been read."""

    async def follow(self) -> None:
        """List and watch for ever; what was known stays in force while the API server does not answer."""
        failures = 0
        while True:
            try:
                listed = await self._kube.get(self._path, self._selector)
                self._slices = {item["metadata"]["name"]: item for item in listed["items"]}
                await self._changed()
                self.known.set()
                self._following.well("following the ready pods")
                async for event in self._kube.watch(self._path, self._selector, listed["metadata"]["resourceVersion"]):
                    self._apply(event)
                    await self._changed()
                    failures = 0
            except (ApiError, Unreachable) as error:
                self._following.badly(f"cannot follow the ready pods ({error}); the last ones stay")
                await asyncio.sleep(backoff(failures))
                failures += 1

    def _apply(self, event: Body) -> None:
        name = event["object"]["metadata"]["name"]
        if event["type"] == "DELETED":
            self._slices.pop(name, None)
        else:
            self._slices[name] = event["object"]

    async def _changed(self) -> None:
        ready = ready_addresses(self._slices.values(), self._port_name)
        if ready == self._told:
            return
        for revision in sorted(ready.keys() | self._told.keys()):
            if ready.get(revision) != self._told.get(revision):
                pods = ", ".join(f"{address}:{port}" for address, port in sorted(ready.get(revision, ())))
                log.info("ready pods of %s: %s", revision, pods or "none")
        self._told = ready
        await self._tell(ready)
