"""The operator process: puts the parts together, starts them in order, and ends when it is told to or when one fails.

One event loop for everything. Any part that ends by itself ends the process, because a process that only looks alive is
worse than one that is started again: all state is in the API server, and starting takes a second or two. Of several
replicas all watch and one leads (leading.py); one that loses the lead ends, because nothing else is sure to stop.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine
from typing import Any

from strategyrollout import handlers, telemetry, web
from strategyrollout.cluster import wakes
from strategyrollout.cluster.access import Access, find_access
from strategyrollout.cluster.apply import Applier
from strategyrollout.cluster.assignments import Assignments
from strategyrollout.cluster.background import Background
from strategyrollout.cluster.cache import Body, Cache, name_of, uid_of
from strategyrollout.cluster.client import Api
from strategyrollout.cluster.consumers import ConsumerLeases
from strategyrollout.cluster.election import Alone, Elector, identity
from strategyrollout.cluster.events import Events
from strategyrollout.cluster.evidence import EvidenceFile
from strategyrollout.cluster.inputs import Inputs, references
from strategyrollout.cluster.kinds import ASSIGNMENTS, LEASES, ROLLBACKS, ROLLOUTS, ROUTERS, WATCHED, Kind
from strategyrollout.cluster.observe import Observer, Parts
from strategyrollout.cluster.pods import PodTroubles
from strategyrollout.cluster.report import Reporter
from strategyrollout.cluster.resync import Resync
from strategyrollout.cluster.routers import KeptRouters
from strategyrollout.cluster.snapshots import Snapshots
from strategyrollout.cluster.workqueue import WorkQueue
from strategyrollout.health import Health
from strategyrollout.leading import Leading
from strategyrollout.metrics.plane import QueryPlane
from strategyrollout.ports import Key
from strategyrollout.readiness import Readiness
from strategyrollout.reconcile import Hands, Rollouts
from strategyrollout.settings import Settings
from strategyrollout.telemetry import Live
from strategyrollout.traffic import providers

_log = logging.getLogger(__name__)

_OFTEN = (ROLLOUTS, ASSIGNMENTS, ROLLBACKS)
_LAST_LINES = 2.0
_STOP_WATCHING = 8.0


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Process:
    """All parts of one operator."""

    def __init__(self, settings: Settings, access: Access) -> None:
        self.settings = settings
        # Open to every replica: it asks what it may do, and seeks the lead on connections that nothing else can fill.
        self.own_api = Api(access, reload=find_access)
        self.elector = self._elector()
        self.api = Api(access, reload=find_access, may_write=self._may_write)
        # Traffic has connections of its own: however many other calls hang, a revert finds a free one.
        self.traffic_api = Api(access, reload=find_access, may_write=self._may_write)
        self.queue: WorkQueue[Key] = WorkQueue()
        self.queue.counters.waited = _waited
        self.cache = Cache(references, self._changed)
        self.consumers = ConsumerLeases(self.traffic_api, now_ms)
        self.assignments = Assignments(self.traffic_api, self.cache, now_ms)
        self.background = Background()
        self.samples = QueryPlane(settings.prometheus or "", self._wake, now_ms)
        self.resync = Resync(self.api, self.cache, settings.namespaces, _missed, settings.selector)
        self.readiness = Readiness(self.own_api, settings.namespaces, (settings.leader_lease or ("",))[0])
        self.events = Events(self.api, instance=settings.pod_name)
        self.evidence = EvidenceFile(settings.evidence) if settings.evidence is not None else None
        self.rollouts = Rollouts(self._hands(), self.queue, settings.pass_timeout)
        self.leading = Leading(
            self.rollouts, self.queue, self.cache, self.consumers, self.background, self.events, self.api
        )
        self._filled = asyncio.Event()
        self._stop_watching = asyncio.Event()
        self.health = Health(self.readiness, self.resync, self.elector, settings.namespaces)

    def _hands(self) -> Hands:
        applier = Applier(self.api, self.cache)
        snapshots = Snapshots(self.api, self.cache, self.background, wake=self.queue.add, now=now_ms)
        routers = KeptRouters(self.api, self.cache, self.background, snapshots)
        parts = Parts(
            cache=self.cache,
            assignments=self.assignments,
            consumers=self.consumers,
            inputs=Inputs(self.api, self.cache, applier, self.background, wake=self.queue.add, now=now_ms),
            pods=PodTroubles(self.api, self.background, self.queue.add),
            samples=self.samples,
            background=self.background,
            now=now_ms,
            routers=routers,
            next_routers=providers.next_routers,
            router_image=self.settings.router_image,
        )
        return Hands(
            observer=Observer(parts),
            assignments=self.assignments,
            applier=applier,
            reporter=Reporter(self.api, self.cache, self.settings.live_numbers),
            events=self.events,
            evidence=self.evidence,
            background=self.background,
            routers=routers,
            now=now_ms,
        )

    async def run(self) -> int:
        """Works until SIGTERM or SIGINT, or until a part fails; returns the exit status."""
        shutdown = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, shutdown.set)
        server = await web.serve(
            self.settings.http_address,
            self.settings.http_port,
            ready=self.health.in_the_way,
            alive=self.health.not_alive,
            role=lambda: self.elector.role,
        )
        self._tell()
        await self.samples.start()
        told = asyncio.create_task(shutdown.wait(), name="shutdown")
        parts = [told, *_tasks(heartbeat=self.health.beat(), events=self.events.run(), lead=self._lead())]
        if self.evidence is not None:
            parts += _tasks(evidence=self.evidence.run())
        starting = asyncio.create_task(self._synced(shutdown), name="first lists")
        try:
            ended, _ = await asyncio.wait((starting, *parts), return_when=asyncio.FIRST_COMPLETED)
            if starting in ended and starting.exception() is None:
                gc.freeze()  # without looking for what could be freed, which takes a quarter of a second now
                self._filled.set()
                parts += _tasks(checks=self._checks(), resyncs=self._resyncs())
                watching = [self.health.watching] if self.health.watching is not None else []
                ended, _ = await asyncio.wait((*parts, *watching), return_when=asyncio.FIRST_COMPLETED)
            return _verdict(ended, told)
        finally:
            starting.cancel()
            await self._end(parts)
            await server.cleanup()
            await self._end_watching()
            for api in (self.api, self.traffic_api, self.own_api):
                await api.close()

    async def _synced(self, shutdown: asyncio.Event) -> None:
        """Returns once the kinds are there and everything was read."""
        while True:
            if await self.readiness.look_for_kinds():
                break
            await asyncio.sleep(1)
        # Kopf looks around for most of a second before it watches, which it can do while everything is read.
        self.health.watching = asyncio.create_task(self._watch(shutdown), name="watching")
        verbs = asyncio.create_task(self.readiness.look_for_verbs())
        while not self.resync.filled:
            gc.disable()  # reading makes little but what stays
            await self.resync.fill()
            gc.enable()
            if not self.resync.filled:
                await asyncio.sleep(1)
        await verbs

    async def _lead(self) -> None:
        """Leads from when it may until something of it ends."""
        await self.elector.acquire(self._filled)
        keeping = asyncio.create_task(self.elector.keep(), name="keeping the lead")
        try:
            working = self.leading.begin(self.settings.workers)
            ended, _ = await asyncio.wait((keeping, *working), return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _watch(self, shutdown: asyncio.Event) -> None:
        def ours() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, shutdown.set)

        namespaces, selector = self.settings.namespaces, self.settings.selector
        stop, listed = self._stop_watching, self.resync.listed
        await handlers.run(self.cache, find_access, namespaces, stop, ours, listed=listed, selector=selector)

    async def _checks(self) -> None:
        """What traffic and people in a hurry depend on is compared often; everything while a watcher is missing."""
        while True:
            await asyncio.sleep(self.settings.check)
            await self.resync.compare(WATCHED if self.health.watch_troubles() else _OFTEN)
            if self.readiness.verbs:  # whoever gives what is missing is told soon
                await self.readiness.look_for_verbs(only_missing=True)

    async def _resyncs(self) -> None:
        while True:
            await asyncio.sleep(self.settings.resync)
            await self.resync.compare(WATCHED)
            await self.leading.resync(self.settings.resync / 2)
            await self.readiness.look_for_verbs()
            _settle_memory()

    def _changed(self, kind: Kind, old: Body | None, new: Body | None) -> None:
        if kind is LEASES and new is not None:
            self.consumers.saw(new)
            self.leading.saw_lease(new)
        elif kind is LEASES and old is not None:
            self.consumers.gone(old)
        elif kind is ROUTERS:
            self.leading.retire(new or old or {})
        elif kind is ROLLOUTS:
            telemetry.ROLLOUTS.set(self.cache.count(ROLLOUTS))
            if new is None and old is not None:
                self.consumers.forget(uid_of(old))
            elif new is not None and old is None:
                self.consumers.expect(uid_of(new))
        for key, urgent in wakes.concerned(self.cache, kind, old, new):
            _log.debug("%s: woken by %s %s", key, kind.plural, name_of(new or old or {}))
            self.leading.wake(key, urgent)

    def _wake(self, key: Key, urgent: bool) -> None:
        _log.debug("%s: woken by a verdict", key)
        self.queue.add(key, urgent=urgent)

    def _elector(self) -> Elector | Alone:
        settings = self.settings
        if settings.leader_lease is None:
            return Alone()
        me = identity(settings.pod_name or os.uname().nodename)
        return Elector(self.own_api, settings.leader_lease, me, settings.election, _end_at_once)

    def _may_write(self) -> bool:
        return self.elector.leading

    def _tell(self) -> None:
        Live(self.queue.depth, self.queue.busy, lambda: self.queue.counters.retried, self._requests).register()
        telemetry.LEADER.set_function(lambda: float(self.leading.begun and self._may_write()))
        telemetry.TRANSITIONS.set_function(lambda: float(self.elector.transitions))

    def _requests(self) -> dict[tuple[str, str, str], int]:
        return self.api.requests_total + self.traffic_api.requests_total + self.own_api.requests_total

    async def _end(self, parts: list[asyncio.Task[Any]]) -> None:
        """Nothing is written any more; then the lead is given away, for whoever takes over to begin at once."""
        leading = [task for task in parts if task.get_name() == "lead"]
        for task in leading:
            task.cancel()
        await asyncio.gather(*leading, return_exceptions=True)
        await self.leading.end()
        await self.elector.release()
        await self.samples.close()
        if self.evidence is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_LINES):
                    await self.evidence.flush()
        for task in parts:
            task.cancel()
        await asyncio.gather(*parts, return_exceptions=True)

    async def _end_watching(self) -> None:
        self._stop_watching.set()
        if self.health.watching is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_STOP_WATCHING):
                    await self.health.watching


def _settle_memory() -> None:
    """What is there now will stay, so the collector need not look through it again: that took longer than a revert.

    What is freed later is freed at once all the same, because objects of the cache hold each other in no circles.
    """
    gc.collect()
    gc.freeze()


def _tasks(**work: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(part, name=name) for name, part in work.items()]


def _verdict(ended: set[asyncio.Task[Any]], told: asyncio.Task[Any]) -> int:
    """0 when we were told to end; 1 when a part ended by itself, which is logged."""
    if told in ended:
        _log.info("told to end")
        return 0
    for task in ended:
        error = None if task.cancelled() else task.exception()
        _log.critical("%s ended, so everything ends", task.get_name(), exc_info=error)
    return 1


def _end_at_once(why: str) -> None:
    """Somebody else may be leading already: no hand of ours may move once more. What is under way loses its swap."""
    _log.critical("no longer leading, so everything ends: %s", why)
    sys.stderr.flush()
    os._exit(1)


def _waited(seconds: float, urgent: bool) -> None:
    telemetry.QUEUE_SECONDS.labels("urgent" if urgent else "routine").observe(seconds)


def _missed(kind: Kind) -> None:
    telemetry.DRIFT.labels(kind.plural).inc()
