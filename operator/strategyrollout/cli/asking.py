"""The API server as commands use it: one rollout and what belongs to it, with errors a person can act upon."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from strategyrollout.api.meta import GROUP
from strategyrollout.cli.failure import TIMED_OUT, Failed
from strategyrollout.cluster.client import Api, ApiError, Body, Forbidden, NotFound
from strategyrollout.cluster.kinds import ASSIGNMENTS, ROLLOUTS
from strategyrollout.ports import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from strategyrollout.cli.kubeconfig import Where
    from strategyrollout.cli.saying import Saying

_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_ACCESS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_CLOCKS_AGREE = 3.0


class Asking:
    """One rollout in one namespace. Open with `async with`."""

    def __init__(self, where: Where, name: str) -> None:
        self.namespace = where.namespace
        self.name = name
        self.api = Api(where.access, user_agent="kubectl-strategyrollout")
        self.user = ""
        self.server_time = 0.0
        """Seconds since 1970, when `identify` was answered."""
        self._ahead = 0.0

    async def __aenter__(self) -> Asking:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.api.close()

    async def rollout(self) -> Body:
        """The rollout; of one that does not exist the error lists those that do."""
        try:
            return await self.api.get(ROLLOUTS.path(self.namespace, self.name))
        except NotFound as error:
            try:
                found = await self.api.list(ROLLOUTS.path(self.namespace), metadata_only=True)
            except ApiError:
                found = {}
            names = sorted(str(item["metadata"]["name"]) for item in found.get("items") or [])
            if not names and "page not found" in error.message:
                raise Failed(
                    "this cluster has no StrategyRollouts", "install the CRDs, or choose another --context"
                ) from error
            there = f"there are {', '.join(names)}" if names else "there is none in this namespace"
            raise Failed(
                f"there is no StrategyRollout {self.name} in namespace {self.namespace}",
                f"{there}; another namespace is chosen with -n",
            ) from error

    async def assignment(self) -> Body:
        """The table; empty when there is none, or we may not read it."""
        try:
            return await self.api.get(ASSIGNMENTS.path(self.namespace, self.name))
        except (NotFound, Forbidden):
            return {}

    async def identify(self) -> str:
        """Who we are to the API server. Also learns what time it is there."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = await self.api.create(_REVIEWS, review)
        self.user = str(answer["status"]["userInfo"].get("username") or "somebody")
        stamp = (answer.get("metadata") or {}).get("creationTimestamp")
        self.server_time = datetime.fromisoformat(stamp).timestamp() if stamp else time.time()
        self._ahead = self.server_time - time.time()
        return self.user

    @property
    def clock_differs(self) -> float:
        """By how many seconds the API server's clock is ahead of ours, if that is worth telling; else 0."""
        return self._ahead if abs(self._ahead) > _CLOCKS_AGREE else 0.0

    def now(self) -> int:
        """Milliseconds since 1970, by the API server's clock where ours is plainly wrong."""
        return int((time.time() + self.clock_differs) * 1000)

    async def may(self, verb: str, resource: str, group: str = GROUP) -> bool:
        """Whether RBAC allows us something in this namespace."""
        plural, _, sub = resource.partition("/")
        attributes = {"group": group, "resource": plural, "subresource": sub, "verb": verb, "namespace": self.namespace}
        spec = {"resourceAttributes": attributes | ({"name": self.name} if group == GROUP else {})}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
        answer = await self.api.create(_ACCESS, review)
        return bool((answer.get("status") or {}).get("allowed"))


class Patience:
    """How long a command waits for something to become true."""

    def __init__(self, seconds: float, every: float = 0.25) -> None:
        self._until = time.monotonic() + seconds
        self._began = time.monotonic()
        self._every = every

    @property
    def waited(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    async def try_on(self, call: Awaitable[Body], saying: Saying) -> Body | None:
        """The answer; None, which is said, when the API server cannot answer now: asking again is all there is."""
        try:
            return await call
        except Unavailable as error:
            saying.step(f"the API server does not answer: {error}")
            return None

    async def pause(self, what: str, hint: str = "") -> None:
        """A moment; raises `Failed` when the time is over."""
        if time.monotonic() > self._until:
            raise Failed(f"{what} after {self.waited:.0f} s", hint, TIMED_OUT)
        await asyncio.sleep(self._every)


def explained(error: ApiError | Unavailable) -> Failed:
    """What the API server said, for people."""
    if isinstance(error, Forbidden):
        hint = "ask for the role that docs/cli.md names for this command" if error.status == 403 else "log in again"
        return Failed(f"the API server refuses: {error.message}", hint)
    if isinstance(error, ApiError):
        return Failed(f"the API server refuses: {error.message}")
    return Failed(f"the API server cannot be asked: {error}", "see docs/runbooks/on-call.md for when it is down")


def version_of(rollout: Body, revision: str | None) -> str:
    """A revision's version for people, as the status knows it; its hash where it does not."""
    known: list[dict[str, Any]] = (rollout.get("status") or {}).get("revisions") or []
    return next((str(r["version"]) for r in known if r["revision"] == revision), revision or "nobody")
