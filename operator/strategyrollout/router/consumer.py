"""The pod's Lease: how the operator knows that this router exists, what it enforces, and that it has ended.

Opened before the first read of the assignment, because a router the operator does not know of could serve an old table
behind its back; closed only when nothing is admitted and nothing is in flight; never reopened. Writing it prolongs
nothing: only reads do.
"""

import asyncio
import contextlib
import time
from datetime import UTC, datetime

from strategyrollout.api import meta
from strategyrollout.router.kube import ApiError, Body, Kube, Unreachable, backoff
from strategyrollout.router.saying import Saying
from strategyrollout.router.settings import Settings

DURATION_SECONDS = 180
RENEW_SECONDS = 60.0
_FORBIDDEN_SECONDS = 3.0


class Closed(Exception):
    """The Lease is closed; this pod may never serve again."""


class Gone(Exception):
    """The Lease was deleted under a serving router: the operator no longer counts it."""


class ConsumerLease:
    """One writer; `ack` only notes what the next write says."""

    def __init__(self, kube: Kube, settings: Settings) -> None:
        self._kube = kube
        self._settings = settings
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{settings.namespace}/leases"
        self._path = f"{self._collection}/{settings.pod_uid}"
        self._stored: Body | None = None
        self._wanted: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._saying = Saying()

    async def open(self) -> None:
        """Create it, or go on with the one an earlier agent of this pod opened; raises Closed. Tries for ever."""
        attempt = 0
        while True:
            try:
                self._stored = await self._created_or_found()
                break
            except (ApiError, Unreachable) as error:
                self._saying.badly(f"cannot open the lease ({error}); refusing everything until it is open")
                await asyncio.sleep(backoff(attempt))
                attempt += 1
        self._refuse_closed()
        self._wanted = {key: self._annotations[key] for key in (meta.ANNOTATION_ACKED, meta.ANNOTATION_EMPTY)}
        self._saying.well(f"lease {self._settings.pod_uid} is open")

    async def _created_or_found(self) -> Body:
        try:
            return await self._kube.create(self._collection, self._fresh())
        except ApiError as error:
            if error.status != 409:
                raise
        return await self._kube.get(self._path)

    def _fresh(self) -> Body:
        s = self._settings
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": s.pod_uid,
                "namespace": s.namespace,
                "labels": {
                    meta.LABEL_ROLLOUT: s.rollout,
                    meta.LABEL_ROLLOUT_UID: s.rollout_uid,
                    meta.LABEL_ROLE: meta.ROLE_ROUTER,
                },
                "annotations": {
                    meta.ANNOTATION_CONSUMER: meta.CONSUMER_OPEN,
                    meta.ANNOTATION_ACKED: "0",
                    meta.ANNOTATION_EMPTY: "false",
                    f"{meta.GROUP}/pod": s.pod_name,
                },
            },
            "spec": {"holderIdentity": s.pod_uid, "leaseDurationSeconds": DURATION_SECONDS, "renewTime": _now()},
        }

    @property
    def _annotations(self) -> dict[str, str]:
        stored: dict[str, str] = (self._stored or {})["metadata"].get("annotations") or {}
        return {meta.ANNOTATION_ACKED: "0", meta.ANNOTATION_EMPTY: "false", **stored}

    def _refuse_closed(self) -> None:
        if self._annotations.get(meta.ANNOTATION_CONSUMER) != meta.CONSUMER_OPEN:
            raise Closed(
                f"lease {self._settings.pod_uid} is closed; delete pod {self._settings.pod_name} to replace it"
            )

    def ack(self, epoch: int, *, empty: bool) -> None:
        """From now on say that this epoch is in force, and whether nothing of its frozen ranges is in flight."""
        wanted = {meta.ANNOTATION_ACKED: str(epoch), meta.ANNOTATION_EMPTY: "true" if empty else "false"}
        if wanted != self._wanted:
            self._wanted = wanted
            self._wake.set()

    async def keep(self) -> None:
        """Write what changed at once and renew every minute; raises Closed and Gone, never returns."""
        attempt = 0
        due = time.monotonic() + RENEW_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._write(self._wanted)
                self._saying.well(f"acknowledged epoch {self._wanted[meta.ANNOTATION_ACKED]}")
                attempt, due = 0, time.monotonic() + RENEW_SECONDS
            except (ApiError, Unreachable) as error:
                self._saying.badly(f"cannot write the lease ({error})")
                await asyncio.sleep(backoff(attempt))
                attempt, due = attempt + 1, time.monotonic()

    async def close(self) -> None:
        """Say that this router refuses everything and is empty. Tries for ever, unless it may not any more.

        Then its permissions are gone, most likely together with the rollout; that it has ended must be proof enough.
        """
        attempt, began = 0, time.monotonic()
        while True:
            try:
                await self._write({meta.ANNOTATION_CONSUMER: meta.CONSUMER_CLOSED})
                return
            except (Closed, Gone):
                return
            except (ApiError, Unreachable) as error:
                self._saying.badly(f"cannot close the lease ({error})")
                if _is_forbidden(error) and time.monotonic() - began > _FORBIDDEN_SECONDS:
                    return
                await asyncio.sleep(backoff(attempt))
                attempt += 1

    async def _write(self, annotations: dict[str, str]) -> None:
        if self._stored is None:
            self._stored = await self._read()
            self._refuse_closed()
        metadata = self._stored["metadata"]
        body = {
            **self._stored,
            "metadata": {
                **metadata,
                "annotations": {**(metadata.get("annotations") or {}), **annotations},
                "managedFields": [{}],  # none: keeping who owns which field doubles the cost of an ack
            },
            "spec": {**self._stored["spec"], "renewTime": _now()},
        }
        # Whether it was stored is known only from an answer; after a failure it is read again.
        self._stored = None
        try:
            self._stored = await self._kube.update(self._path, body)
        except ApiError as error:
            raise self._deleted(error) from error

    async def _read(self) -> Body:
        try:
            return await self._kube.get(self._path)
        except ApiError as error:
            raise self._deleted(error) from error

    def _deleted(self, error: ApiError) -> Exception:
        return Gone(f"lease {self._settings.pod_uid} was deleted") if error.status == 404 else error


def _is_forbidden(error: Exception) -> bool:
    return isinstance(error, ApiError) and error.status in {401, 403}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
