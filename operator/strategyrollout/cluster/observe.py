"""Makes the world one pass sees, from the cache and as few reads as possible.

Only two reads are ever waited for: the assignment, when the cache's copy will not do, and the open Leases, when
somebody must have confirmed something. Everything else is taken as it is known, and what is not known yet keeps new
things from starting, never a revert from finishing.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from pydantic import ValidationError

from strategyrollout.api.assignment import Record
from strategyrollout.api.meta import LABEL_REVISION
from strategyrollout.api.rollout import RolloutSpec, Traffic
from strategyrollout.api.status import RolloutStatus
from strategyrollout.cluster.assignments import Assignments, Unreadable
from strategyrollout.cluster.background import Background
from strategyrollout.cluster.cache import Body, Cache, labels_of, uid_of
from strategyrollout.cluster.client import ApiError
from strategyrollout.cluster.consumers import ConsumerLeases, acked_epoch, is_open
from strategyrollout.cluster.inputs import Inputs
from strategyrollout.cluster.kinds import DEPLOYMENTS, LEASES, REVISIONS, ROLLBACKS, ROLLOUTS
from strategyrollout.cluster.pods import PodTroubles
from strategyrollout.cluster.requests import requests_of
from strategyrollout.cluster.routers import KeptRouters
from strategyrollout.core.buckets import is_frozen
from strategyrollout.core.build import Owner
from strategyrollout.core.gates import Gate
from strategyrollout.core.observed import Consumers, GateReading, Observed, Problem, Revision, Stored, Workload
from strategyrollout.core.revision import Content, content_from, identified
from strategyrollout.ports import Key, Samples, Unavailable

_ASK_FOR_THE_DEAD = 2.0
_SOON = 1_000
"""For so long (ms) after a Freeze the watch is trusted to say that somebody has not confirmed it yet."""


NextRouters = Callable[[Owner, Traffic, str, str], Sequence[Body]]
"""Routers as a new attempt would have them: owner, `spec.traffic`, salt, image."""


class GateSamples(Samples, Protocol):
    """The query plane, with what it knows about gates that cannot work."""

    def problems(self, gates: tuple[Gate, ...]) -> tuple[Problem, ...]:
        """Gates that no waiting will help."""


@dataclass(frozen=True)
class Seen:
    """The world of a pass, with what only the hands need of it."""

    world: Observed
    rollout: Body
    contents: Mapping[str, Content] = field(default_factory=dict)
    """Revision -> everything needed to build it."""
    unknown: str = ""
    """Why the assignment is not known."""


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
    """Keeps what outlives a pass: parsed revisions, problems of earlier passes, since when samples are kept."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._revisions: dict[str, tuple[str, Revision, Content]] = {}
        self._troubles: dict[Key, tuple[Problem, ...]] = {}
        self._watching: dict[Key, tuple[str, int]] = {}

    async def observe(self, key: Key) -> Seen | None:
        """The world of one rollout; None when there is no such rollout."""
        parts = self._parts
        rollout = parts.cache.get(ROLLOUTS, key.namespace, key.name)
        if rollout is None:
            return None
        meta, uid = rollout["metadata"], uid_of(rollout)
        spec, problems = parts.inputs.spec(key, rollout)
        world = Observed(
            now=parts.now(),
            namespace=key.namespace,
            name=key.name,
            uid=uid,
            generation=int(meta.get("generation") or 0),
            deleting=bool(meta.get("deletionTimestamp")),
            spec=spec,
            problems=problems,
            requests=requests_of(rollout, parts.cache.all(ROLLBACKS, key.namespace)),
            status=_status(rollout),
            attempt_id=str(uuid.uuid4()),
            router_image=parts.router_image,
        )
        try:
            stored = await parts.assignments.read(key, uid)
            consumers = await self._consumers(key, uid, stored)
        except Unreadable as error:
            return Seen(replace(world, assignment_known=False), rollout, unknown=str(error))
        revisions, contents = self._kept(uid)
        world = replace(world, now=parts.now(), stored=stored, consumers=consumers, revisions=revisions)
        world = replace(world, workloads=self._workloads(key, uid))
        if spec is not None:
            world = self._with_inputs(key, rollout, spec, world, contents)
        return Seen(replace(world, problems=(*world.problems, *self._troubles.get(key, ()))), rollout, contents)

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

    async def _consumers(self, key: Key, uid: str, stored: Stored | None) -> Consumers | None:
        """A list of the open Leases, when anybody must have confirmed anything or knows more than the object."""
        parts = self._parts
        if stored is not None and not is_frozen(stored.spec.ranges):
            leases = parts.cache.children(LEASES, uid)
            if not any(is_open(lease) and acked_epoch(lease) > stored.spec.epoch for lease in leases):
                return None
        if stored is not None and self._surely_waiting(uid, stored):
            return None
        try:
            found = await parts.consumers.list(key.namespace, uid)
        except (ApiError, Unavailable) as error:
            if stored is None:  # whether this is the very first table is for the Leases to say
                raise Unreadable(str(error)) from error
            return None
        for consumer in found.open if stored is not None and not _is_young(stored, found.listed_at) else ():
            if stored is not None and consumer.acked != stored.spec.epoch and consumer.acked_at < found.listed_at:
                name, pod = consumer.name, consumer.pod
                parts.background.run(
                    ("ended?", name),
                    _ASK_FOR_THE_DEAD,
                    lambda name=name, pod=pod: parts.consumers.close_ended(key.namespace, name, pod),  # type: ignore[misc]
                )
        return found

    def _surely_waiting(self, uid: str, stored: Stored) -> bool:
        """Whether a list would only say what the watch says: somebody is still busy with a Freeze just written."""
        if not _is_young(stored, self._parts.now()):
            return False
        acked = [acked_epoch(lease) for lease in self._parts.cache.children(LEASES, uid) if is_open(lease)]
        return bool(acked) and min(acked) < stored.spec.epoch >= max(acked)

    def _kept(self, uid: str) -> tuple[dict[str, Revision], dict[str, Content]]:
        revisions, contents = {}, {}
        for body in self._parts.cache.children(REVISIONS, uid):
            name, version = labels_of(body).get(LABEL_REVISION), body["metadata"]["resourceVersion"]
            if not name:
                continue
            known = self._revisions.get(uid_of(body))
            if known is None or known[0] != version:
                content = content_from(body)
                if content is None:
                    continue
                known = self._revisions[uid_of(body)] = (version, replace(identified(content), hash=name), content)
            revisions[name], contents[name] = known[1], known[2]
        return revisions, contents

    def _workloads(self, key: Key, uid: str) -> dict[str, Workload]:
        found = {}
        for body in self._parts.cache.children(DEPLOYMENTS, uid):
            revision, status = labels_of(body).get(LABEL_REVISION), body.get("status") or {}
            if not revision or body["metadata"].get("deletionTimestamp"):
                continue
            desired, ready = int(body["spec"].get("replicas", 1)), int(status.get("readyReplicas") or 0)
            if ready < desired:
                problem = self._parts.pods.sentence(key, uid, revision)
            else:
                problem = ""
                self._parts.pods.ready(key, revision)
            found[revision] = Workload(revision, desired, int(status.get("replicas") or 0), ready, problem)
        return found

    def _with_inputs(
        self, key: Key, rollout: Body, spec: RolloutSpec, world: Observed, contents: dict[str, Content]
    ) -> Observed:
        inputs, samples = self._parts.inputs, self._parts.samples
        record = world.stored.spec.record if world.stored is not None else None
        asked = inputs.asked(key, rollout, spec, world.revisions)
        force = inputs.gates(key, rollout, spec, record)
        target = asked.target
        if target is not None and asked.content is not None:
            contents.setdefault(target.hash, asked.content)
        routers: str | None = None
        if target is not None and not _serves(record, target.hash):
            routers, settled = self._next_routers(key, spec, world)
            if not (force.settled and settled):
                target = None  # an attempt must not start before the templates and routers it will use are stored
        on_trial, gates = _judged(record, force.gates)
        samples.watch(key, (on_trial,) if on_trial else (), gates)
        readings = tuple(GateReading(g, on_trial, samples.recent(key, on_trial, g)) for g in gates) if on_trial else ()
        return replace(
            world,
            target=target,
            problems=(*world.problems, *asked.problems, *force.problems, *samples.problems(gates)),
            gates=readings,
            watching_since=self._since(key, on_trial, world.now),
            blind_since=samples.blind_since(gates) if gates else None,
            templates=force.snapshot,
            routers=routers,
            routers_ready=self._parts.routers.ready(world.uid) if spec.traffic.haproxy is not None else None,
        )

    def _next_routers(self, key: Key, spec: RolloutSpec, world: Observed) -> tuple[str | None, bool]:
        """Name of the routers for a new attempt, and whether everything it needs of them is stored."""
        stored = world.stored.spec if world.stored is not None else None
        image = world.router_image or (stored.record.router_image if stored is not None else None)
        owner = Owner(key.namespace, key.name, world.uid)
        bodies = self._parts.next_routers(owner, spec.traffic, stored.salt if stored else world.uid, image or "")
        if not image or not bodies:
            return None, True
        name = self._parts.routers.stored(key, owner, bodies)
        return name, name is not None

    def _since(self, key: Key, on_trial: str, now: int) -> int:
        known = self._watching.get(key)
        if known is None or known[0] != on_trial:
            known = self._watching[key] = (on_trial, now)
        return known[1]


def _is_young(stored: Stored, now: int) -> bool:
    return stored.freeze_written_at is not None and now < stored.freeze_written_at + _SOON


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


def _status(rollout: Body) -> RolloutStatus:
    """The report of an earlier pass. Of one that another version wrote, what can be read counts; none of it decides."""
    written = rollout.get("status") or {}
    try:
        return RolloutStatus.model_validate(written)
    except ValidationError:
        readable = {}
        for name, value in written.items():
            try:
                RolloutStatus.model_validate({name: value})
            except ValidationError:
                continue
            readable[name] = value
        return RolloutStatus.model_validate(readable)
