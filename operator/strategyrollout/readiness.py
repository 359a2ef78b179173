"""What keeps the operator from working, in sentences: missing CRDs, missing RBAC verbs, lists that fail, dead watchers.

Kopf looks for kinds once, when it starts, and repeats what RBAC forbids without end; so both are asked about here.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from strategyrollout.api.meta import API_VERSION, GROUP
from strategyrollout.cluster.client import Api, ApiError
from strategyrollout.cluster.kinds import OWN_KINDS, WATCHED
from strategyrollout.ports import Unavailable

_AT_ONCE = 8
_APPLIED = ("get", "create", "patch", "update", "delete")
_VERBS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    *((kind.group, kind.plural, ("get", "list", "watch")) for kind in WATCHED),
    (GROUP, "trafficassignments", ("create", "update")),
    (GROUP, "strategyrollouts/status", ("patch",)),
    (GROUP, "rollbacks/status", ("patch",)),
    (GROUP, "strategyrollouts/finalizers", ("update",)),
    ("apps", "controllerrevisions", _APPLIED),
    ("apps", "deployments", _APPLIED),
    ("apps", "statefulsets", _APPLIED),
    ("", "services", _APPLIED),
    ("", "configmaps", _APPLIED),
    ("", "serviceaccounts", ("get", "create", "patch")),
    ("rbac.authorization.k8s.io", "roles", ("get", "create", "patch")),
    ("rbac.authorization.k8s.io", "rolebindings", ("get", "create", "patch")),
    ("coordination.k8s.io", "leases", ("patch", "delete")),
    ("events.k8s.io", "events", ("create", "patch")),
    ("", "pods", ("get", "list")),
)


@dataclass
class Readiness:
    """What is in the way now; each part is filled by whoever knows."""

    api: Api
    namespaces: tuple[str, ...]
    kinds: tuple[str, ...] = ("the API server has not been asked yet",)
    verbs: tuple[str, ...] = ("permissions have not been asked about yet",)

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

    async def look_for_verbs(self) -> None:
        """Asks for each verb the operator needs whether it may."""
        limit = asyncio.Semaphore(_AT_ONCE)
        asked = [
            self._may(limit, group, resource, verb, namespace)
            for group, resource, verbs in _VERBS
            for verb in verbs
            for namespace in self._scopes(resource)
        ]
        try:
            answers = await asyncio.gather(*asked)
        except (ApiError, Unavailable) as error:
            self.verbs = (f"permissions cannot be asked about: {error}",)
            return
        self.verbs = tuple(sorted({answer for answer in answers if answer}))

    def _scopes(self, resource: str) -> Sequence[str]:
        cluster_wide = {kind.plural for kind in WATCHED if not kind.namespaced}
        return self.namespaces if self.namespaces and resource not in cluster_wide else ("",)

    async def _may(self, limit: asyncio.Semaphore, group: str, resource: str, verb: str, namespace: str) -> str:
        plural, _, sub = resource.partition("/")
        attributes = {"group": group, "resource": plural, "subresource": sub, "verb": verb, "namespace": namespace}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        async with limit:
            answer = await self.api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        if (answer.get("status") or {}).get("allowed"):
            return ""
        where = f" in namespace {namespace}" if namespace else ""
        return f"RBAC does not allow to {verb} {resource}{'.' + group if group else ''}{where}"
