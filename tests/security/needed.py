"""Verbs the API server asks for behind a request of another name, so that no record of requests can show them.

An apply that makes an object needs `create` beside `patch`; a Role may be given only by who holds what it grants; an
owner reference that blocks deletion needs a right to the owner's finalizers; our own verbs are asked for by policies.
"""

from __future__ import annotations

from typing import NamedTuple

from strategyrollout.api.meta import GROUP, VERB_ACKNOWLEDGE, VERB_ASSIGN
from strategyrollout.permissions import PERMISSIONS, Scope


class Verb(NamedTuple):
    """One verb on one resource."""

    scope: Scope
    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}" + (f".{self.group}" if self.group else "") + f" ({self.scope})"


ALL = [Verb(p.scope, p.group, p.resource, verb) for p in PERMISSIONS for verb in p.verbs]

_RBAC = "rbac.authorization.k8s.io"
_NOT_HELD = "attempting to grant RBAC permissions not currently held"
# What the refused write says, in the API server's words.
BEHIND: dict[Verb, str] = {
    **{
        Verb("namespaced", group, resource, "create"): f'cannot create resource "{resource}"'
        for group, resource in (
            *(("", "configmaps"), ("", "services"), ("", "serviceaccounts")),
            *(("apps", "statefulsets"), (_RBAC, "roles"), (_RBAC, "rolebindings")),
        )
    },
    **{
        Verb("namespaced", group, resource, verb): _NOT_HELD
        for group, resource, verb in (
            ("discovery.k8s.io", "endpointslices", "list"),
            ("discovery.k8s.io", "endpointslices", "watch"),
            ("coordination.k8s.io", "leases", "create"),
            ("coordination.k8s.io", "leases", "update"),
            (GROUP, "trafficassignments", VERB_ACKNOWLEDGE),
        )
    },
    Verb("namespaced", GROUP, "strategyrollouts/finalizers", "update"): "cannot set blockOwnerDeletion",
    Verb("namespaced", GROUP, "trafficassignments", VERB_ASSIGN): "may not create TrafficAssignment",
}
