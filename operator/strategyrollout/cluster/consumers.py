"""Who enforces an assignment: the open Leases, by a consistent list and never from a cache.

Two rules of the protocol live here. A process is believed to have ended only when its containers are reported
terminated; a pod that is missing, evicted or terminating proves nothing. And the time of an acknowledgement is when
this process first saw it, never what the consumer's clock says.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from strategyrollout.api.meta import (
    ANNOTATION_ACKED,
    ANNOTATION_CONSUMER,
    ANNOTATION_EMPTY,
    CONSUMER_CLOSED,
    CONSUMER_OPEN,
    GROUP,
)
from strategyrollout.cluster.client import Api, Conflict, NotFound
from strategyrollout.cluster.kinds import LEASES, PODS
from strategyrollout.cluster.lease_lists import LeaseLists, rollout_of
from strategyrollout.core.observed import Consumer, Consumers

Body = dict[str, Any]

ANNOTATION_POD = f"{GROUP}/pod"
ANNOTATION_CLOSED_BY = f"{GROUP}/closed-by"
_LONGEST_SILENCE = 180_000  # of a Lease, ms; renewed every 60 s
_KEEP_CLOSED = 600_000
_REMEMBERED_ENDS = 10_000


class ConsumerLeases:
    """`now` is in milliseconds since 1970."""

    def __init__(self, api: Api, now: Callable[[], int]) -> None:
        self._api = api
        self._now = now
        self._lists = LeaseLists(api, now)
        self._acked: dict[str, tuple[int, int]] = {}
        self._open: dict[str, set[str]] = {}
        self._lost: dict[str, dict[str, int]] = {}
        self._ended: dict[str, None] = {}
        self._departed: set[str] = set()

    def saw(self, lease: Body) -> None:
        """Notes when an acknowledgement or an end was first seen, by whichever way it came."""
        name, epoch, uid = lease["metadata"]["name"], acked_epoch(lease), rollout_of(lease)
        known = self._acked.get(name)
        if known is None or known[0] < epoch:
            self._acked[name] = (epoch, self._now())
        if is_open(lease):
            self._open.setdefault(uid, set()).add(name)
            return
        # Whoever closed it and however empty it was: until then it may have served what the others had let go.
        self._left(uid, name, newly=False)

    def gone(self, lease: Body) -> None:
        """The Lease is deleted. One that was open when last seen has taken its requests in flight with it."""
        name, uid = lease["metadata"]["name"], rollout_of(lease)
        self._acked.pop(name, None)
        if name in self._open.get(uid, set()):
            self._left(uid, name)
        if uid in self._departed and not self._open.get(uid):
            self._departed.discard(uid)
            self.forget(uid)

    def saw_pod(self, pod: Body) -> bool:
        """Takes in a state of a router's pod. Whether it proves for a Lease still open that its process has ended."""
        uid = str(pod["metadata"]["uid"])
        if not has_ended(pod) or not any(uid in names for names in self._open.values()):
            return False
        self._ended[uid] = None
        if len(self._ended) > _REMEMBERED_ENDS:
            del self._ended[next(iter(self._ended))]
        return True

    def forget(self, uid: str) -> None:
        """The rollout with this UID is gone. Its routers end a moment later, and their Leases are then deleted."""
        self._lost.pop(uid, None)
        if self._open.get(uid):
            self._departed.add(uid)
        else:
            self._open.pop(uid, None)

    def expect(self, uid: str) -> None:
        """The rollout with this UID is here, perhaps again."""
        self._departed.discard(uid)

    def departed(self, uid: str) -> bool:
        """Whether the rollout with this UID is gone and routers of it were left."""
        return uid in self._departed

    async def list(self, namespace: str, uid: str) -> Consumers:
        """The consumers of the rollout with this UID. Raises `Unavailable` and `ApiError`."""
        sent, leases = await self._lists.of(namespace, uid)
        for lease in leases:
            self.saw(lease)
        present = {lease["metadata"]["name"] for lease in leases}
        for name in self._open.get(uid, set()) - present:
            self._left(uid, name)
        consumers = tuple(self._consumer(lease) for lease in leases if is_open(lease))
        return Consumers(sent, consumers, lost_at=max(self._lost.get(uid, {}).values(), default=None))

    async def close_ended(self, namespace: str, lease: str, pod: str) -> bool:
        """Closes a Lease whose process is proven to have ended. Raises `Unavailable` and `ApiError`."""
        try:
            if lease not in self._ended:
                found = await self._api.get(PODS.path(namespace, pod))
                if found["metadata"]["uid"] != lease or not has_ended(found):
                    return False
            words = {ANNOTATION_CONSUMER: CONSUMER_CLOSED, ANNOTATION_CLOSED_BY: "operator"}
            await self._api.merge(LEASES.path(namespace, lease), {"metadata": {"annotations": words}})
        except NotFound:
            return False
        return True

    async def remove_departed(self, lease: Body) -> None:
        """Deletes the Lease of a router that is no more, of a rollout that is gone: it tells nobody anything.

        Raises `Unavailable` and `ApiError`.
        """
        meta = lease["metadata"]
        if is_open(lease) and meta["name"] not in self._ended:
            return
        try:
            await self._api.delete(LEASES.path(meta["namespace"], meta["name"]), uid=meta["uid"])
        except (NotFound, Conflict):
            return

    def is_silent(self, lease: Body) -> bool:
        """Whether it has not been renewed for so long that something is wrong, or over."""
        return self._now() - renewed_at(lease) > _LONGEST_SILENCE

    async def sweep(self, lease: Body, *, orphan: bool) -> None:
        """Tidies one Lease up: long closed, or of a rollout that is gone and silent, is deleted; silent is examined.

        Raises `Unavailable` and `ApiError`.
        """
        meta = lease["metadata"]
        silence = self._now() - renewed_at(lease)
        finished = not is_open(lease) and silence > _KEEP_CLOSED
        if finished or (orphan and silence > _LONGEST_SILENCE):
            try:
                await self._api.delete(LEASES.path(meta["namespace"], meta["name"]), uid=meta["uid"])
            except (NotFound, Conflict):
                return
        elif is_open(lease) and silence > _LONGEST_SILENCE:
            await self.close_ended(meta["namespace"], meta["name"], pod_of(lease))

    def _left(self, uid: str, name: str, *, newly: bool = True) -> None:
        """A consumer is closed or gone: it is not waited for, and until now it may have been serving."""
        self._open.get(uid, set()).discard(name)
        lost = self._lost.setdefault(uid, {})
        if newly or name not in lost:
            lost[name] = self._now()

    def _consumer(self, lease: Body) -> Consumer:
        name, epoch = lease["metadata"]["name"], acked_epoch(lease)
        seen, at = self._acked[name]
        return Consumer(
            name=name,
            pod=pod_of(lease),
            acked=epoch,
            empty=_annotations(lease).get(ANNOTATION_EMPTY) == "true",
            acked_at=at if seen == epoch else self._now(),
            renewed_at=renewed_at(lease),
        )


def is_open(lease: Body) -> bool:
    """Whether the consumer still enforces the assignment. Only the word itself opens a Lease."""
    return _annotations(lease).get(ANNOTATION_CONSUMER) == CONSUMER_OPEN


def acked_epoch(lease: Body) -> int:
    """Epoch of the table in force at the consumer; 0 when it says nothing readable."""
    text = _annotations(lease).get(ANNOTATION_ACKED, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def pod_of(lease: Body) -> str:
    """Name of the consumer's pod; the UID where the name is not given."""
    return str(_annotations(lease).get(ANNOTATION_POD) or lease["metadata"]["name"])


def renewed_at(lease: Body) -> int:
    """`spec.renewTime` in milliseconds since 1970; 0 when there is none."""
    text = (lease.get("spec") or {}).get("renewTime")
    try:
        return int(datetime.fromisoformat(str(text)).timestamp() * 1000) if text else 0
    except ValueError:
        return 0


def has_ended(pod: Body) -> bool:
    """Proof that no process of the pod runs or will run again: every container terminated, and no restart to come."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    states = [c.get("state") or {} for c in status.get("containerStatuses") or []]
    if not states or len(states) < len(spec.get("containers") or []):
        return False
    if not all("terminated" in state for state in states):
        return False
    failed = any(state["terminated"].get("exitCode") != 0 for state in states)
    restarts = {"Always": True, "OnFailure": failed, "Never": False}[spec.get("restartPolicy") or "Always"]
    for_good = bool(pod["metadata"].get("deletionTimestamp")) or status.get("phase") in {"Failed", "Succeeded"}
    return for_good or not restarts


def _annotations(lease: Body) -> dict[str, str]:
    return lease["metadata"].get("annotations") or {}
