"""Who serves what, and who must have confirmed it: the part of a world that a revert needs, and nothing more.

Apart from the rest of the observation because a person's override needs exactly this while no operator runs. Only two
reads are ever waited for: the assignment, when the cache's copy will not do, and the open Leases, when somebody must
have confirmed something.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from strategyrollout.api.meta import LABEL_REVISION, LABEL_ROLLOUT, LABEL_ROLLOUT_UID
from strategyrollout.api.rollout import RolloutSpec, Traffic
from strategyrollout.api.status import RolloutStatus
from strategyrollout.cluster.assignments import Assignments, OfAnother, Unreadable
from strategyrollout.cluster.background import Background
from strategyrollout.cluster.cache import Body, Cache, labels_of, uid_of
from strategyrollout.cluster.client import ApiError
from strategyrollout.cluster.consumers import ConsumerLeases, acked_epoch, is_open, pod_of
from strategyrollout.cluster.kinds import ASSIGNMENTS, DEPLOYMENTS, LEASES, REVISIONS, ROLLBACKS, ROUTERS
from strategyrollout.cluster.pods import PodTroubles
from strategyrollout.cluster.requests import requests_of
from strategyrollout.core.buckets import is_frozen
from strategyrollout.core.observed import Consumer, Consumers, Observed, Problem, Revision, Stored, Workload
from strategyrollout.core.revision import Content, content_from, identified
from strategyrollout.ports import Key, Unavailable

_ASK_FOR_THE_DEAD = 2.0
_SOON = 1_000
"""For so long (ms) after a Freeze the watch is trusted to say that somebody has not confirmed it yet."""
_LATE = 4_000
"""For so long (ms) after a Freeze the watch is trusted to say that a router's pod has ended."""


@dataclass(frozen=True)
class Seen:
    """The world of a pass, with what only the hands need of it."""

    world: Observed
    rollout: Body
    contents: Mapping[str, Content] = field(default_factory=dict)
    """Revision -> everything needed to build it."""
    traffic: Traffic | None = None
    """Who leads requests where; known also of most specs that cannot be read."""
    unknown: str = ""
    """Why the assignment is not known."""
    waits: bool = False
    """It will be, once something of an earlier rollout of this name is gone."""


class Serving:
    """Keeps parsed revisions from pass to pass. `now` is in milliseconds since 1970."""

    def __init__(
        self,
        *,
        cache: Cache,
        assignments: Assignments,
        consumers: ConsumerLeases,
        pods: PodTroubles,
        background: Background,
        now: Callable[[], int],
    ) -> None:
        self._cache = cache
        self._assignments = assignments
        self._consumers = consumers
        self._pods = pods
        self._background = background
        self._now = now
        self._revisions: dict[str, tuple[str, Revision, Content]] = {}

    async def look(self, key: Key, rollout: Body, spec: RolloutSpec | None, problems: tuple[Problem, ...]) -> Seen:
        """The world as far as a revert needs it. Raises nothing: what could not be read is told by `unknown`."""
        meta, uid = rollout["metadata"], uid_of(rollout)
        world = Observed(
            now=self._now(),
            namespace=key.namespace,
            name=key.name,
            uid=uid,
            generation=int(meta.get("generation") or 0),
            deleting=bool(meta.get("deletionTimestamp")),
            spec=spec,
            problems=problems,
            requests=requests_of(rollout, self._cache.all(ROLLBACKS, key.namespace)),
            status=_status(rollout),
            attempt_id=str(uuid.uuid4()),
        )
        try:
            stored = await self._assignments.read(key, uid)
            if stored is None:
                self._wait_for_earlier_routers(key, uid)
            consumers = await self._open(key, uid, stored)
        except Unreadable as error:
            waits = isinstance(error, OfAnother)
            return Seen(replace(world, assignment_known=False), rollout, unknown=str(error), waits=waits)
        revisions, contents = self._kept(uid)
        world = replace(world, now=self._now(), stored=stored, consumers=consumers, revisions=revisions)
        return Seen(replace(world, workloads=self._workloads(key, uid)), rollout, contents)

    def confirmed(self, key: Key, uid: str) -> bool:
        """Whether the watch says that every open Lease has confirmed the table in force. A hint, never a proof."""
        table = self._cache.get(ASSIGNMENTS, key.namespace, key.name)
        acked = [acked_epoch(lease) for lease in self._cache.children(LEASES, uid) if is_open(lease)]
        return table is not None and bool(acked) and min(acked) >= int(table["spec"]["epoch"])

    def _wait_for_earlier_routers(self, key: Key, uid: str) -> None:
        """Routers of a deleted rollout of this name may still be serving the very accounts."""
        leases = [lease for lease in self._cache.all(LEASES, key.namespace) if is_open(lease)]
        earlier = [lease for lease in leases if labels_of(lease).get(LABEL_ROLLOUT) == key.name]
        pods = sorted(pod_of(lease) for lease in earlier if labels_of(lease).get(LABEL_ROLLOUT_UID) != uid)
        if pods:
            raise OfAnother(f"routers of an earlier rollout of this name have not ended: {', '.join(pods[:3])}")

    async def _open(self, key: Key, uid: str, stored: Stored | None) -> Consumers | None:
        """A list of the open Leases, when anybody must have confirmed anything or knows more than the object."""
        if stored is not None and not is_frozen(stored.spec.ranges):
            leases = self._cache.children(LEASES, uid)
            if not any(is_open(lease) and acked_epoch(lease) > stored.spec.epoch for lease in leases):
                return None
        if stored is not None and self._surely_waiting(uid, stored):
            return None
        try:
            found = await self._consumers.list(key.namespace, uid)
        except (ApiError, Unavailable) as error:
            if stored is None:  # whether this is the very first table is for the Leases to say
                raise Unreadable(str(error)) from error
            return None
        for consumer in found.open if stored is not None else ():
            if stored is not None and consumer.acked != stored.spec.epoch and consumer.acked_at < found.listed_at:
                self._look_for_end(key, stored, consumer, found.listed_at)
        return found

    def _look_for_end(self, key: Key, stored: Stored, consumer: Consumer, now: int) -> None:
        """Ask whether a silent router has ended; later where a watch should have told."""
        name, pod = consumer.name, consumer.pod
        known = self._cache.get(ROUTERS, key.namespace, pod)
        watched = known is not None and uid_of(known) == name
        if _is_young(stored, now, _LATE if watched else _SOON):
            return
        work = ("ended?", name), _ASK_FOR_THE_DEAD
        self._background.run(*work, lambda: self._consumers.close_ended(key.namespace, name, pod))

    def _surely_waiting(self, uid: str, stored: Stored) -> bool:
        """Whether a list would only say what the watch says: somebody is still busy with a Freeze just written."""
        if not _is_young(stored, self._now(), _SOON):
            return False
        acked = [acked_epoch(lease) for lease in self._cache.children(LEASES, uid) if is_open(lease)]
        return bool(acked) and min(acked) < stored.spec.epoch >= max(acked)

    def _kept(self, uid: str) -> tuple[dict[str, Revision], dict[str, Content]]:
        revisions, contents = {}, {}
        for body in self._cache.children(REVISIONS, uid):
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
        for body in self._cache.children(DEPLOYMENTS, uid):
            revision, status = labels_of(body).get(LABEL_REVISION), body.get("status") or {}
            if not revision or body["metadata"].get("deletionTimestamp"):
                continue
            desired, ready = int(body["spec"].get("replicas", 1)), int(status.get("readyReplicas") or 0)
            if ready < desired:
                problem = self._pods.sentence(key, uid, revision)
            else:
                problem = ""
                self._pods.ready(key, revision)
            found[revision] = Workload(revision, desired, int(status.get("replicas") or 0), ready, problem)
        return found


def _is_young(stored: Stored, now: int, age: int) -> bool:
    return stored.freeze_written_at is not None and now < stored.freeze_written_at + age


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
