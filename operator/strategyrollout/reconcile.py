"""The loop: observe, decide, write the assignment; or, when it is as it should be, act and report.

One pass looks at one rollout and depends on nothing it remembers. A pass that changes traffic writes that and ends; the
next one reads it back, so that everything else always follows what is stored. Whatever goes wrong ends one pass of one
rollout and is tried again.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from strategyrollout import telemetry
from strategyrollout.adopting import Adoptions
from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.api.conditions import Reason
from strategyrollout.cluster.apply import Applier
from strategyrollout.cluster.assignments import Assignments
from strategyrollout.cluster.background import Background
from strategyrollout.cluster.events import Events
from strategyrollout.cluster.kinds import STATEFULSETS
from strategyrollout.cluster.observe import Observer
from strategyrollout.cluster.report import Reporter
from strategyrollout.cluster.routers import KeptRouters
from strategyrollout.cluster.serving import Seen
from strategyrollout.cluster.workqueue import Closed, WorkQueue
from strategyrollout.core import report
from strategyrollout.core.build import Owner, target_port
from strategyrollout.core.decide import decide
from strategyrollout.core.decision import Decision
from strategyrollout.core.observed import Observed, Problem
from strategyrollout.core.revert import can_take
from strategyrollout.ports import Evidence, Key, Lost, Refused, Unavailable
from strategyrollout.reverts import UNDER_WAY, Reverts
from strategyrollout.traffic import providers

_log = logging.getLogger(__name__)

_TROUBLE_AGAIN = 15.0
_PODS_AGAIN = 5.0
_WAITING_AGAIN = 2.0


@dataclass
class Hands:
    """Everything a pass acts through."""

    observer: Observer
    assignments: Assignments
    applier: Applier
    reporter: Reporter
    events: Events
    evidence: Evidence | None
    background: Background
    routers: KeptRouters
    now: Callable[[], int]


class Rollouts:
    """Reconciles rollouts taken from the queue."""

    def __init__(self, hands: Hands, queue: WorkQueue[Key], pass_timeout: float) -> None:
        self._hands = hands
        self._queue = queue
        self._pass_timeout = pass_timeout
        self._uids: dict[Key, str] = {}
        self._reverts = Reverts(lambda key, urgent: queue.add(key, urgent=urgent))
        self._adoptions = Adoptions(hands.evidence)

    async def work(self, *, only_urgent: bool = False) -> None:
        """Takes rollouts from the queue until it is closed. Several may run side by side."""
        with suppress(Closed):
            while True:
                key = await self._queue.get(only_urgent=only_urgent)
                started = monotonic()
                try:
                    async with asyncio.timeout(self._pass_timeout):
                        result = await self.reconcile(key)
                    self._queue.forget(key)
                except Exception as error:
                    result = self._failed(key, error)
                finally:
                    self._queue.done(key)
                telemetry.PASSES.labels(result).inc()
                telemetry.PASS_SECONDS.observe(monotonic() - started)

    async def reconcile(self, key: Key) -> str:
        """One pass; returns what came of it, in a word. Raises `Unavailable` when trying again is all there is."""
        wait = self._reverts.hold(key, lambda: self._hands.observer.confirmed(key))
        if wait > 0:
            self._queue.add_after(key, wait, urgent=True)
            return "held"
        seen = await self._hands.observer.observe(key)
        if seen is None:
            return self._gone(key)
        if seen.waits:
            self._queue.add_after(key, _WAITING_AGAIN)
            await self._hands.reporter.status(key, seen.rollout, report.waiting(seen.world, seen.unknown))
            return "waiting"
        if seen.unknown:
            raise Unavailable(seen.unknown)
        self._uids[key] = seen.world.uid
        decision = decide(seen.world)
        self._adoptions.saw(key, seen.world, decision)
        refused: tuple[Problem, ...] = ()
        if decision.assignment is not None:
            try:
                return await self._write(key, seen.world, decision, decision.assignment)
            except Lost as error:
                _log.info("%s: decided anew: %s", key, error)
                self._queue.add(key, urgent=decision.urgent)
                return "lost"
            except Refused as error:
                refused = (Problem(Reason.INVALID_SPEC, f"the assignment was refused: {error}"),)
        if seen.world.deleting:
            return "deleting"
        self._show(key, seen.world, decision)
        self._again(key, seen, decision)
        return await self._unless_pressed(key, self._act_and_report(key, seen, decision, refused))

    async def _write(self, key: Key, world: Observed, decision: Decision, table: AssignmentSpec) -> str:
        """The commit point. Nothing else is written in this pass."""
        hands = self._hands
        before = world.stored.spec if world.stored is not None else None
        stored = await hands.assignments.write(key, world.uid, world.stored, table)
        at = hands.now()
        self._queue.add(key, urgent=decision.urgent)
        revert = table.record.revert
        ready = revert is not None and can_take(world, revert.to)
        self._reverts.wrote(key, under_way=decision.urgent, ready=ready)
        self._adoptions.wrote(key, table.epoch)
        _log.info("%s: epoch %s, %s: %s", key, table.epoch, table.cause.kind, table.cause.message)
        if hands.evidence is not None:
            written = {"resourceVersion": stored.resource_version, "writtenAt": at, "spec": table.to_json()}
            hands.evidence.decided(world, decision, written)
        telemetry.wrote(key, before, table, lambda revision: _version(world, revision), at)
        return "written"

    async def _unless_pressed(self, key: Key, work: Coroutine[Any, Any, None]) -> str:
        """Does the work, or leaves it for later as soon as the rollout becomes urgent: a revert waits for nothing."""
        pressed = asyncio.ensure_future(self._queue.pressed(key))
        working = asyncio.ensure_future(work)
        try:
            await asyncio.wait((pressed, working), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                return "pressed"
            working.result()
            return "done"
        finally:
            for task in (pressed, working):
                task.cancel()
            await asyncio.gather(pressed, working, return_exceptions=True)

    async def _act_and_report(self, key: Key, seen: Seen, decision: Decision, refused: tuple[Problem, ...]) -> None:
        """Side by side, because a child that hangs must not keep people from reading what is going on."""
        later = self._reverts.postpone(key)
        if later:
            self._queue.add_after(key, UNDER_WAY)
        idle = refused or (later and _nobody_waits_for_children(seen.world, decision))
        acting = () if idle else (self._act(key, seen, decision),)
        reporting = () if later else (self._report(key, seen, decision),)
        results = await asyncio.gather(*reporting, *acting, return_exceptions=True)
        if refused and self._hands.observer.trouble(key, refused):
            self._queue.add(key)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _act(self, key: Key, seen: Seen, decision: Decision) -> None:
        """Children and whatever routes to them."""
        hands, world = self._hands, seen.world
        if world.stored is None:
            return
        if not hands.assignments.is_newest(key, world.stored):
            self._queue.add(key)  # children are under no swap: never scale by a table that is no longer the stored one
            return
        owner = Owner(key.namespace, key.name, world.uid)
        results = await asyncio.gather(
            self._revisions(owner, seen, decision),
            self._routes(key, owner, seen, world.stored.spec),
            return_exceptions=True,
        )
        problems: list[Problem] = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            problems += result
        if hands.observer.trouble(key, tuple(problems)):
            self._queue.add(key)  # to be reported
        elif problems:
            self._queue.add_after(key, _TROUBLE_AGAIN)

    async def _routes(self, key: Key, owner: Owner, seen: Seen, table: AssignmentSpec) -> tuple[Problem, ...]:
        """Whatever leads traffic to revisions. Routers as they were when the attempt began, not as we would make them;
        those that nothing is kept of are left as they are."""
        traffic = seen.traffic
        if traffic is None:
            return ()  # routers go by the table; a problem names the field already
        routers, name = self._hands.routers, table.record.routers
        kept = routers.kept(key, owner, name)
        if traffic.haproxy is not None and kept is None and (live := routers.live(owner)) is not None:
            return await self._hands.applier.scale(STATEFULSETS, live, traffic.haproxy.replicas)
        ports = {revision: target_port(content, traffic.port) for revision, content in seen.contents.items()}
        routes = providers.objects(owner, traffic, table, ports=ports, kept=kept)
        if isinstance(routes, Problem):
            return (routes,)
        problems = await self._hands.applier.objects(owner, routes)
        if self._hands.observer.selects(key, owner.uid, traffic) != seen.world.service_selects:
            self._queue.add(key)  # to be reported: the watch tells nothing of our own write
        if traffic.haproxy is not None:
            routers.tidy(key, owner, name, routes)
        return problems

    async def _revisions(self, owner: Owner, seen: Seen, decision: Decision) -> tuple[Problem, ...]:
        applier, going = self._hands.applier, decision.remove
        port = seen.traffic.port if seen.traffic is not None else ""  # of a new revision, and none is
        replicas = {name: count for name, count in decision.replicas.items() if name not in going}
        contents = {name: content for name, content in seen.contents.items() if name not in going}
        problems = await applier.revisions(owner, replicas, contents, port=port)
        await applier.remove(owner, going)
        return problems

    async def _report(self, key: Key, seen: Seen, decision: Decision) -> None:
        """Status, events, and what became of requests."""
        hands, owner = self._hands, Owner(key.namespace, key.name, seen.world.uid)
        if decision.status is not None:
            refresh = await hands.reporter.status(key, seen.rollout, decision.status)
            if refresh is not None:
                self._queue.add_after(key, refresh)
        for notice in decision.notices:
            hands.events.say(owner, notice)
        await hands.reporter.rollbacks(key, decision.rollbacks)

    def _again(self, key: Key, seen: Seen, decision: Decision) -> None:
        if decision.look_again_at is not None:
            wait = (decision.look_again_at - self._hands.now()) / 1000
            _log.debug("%s: looked at again in %.3f s", key, wait)
            self._queue.add_after(key, wait, urgent=decision.urgent)
        world, haproxy = seen.world, seen.traffic.haproxy if seen.traffic is not None else None
        too_few = haproxy is not None and (world.routers_ready or 0) < haproxy.replicas
        if too_few or any(w.ready < w.desired for w in world.workloads.values()):
            self._queue.add_after(key, _PODS_AGAIN)  # why they are not ready may change without an event

    def _show(self, key: Key, world: Observed, decision: Decision) -> None:
        if decision.status is not None:
            telemetry.show_state(key, decision.status.state, blind=world.blind_since is not None)
        if world.stored is not None:
            telemetry.show_shares(key, world.stored.spec, lambda revision: _version(world, revision))

    def _gone(self, key: Key) -> str:
        hands, uid = self._hands, self._uids.pop(key, "")
        hands.observer.forget(key)
        hands.reporter.forget(key)
        hands.applier.forget(uid)
        hands.routers.forget(key, uid)
        self._reverts.forget(key)
        self._adoptions.forget(key)
        telemetry.forget(key)
        self._queue.drop(key)
        hands.background.run(("orphans", key), 1.0, lambda: hands.reporter.refuse_orphans(key))
        return "gone"

    def _failed(self, key: Key, error: Exception) -> str:
        seconds = self._queue.fail(key)
        if isinstance(error, Unavailable):
            _log.warning("%s: again in %.2f s: %s", key, seconds, error)
            return "unavailable"
        if isinstance(error, TimeoutError):
            _log.warning("%s: given up after %g s, again in %.2f s", key, self._pass_timeout, seconds)
            return "timeout"
        _log.error("%s: again in %.2f s", key, seconds, exc_info=error)
        return "error"


def _nobody_waits_for_children(world: Observed, decision: Decision) -> bool:
    """Whether routers lead the traffic, and every revision has the pods it should have."""
    routed = world.spec is not None and world.spec.traffic.haproxy is not None
    sized = ((world.workloads.get(revision), count) for revision, count in decision.replicas.items())
    return routed and all(there is not None and there.desired == count for there, count in sized)


def _version(world: Observed, revision: str) -> str:
    known = world.revisions.get(revision)
    if known is None and world.target is not None and world.target.hash == revision:
        known = world.target
    return known.version if known is not None else revision
