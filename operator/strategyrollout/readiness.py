"""What keeps the operator from working, in sentences: missing CRDs, missing RBAC verbs, lists that fail, dead watchers.

Kopf looks for kinds once, when it starts, and repeats what RBAC forbids without end; so both are asked about here.
"""

import asyncio
from dataclasses import dataclass

from strategyrollout.api.meta import API_VERSION
from strategyrollout.cluster.client import Api, ApiError
from strategyrollout.cluster.kinds import OWN_KINDS
from strategyrollout.permissions import Question, questions
from strategyrollout.ports import Unavailable

_AT_ONCE = 8


@dataclass
class Readiness:
    """What is in the way now; each part is filled by whoever knows."""

    api: Api
    namespaces: tuple[str, ...]
    leader_lease: str = ""
    """Namespace of the leader's Lease; empty when nobody is elected."""
    kinds: tuple[str, ...] = ("the API server has not been asked yet",)
    verbs: tuple[str, ...] = ("permissions have not been asked about yet",)
    _missing: tuple[Question, ...] = ()

    async def look_for_kinds(self) -> bool:
        """Whether the API server knows our kinds."""
        try:
            found = await self.api.get(f"/apis/{API_VERSION}")
            served = {item["name"] for item in found.get("resources") or []}
        except Unavailable as error:
            self.kinds = (f"the API server cannot be reached: {error}",)
            return False
        except ApiError:
            served = set()
        missing = [kind for kind in OWN_KINDS if kind.plural not in served]
        self.kinds = tuple(f"CRD {kind} is not installed; apply the CRDs" for kind in missing)
        return not missing

    async def look_for_verbs(self, *, only_missing: bool = False) -> None:
        """Asks for each verb the operator needs whether it may; or only for those that were missing before."""
        limit = asyncio.Semaphore(_AT_ONCE)
        asked = self._missing if only_missing else ()
        asked = asked or tuple(questions(self.namespaces, self.leader_lease))
        try:
            answers = await asyncio.gather(*(self._may(limit, question) for question in asked))
        except (ApiError, Unavailable) as error:
            self.verbs = (f"permissions cannot be asked about: {error}",)
            return
        self._missing = tuple(question for question, may in zip(asked, answers, strict=True) if not may)
        self.verbs = tuple(sorted(question.missing() for question in self._missing))

    async def _may(self, limit: asyncio.Semaphore, question: Question) -> bool:
        plural, _, sub = question.resource.partition("/")
        attributes = {
            **{"group": question.group, "resource": plural, "subresource": sub},
            **{"verb": question.verb, "namespace": question.namespace},
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        async with limit:
            answer = await self.api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        return bool((answer.get("status") or {}).get("allowed"))
