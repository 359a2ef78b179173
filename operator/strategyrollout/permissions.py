"""What the operator may do in a cluster, each permission with its reason; said here and nowhere else.

Readiness asks the API server about exactly these, and the rules of the Helm chart are written from them. Secrets are
not among them: nothing the operator does needs to read one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from strategyrollout.api.meta import GROUP, VERB_ACKNOWLEDGE, VERB_ASSIGN

Scope = Literal["cluster", "namespaced", "leaderLease"]
"""Everywhere; in each namespace the operator works in; in its own namespace, for the election of a leader."""

_FOLLOW: Final = ("get", "list", "watch")
_RBAC: Final = "rbac.authorization.k8s.io"
_COORDINATION: Final = "coordination.k8s.io"


@dataclass(frozen=True)
class Permission:
    """Verbs on one resource (`plural` or `plural/subresource`); `why` completes "needed ..."."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    scope: Scope = "namespaced"

    @property
    def rule(self) -> dict[str, list[str]]:
        """As in a Role."""
        return {"apiGroups": [self.group], "resources": [self.resource], "verbs": list(self.verbs)}


PERMISSIONS: Final = (
    Permission(GROUP, "clustergatetemplates", _FOLLOW, "to know the gates rollouts refer to", "cluster"),
    Permission(GROUP, "gatetemplates", _FOLLOW, "to know the gates rollouts refer to"),
    Permission(GROUP, "strategyrollouts", _FOLLOW, "to know what people ask for"),
    Permission(GROUP, "strategyrollouts/status", ("patch",), "to say what became of it"),
    Permission(GROUP, "strategyrollouts/finalizers", ("update",), "to make children that go with their rollout"),
    Permission(GROUP, "rollbacks", _FOLLOW, "to know who asks for a rollback"),
    Permission(GROUP, "rollbacks/status", ("patch",), "to say what became of it"),
    Permission(GROUP, "trafficassignments", (*_FOLLOW, "create", "update"), "to move traffic"),
    Permission(GROUP, "trafficassignments", (VERB_ASSIGN,), "to be let through by the admission policies"),
    Permission("apps", "controllerrevisions", (*_FOLLOW, "create", "patch", "delete"), "to keep revisions"),
    Permission("apps", "deployments", (*_FOLLOW, "create", "update", "patch", "delete"), "to run revisions"),
    Permission("apps", "statefulsets", (*_FOLLOW, "create", "update", "patch"), "to run routers"),
    Permission("", "services", (*_FOLLOW, "create", "update", "patch", "delete"), "to lead traffic to pods"),
    Permission("", "configmaps", (*_FOLLOW, "create", "patch", "delete"), "to notice changed inputs and pin copies"),
    Permission("", "pods", _FOLLOW, "to say why pods are not ready and to know that a router has ended"),
    Permission("events.k8s.io", "events", ("create", "patch"), "to tell people what happens"),
    Permission(_COORDINATION, "leases", (*_FOLLOW, "patch", "delete"), "to know which routers are there"),
    Permission("", "serviceaccounts", ("get", "create", "patch"), "to give routers an identity"),
    Permission(_RBAC, "roles", ("get", "create", "patch"), "to give routers their permissions"),
    Permission(_RBAC, "rolebindings", ("get", "create", "patch"), "to give routers their permissions"),
    # Kubernetes lets nobody grant what he does not hold. Holding these few is less than the verb `escalate`.
    Permission("discovery.k8s.io", "endpointslices", ("list", "watch"), "to grant it to routers"),
    Permission(_COORDINATION, "leases", ("create", "update"), "to grant it to routers"),
    Permission(GROUP, "trafficassignments", (VERB_ACKNOWLEDGE,), "to grant it to routers"),
    Permission(_COORDINATION, "leases", ("get", "create", "update"), "to elect a leader", "leaderLease"),
)


@dataclass(frozen=True)
class Question:
    """One verb in one place; `namespace` is empty for the whole cluster."""

    group: str
    resource: str
    verb: str
    namespace: str
    why: str

    def missing(self) -> str:
        """The sentence for somebody who has to mend it."""
        kind = self.resource + (f".{self.group}" if self.group else "")
        where = f" in namespace {self.namespace}" if self.namespace else ""
        role = "a Role there" if self.namespace else "its ClusterRole"
        rule = f'{{apiGroups: ["{self.group}"], resources: ["{self.resource}"], verbs: ["{self.verb}"]}}'
        return f"RBAC does not allow to {self.verb} {kind}{where}, needed {self.why}; add to {role}: {rule}"


def questions(namespaces: Sequence[str], leader_lease: str = "") -> Iterator[Question]:
    """Every verb in every place it is needed. `leader_lease`: namespace of the leader's Lease, if there is one."""
    places: Mapping[Scope, Sequence[str]] = {
        "cluster": ("",),
        "namespaced": namespaces or ("",),
        "leaderLease": (leader_lease,) if leader_lease else (),
    }
    for permission in PERMISSIONS:
        for verb in permission.verbs:
            for place in places[permission.scope]:
                yield Question(permission.group, permission.resource, verb, place, permission.why)


def chart_rules() -> str:
    """Contents of `charts/strategy-rollouts/files/rules.yaml`."""
    lines: list[str] = []
    for scope in ("cluster", "namespaced", "leaderLease"):
        lines.append(f"{scope}:")
        for permission in PERMISSIONS:
            if permission.scope == scope:
                lines += _lines(permission)
    return "\n".join(lines) + "\n"


def _lines(permission: Permission) -> list[str]:
    return [
        f"# {permission.why}",
        f'- apiGroups: ["{permission.group}"]',
        f"  resources: [{permission.resource}]",
        f"  verbs: [{', '.join(permission.verbs)}]",
    ]
