"""Names that users, tools and other parts of the product know us by; the single place where they are spelt."""

from typing import Final

GROUP: Final = "strategyrollout.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

# Labels on pods, Services and every child object. Prometheus relabels the first five into the labels gates use.
LABEL_ROLLOUT: Final = f"{GROUP}/rollout"
LABEL_REVISION: Final = f"{GROUP}/revision"
LABEL_VERSION: Final = f"{GROUP}/version"
LABEL_ROLE: Final = f"{GROUP}/role"
LABEL_ROLLOUT_UID: Final = f"{GROUP}/rollout-uid"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "strategyrollout"

# `role` is the part a pod was started for; it never changes during a pod's life (conformance 36 is a later issue).
ROLE_STRATEGY: Final = "strategy"
ROLE_ROUTER: Final = "router"

ANNOTATION_VERSION: Final = f"{GROUP}/version"  # exact SemVer; the label has `_` for `+`
ANNOTATION_ROLLBACK: Final = f"{GROUP}/rollback"
ANNOTATION_RESUME: Final = f"{GROUP}/resume"
ANNOTATION_PROMOTE: Final = f"{GROUP}/promote"
ANNOTATION_RETRY: Final = f"{GROUP}/retry"

# A consumer's Lease (DESIGN 5). The Lease is named by the pod's UID and carries LABEL_ROLLOUT_UID and LABEL_ROLLOUT.
ANNOTATION_ACKED: Final = f"{GROUP}/acked-epoch"  # decimal epoch of the table in force at the consumer
ANNOTATION_EMPTY: Final = f"{GROUP}/in-flight-zero"  # "true": nothing of the frozen ranges is in flight at that epoch
ANNOTATION_CONSUMER: Final = f"{GROUP}/consumer"  # "Open" or "Closed"; a closed Lease is never reopened
CONSUMER_OPEN: Final = "Open"
CONSUMER_CLOSED: Final = "Closed"

# RBAC verbs of our own on `trafficassignments`, asked about by the admission policies (docs/security.md).
VERB_ASSIGN: Final = "assign"  # write assignments, close Leases: the operator
VERB_OVERRIDE: Final = "override"  # the same in an emergency: people
VERB_ACKNOWLEDGE: Final = "acknowledge"  # keep a consumer's Lease; the resource name is the UID of the rollout

# Field managers of server-side apply, one a concern.
MANAGER_WORKLOAD: Final = "strategyrollout-workload"
MANAGER_TRAFFIC: Final = "strategyrollout-traffic"
MANAGER_STATUS: Final = "strategyrollout-status"

BUCKETS: Final = 10_000
NOBODY: Final = "nobody"  # owner of a range that no revision may serve

# What the reference prints. Only what people and their tools read or write is listed.
LABELS: Final = {
    LABEL_ROLLOUT: "Name of the rollout.",
    LABEL_REVISION: "Hash of the revision, ten hexadecimal digits.",
    LABEL_VERSION: "SemVer of the revision, with `_` for `+`, cut at 63 characters.",
    LABEL_ROLE: f"`{ROLE_STRATEGY}` or `{ROLE_ROUTER}`: the part a pod was started for.",
    LABEL_ROLLOUT_UID: "UID of the rollout, so that a namesake is never mistaken for it.",
}
ANNOTATIONS: Final = {
    ANNOTATION_VERSION: "On pods and copies: the exact SemVer.",
    ANNOTATION_ROLLBACK: "On a StrategyRollout: asks for a rollback. The value is the reason; each value acts once.",
    ANNOTATION_RESUME: "On a StrategyRollout: ends the hold that has no duration. Each new value acts once.",
    ANNOTATION_PROMOTE: "On a StrategyRollout: goes to 100 % without the remaining steps. Each new value acts once.",
    ANNOTATION_RETRY: "On a StrategyRollout: lifts the quarantine and tries again. Each new value acts once.",
    ANNOTATION_CONSUMER: f"On a router's Lease: `{CONSUMER_OPEN}` or `{CONSUMER_CLOSED}`; never reopened.",
    ANNOTATION_ACKED: "On a router's Lease: epoch of the table in force there.",
    ANNOTATION_EMPTY: "On a router's Lease: `true` when nothing frozen is in flight at that epoch.",
}


def label_version(version: str) -> str:
    """SemVer as a label value: `+` is not allowed there and becomes `_`."""
    return version.replace("+", "_")[:63].rstrip("-_.")
