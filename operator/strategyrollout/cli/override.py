"""`override`: a person moves all traffic to a revision while no operator runs (DESIGN 5, break-glass).

There is no second protocol here. The command looks with the operator's eyes, adds one request to what it sees, and
writes what the operator's own `decide` makes of it: Freeze, acknowledgements, drain, Grant. It may be killed at any
moment; it goes on when it is run again, and an operator that returns finishes what it finds.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import replace
from typing import Any

from strategyrollout.api.assignment import Record, Revert
from strategyrollout.api.meta import NOBODY
from strategyrollout.api.scalars import format_percent, format_time
from strategyrollout.cli import leader
from strategyrollout.cli.asking import Asking, Patience
from strategyrollout.cli.failure import DONE, WRONG_USE, Failed
from strategyrollout.cli.reading import Reading
from strategyrollout.cli.routers import close
from strategyrollout.cli.saying import Saying, table
from strategyrollout.cli.switching import switched
from strategyrollout.cluster.client import ApiError
from strategyrollout.cluster.kinds import DEPLOYMENTS
from strategyrollout.cluster.serving import Seen
from strategyrollout.core.buckets import weight
from strategyrollout.core.build import Owner, child_name
from strategyrollout.core.decide import decide
from strategyrollout.core.observed import Observed, Request
from strategyrollout.core.requests import is_trusted, override_asked
from strategyrollout.core.revert import override_due
from strategyrollout.ports import Lost, Refused, Unavailable

ROLE = "strategy-rollouts-override"
_LONG = 10.0
_LOSSES = 20


async def run(arguments: argparse.Namespace, asking: Asking, saying: Saying) -> int:
    """Closes the Leases it is told to close, then moves traffic if it is told where."""
    if arguments.to is None and not arguments.close_router:
        raise Failed("say --to REVISION|VERSION, or --close-router POD", code=WRONG_USE)
    await asking.identify()
    if asking.clock_differs:
        saying.note(f"this machine's clock is {-asking.clock_differs:.0f} s off; the API server's is used")
    await _must_be_allowed(asking)
    closed = [await close(pod, arguments.reason, asking, saying) for pod in arguments.close_router]
    if arguments.to is None:
        saying.result(f"closed: {', '.join(closed)}; nobody waits for it any more", {"closed": closed})
        return DONE
    request = Request("Override", "Rollback", "override", "override", arguments.to, arguments.reason, by=asking.user)
    override = Override(request, asking, saying, insist=arguments.even_if_operator_alive)
    try:
        return await override.run(arguments)
    finally:
        await override.reading.background.close()


async def _must_be_allowed(asking: Asking) -> None:
    for verb in ("override", "update"):
        if not await asking.may(verb, "trafficassignments"):
            raise Failed(
                f"{asking.user} may not {verb} trafficassignments.strategyrollout.io in namespace {asking.namespace}",
                f"bind ClusterRole {ROLE} to them there (docs/cli.md)",
            )


class Override:
    """One override under way."""

    def __init__(self, request: Request, asking: Asking, saying: Saying, *, insist: bool) -> None:
        self.reading = Reading(asking)
        self._request = request
        self._asking = asking
        self._saying = saying
        self._insist = insist
        self._begun = False
        self._lost = 0
        self._scaled = 0
        self._hinted = False

    async def run(self, arguments: argparse.Namespace) -> int:
        """Everything from the first look to the last word."""
        seen = await self._look()
        to = self._must_make_sense(seen.world, untrusted=arguments.untrusted)
        if not override_due(seen.world):
            await switched(seen, self._asking, self._saying)
            return self._done(seen.world, to)
        if not self._insist:
            await leader.must_be_gone(arguments.operator_lease, self._asking, self._saying)
        self._saying.step(f"override by {self._request.by}: {_shares(seen.world)} -> {_version(seen.world, to)}")
        seen = await self._look()
        patience = Patience(arguments.timeout)
        hint = "what is frozen stays frozen: run the command again, or start the operator, which finishes it"
        while override_due(seen.world):
            try:
                await self._pass(seen, to, patience.waited)
            except Unavailable as error:
                self._saying.step(f"the API server does not answer: {error}")
            await patience.pause(f"{_version(seen.world, to)} does not serve everything yet", hint)
            with suppress(Unavailable):
                seen = await self._look()
        await switched(seen, self._asking, self._saying)
        return self._done(seen.world, to)

    async def _look(self) -> Seen:
        seen = await self.reading.look()
        if seen.unknown:
            raise Unavailable(seen.unknown)
        world = seen.world
        return replace(seen, world=replace(world, requests=(*world.requests, self._request)))

    def _must_make_sense(self, world: Observed, *, untrusted: bool) -> str:
        """The revision that is meant. Nothing has been changed when this fails."""
        where = f"StrategyRollout {world.name} in namespace {world.namespace}"
        if world.deleting:
            raise Failed(f"{where} is being deleted")
        if world.stored is None and not world.status.epoch:
            raise Failed(f"{where} has no TrafficAssignment: nothing was ever served", "start the operator")
        named, there = override_asked(world), "\n".join(table(("VERSION", "REVISION", "SHARE", "PODS"), _rows(world)))
        if named is None:
            several = sum(r.version == self._request.to for r in world.revisions.values()) > 1
            what = "is several revisions" if several else "is no revision"
            raise Failed(f"{self._request.to!r} {what} of {where}", f"name one of these:\n{there}", WRONG_USE)
        to, record = named[1], world.stored.spec.record if world.stored is not None else Record()
        if to not in world.workloads:
            raise Failed(f"{_version(world, to)} has no Deployment, and only the operator can make it again", there)
        if not untrusted and not is_trusted(record, to) and override_due(world):
            words = "has never held everything, or was taken back"
            raise Failed(f"{_version(world, to)} {words}", f"--untrusted moves everything to it all the same\n{there}")
        return to

    async def _pass(self, seen: Seen, to: str, waited: float) -> None:
        """The operator's own pass, cut down to what an override needs: the assignment, and pods to grant it to."""
        world, decision = seen.world, decide(seen.world)
        if decision.assignment is not None:
            await self._write(seen, decision.assignment.cause.kind, decision.assignment)
            return
        await self._scale(world, to, decision.replicas.get(to, 1))
        await switched(seen, self._asking, self._saying)
        if decision.status is not None:
            self._saying.step(decision.status.message)
        epoch = world.stored.spec.epoch if world.stored is not None else 0
        silent = [c for c in world.consumers.open if c.acked != epoch] if world.consumers is not None else []
        if silent and waited > _LONG and not self._hinted:
            self._hinted = True
            self._saying.note(
                f"router {silent[0].pod} does not confirm. If its process has certainly ended, run again with"
                f" --close-router {silent[0].name}; if it only seems so, it may still be serving"
            )

    async def _write(self, seen: Seen, kind: str, spec: Any) -> None:
        world = seen.world
        try:
            await self.reading.assignments.write(self.reading.key, world.uid, world.stored, spec)
        except Lost as error:
            self._lost += 1
            if self._begun or (self._insist and self._lost < _LOSSES):
                return  # whoever wrote goes on with the same, or we decide anew
            raise leader.alive(
                "somebody else wrote the table at this moment; an operator seems to be alive", self._asking
            ) from error
        except Refused as error:
            raise Failed(f"the table was refused: {error}", f"ClusterRole {ROLE} has what is needed") from error
        self._begun = True
        frozen = any(r.next for r in spec.ranges)
        self._saying.step(f"{'frozen' if frozen else 'granted'}: epoch {spec.epoch}, {kind}")

    async def _scale(self, world: Observed, to: str, wanted: int) -> None:
        workload = world.workloads.get(to)
        if workload is None or workload.desired >= wanted or self._scaled >= wanted:
            return
        name = child_name(Owner(world.namespace, world.name, world.uid), to)
        self._scaled = wanted
        path = DEPLOYMENTS.path(world.namespace, name, "scale")
        try:
            await self._asking.api.merge(path, {"spec": {"replicas": wanted}})
        except ApiError as error:  # somebody else may; what is frozen waits
            self._saying.note(f"cannot scale Deployment {name} to {wanted}, somebody else must: {error.message}")
            return
        self._saying.step(f"scaled {name} from {workload.desired} to {wanted}; waiting for a ready pod")

    def _done(self, world: Observed, to: str) -> int:
        assert world.stored is not None
        record, serving = world.stored.spec.record, _version(world, to)
        facts: dict[str, Any] = {
            **{"namespace": world.namespace, "name": world.name, "revision": to, "epoch": world.stored.spec.epoch},
            **{"version": world.revisions[to].version, "by": self._request.by, "reason": self._request.reason},
        }
        revert = record.revert
        if not self._begun and (revert is None or revert.cause.kind != "Override"):
            saying = f"nothing to do: {serving} serves everything already"
            self._saying.result(saying, facts | {"outcome": "NothingToDo"})
            return DONE
        assert revert is not None
        left = sorted(q.revision for q in record.quarantine if q.reason == revert.cause.message)
        facts |= {"outcome": "Succeeded", "away": revert.away, "quarantined": left, **_times(revert)}
        words = (
            f"done: {serving} serves everything; {', '.join(_version(world, r) for r in left) or 'nothing'} is kept out"
        )
        after = "an operator that returns reports it as RolledBack; `retry` lets a version try again"
        self._saying.result(f"{words}\n{after}", facts)
        return DONE


def _times(revert: Revert) -> dict[str, str | None]:
    times = {"decidedAt": revert.cause.at, "stoppedAt": revert.stopped_at, "servedAt": revert.served_at}
    return {name: format_time(at) for name, at in times.items()}


def _version(world: Observed, revision: str) -> str:
    known = world.revisions.get(revision)
    return f"{known.version} ({revision})" if known is not None else revision


def _shares(world: Observed) -> str:
    ranges = world.stored.spec.ranges if world.stored is not None else []
    owners = dict.fromkeys(r.owner for r in ranges)
    return ", ".join(f"{_version(world, o)} {format_percent(weight(ranges, o))}" for o in owners) or NOBODY


def _rows(world: Observed) -> list[tuple[str, ...]]:
    ranges = world.stored.spec.ranges if world.stored is not None else []
    rows: list[tuple[str, ...]] = []
    for revision in sorted(world.revisions.values(), key=lambda r: (r.version, r.hash)):
        pods = world.workloads.get(revision.hash)
        told = f"{pods.ready}/{pods.desired}" if pods is not None else "none"
        rows.append((revision.version, revision.hash, format_percent(weight(ranges, revision.hash)), told))
    return rows
