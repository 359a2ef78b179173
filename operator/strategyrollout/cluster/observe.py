"""Makes the world one pass sees, from the cache and as few reads as possible.

Who serves what is told by `serving`, and is all a revert needs. What is added here, the revision asked for and its
gates, is taken as it is known; what is not known yet keeps new things from starting, never a revert from finishing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from strategyrollout.api.assignment import Record
from strategyrollout.api.meta import LABEL_REVISION, LABEL_ROLLOUT_UID
from strategyrollout.api.rollout import RolloutSpec, Traffic
from strategyrollout.cluster.assignments import Assignments
from strategyrollout.cluster.background import Background
from strategyrollout.cluster.cache import Body, Cache, labels_of, uid_of
from strategyrollout.cluster.consumers import ConsumerLeases
from strategyrollout.cluster.inputs import GatesInForce, Inputs, traffic_of
from strategyrollout.cluster.kinds import REVISIONS, ROLLOUTS, SERVICES
from strategyrollout.cluster.pods import ROUTERS, PodTroubles
from strategyrollout.cluster.routers import KeptRouters
from strategyrollout.cluster.serving import Seen, Serving
from strategyrollout.core.build import Owner
from strategyrollout.core.gates import Gate
from strategyrollout.core.observed import GateReading, Observed, Problem
from strategyrollout.core.revision import Content
from strategyrollout.ports import Key, Samples

NextRouters = Callable[[Owner, Traffic, str, str], Sequence[Body]]
"""Routers as a new attempt would have them: owner, `spec.traffic`, salt, image."""


class GateSamples(Samples, Protocol):
    """The query plane, with what it knows about gates that cannot work."""

    def problems(self, gates: tuple[Gate, ...]) -> tuple[Problem, ...]:
        """Gates that no waiting will help."""


@dataclass
class Parts:
    """Those who know a part of the world."""

    cache: Cache
    assignments: Assignments
    consumers: ConsumerLeases
    inputs: Inputs
    pods: PodTroubles
    samples: GateSamples
    background: Background
    now: Callable[[], int]
    routers: KeptRouters
    next_routers: NextRouters = lambda owner, traffic, salt, image: ()
    router_image: str | None = None


class Observer:
    """Keeps what outlives a pass: problems of earlier passes, since when samples are kept."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._serving = Serving(
            cache=parts.cache,
            assignments=parts.assignments,
            consumers=parts.consumers,
            pods=parts.pods,
            background=parts.background,
            now=parts.now,
        )
        self._troubles: dict[Key, tuple[Problem, ...]] = {}
        self._watching: dict[Key, tuple[str, int]] = {}
        self._named: dict[Key, tuple[RolloutSpec, tuple[str, str, str], str]] = {}

    async def observe(self, key: Key) -> Seen | None:
        """The world of one rollout; None when there is no such rollout."""
        parts = self._parts
        rollout = parts.cache.get(ROLLOUTS, key.namespace, key.name)
        if rollout is None:
            return None
        spec, problems = parts.inputs.spec(key, rollout)
        seen = await self._serving.look(key, rollout, spec, problems)
        if seen.unknown:
            return seen
        world, contents = replace(seen.world, router_image=parts.router_image), dict(seen.contents)
        traffic = traffic_of(rollout, spec)
        force = parts.inputs.gates(key, rollout, spec, world.stored.spec.record if world.stored is not None else None)
        if spec is not None:
            world = self._with_target(key, rollout, spec, world, contents, force=force)
        world = self._with_gates(key, world, force)
        if traffic is not None and traffic.haproxy is not None:
            world = self._with_routers(key, world, traffic.haproxy.replicas)
        selects = self.selects(key, world.uid, traffic)
        world = replace(world, service_selects=selects, problems=(*world.problems, *self._troubles.get(key, ())))
        return replace(seen, world=world, contents=contents, traffic=traffic)

    def confirmed(self, key: Key) -> bool:
        """Whether all routers seem to have confirmed the table in force: by the watch, so never to act upon."""
        rollout = self._parts.cache.get(ROLLOUTS, key.namespace, key.name)
        return rollout is not None and self._serving.confirmed(key, uid_of(rollout))

    def selects(self, key: Key, uid: str, traffic: Traffic | None) -> str | None:
        """See `Observed.service_selects`. A Service of somebody else leads nowhere."""
        if traffic is None or traffic.service is None:
            return None
        service = self._parts.cache.get(SERVICES, key.namespace, traffic.service.name)
        if service is None or labels_of(service).get(LABEL_ROLLOUT_UID) != uid:
            return ""
        return str(((service.get("spec") or {}).get("selector") or {}).get(LABEL_REVISION) or "")

    def trouble(self, key: Key, problems: tuple[Problem, ...]) -> bool:
        """Notes what the hands could not do, for the next pass to report. Returns whether that is news."""
        if self._troubles.get(key, ()) == problems:
            return False
        self._troubles[key] = problems
        return True

    def forget(self, key: Key) -> None:
        """The rollout is gone."""
        self._parts.samples.watch(key, (), ())
        self._parts.inputs.forget(key)
        self._parts.assignments.forget(key)
        self._troubles.pop(key, None)
        self._watching.pop(key, None)
        self._named.pop(key, None)

    def _with_target(
        self,
        key: Key,
        rollout: Body,
        spec: RolloutSpec,
        world: Observed,
        contents: dict[str, Content],
        *,
        force: GatesInForce,
    ) -> Observed:
        record = world.stored.spec.record if world.stored is not None else None
        asked = self._parts.inputs.asked(key, rollout, spec, world.revisions)
        target, problems = asked.target, (*world.problems, *asked.problems)
        if target is not None and asked.content is not None:
            contents.setdefault(target.hash, asked.content)
        routers: str | None = None
        if target is not None and not _serves(record, target.hash):
            routers, settled = self._next_routers(key, spec, world)
            if not (force.settled and settled):
                target = None  # an attempt must not start before the gates and routers it will use are stored
                said_no = (force.refused, None if settled else self._parts.routers.refused(key))
                problems += tuple(problem for problem in said_no if problem is not None)
        return replace(world, target=target, problems=problems, templates=force.snapshot, routers=routers)

    def _with_gates(self, key: Key, world: Observed, force: GatesInForce) -> Observed:
        """Apart from the target, because what serves is judged also while nobody can read what is asked for."""
        samples = self._parts.samples
        record = world.stored.spec.record if world.stored is not None else None
        on_trial, gates = _judged(record, force.gates)
        samples.watch(key, (on_trial,) if on_trial else (), gates)
        readings = tuple(GateReading(g, on_trial, samples.recent(key, on_trial, g)) for g in gates) if on_trial else ()
        return replace(
            world,
            problems=(*world.problems, *force.problems, *samples.problems(gates)),
            gates=readings,
            watching_since=self._since(key, on_trial, world.now),
            blind_since=samples.blind_since(gates) if gates else None,
            on_blind=force.on_blind,
            unjudged=force.unjudged,
        )

    def _with_routers(self, key: Key, world: Observed, wanted: int) -> Observed:
        parts, ready, problem = self._parts, self._parts.routers.ready(world.uid), ""
        if ready >= wanted:
            parts.pods.ready(key, ROUTERS)
        elif parts.routers.live(Owner(key.namespace, key.name, world.uid)) is not None:
            problem = parts.pods.sentence(key, world.uid, ROUTERS)
        return replace(world, routers_ready=ready, routers_problem=problem)

    def _next_routers(self, key: Key, spec: RolloutSpec, world: Observed) -> tuple[str | None, bool]:
        """Name of the routers for a new attempt, and whether everything it needs of them is stored."""
        stored = world.stored.spec if world.stored is not None else None
        image = world.router_image or (stored.record.router_image if stored is not None else None)
        asked = (world.uid, stored.salt if stored else world.uid, image or "")
        known = self._named.get(key)
        if known is not None and known[0] is spec and known[1] == asked and self._is_kept(key, known[2]):
            return known[2], True
        owner = Owner(key.namespace, key.name, world.uid)
        bodies = self._parts.next_routers(owner, spec.traffic, *asked[1:])
        if not image or not bodies:
            return None, True
        name = self._parts.routers.stored(key, owner, bodies)
        if name is not None:
            self._named[key] = (spec, asked, name)
        return name, name is not None

    def _is_kept(self, key: Key, name: str) -> bool:
        return self._parts.cache.get(REVISIONS, key.namespace, name) is not None

    def _since(self, key: Key, on_trial: str, now: int) -> int:
        known = self._watching.get(key)
        if known is None or known[0] != on_trial:
            known = self._watching[key] = (on_trial, now)
        return known[1]


def _serves(record: Record | None, revision: str) -> bool:
    return record is not None and (
        revision == record.stable or (record.attempt is not None and record.attempt.revision == revision)
    )


def _judged(record: Record | None, gates: tuple[Gate, ...]) -> tuple[str, tuple[Gate, ...]]:
    """Which revision is judged, by which gates: a candidate by all, a trusted one by those for life, else none."""
    if record is None or (record.revert is not None and record.revert.served_at is None):
        return "", ()
    if record.attempt is not None:
        return record.attempt.revision, gates
    for_life = tuple(g for g in gates if "Always" in g.when)
    return (record.stable, for_life) if record.stable and for_life else ("", ())
