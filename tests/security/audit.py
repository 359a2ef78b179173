"""What an operator's account really asked of the API server, from the server's own audit log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from tests.cluster.cluster import Cluster


@dataclass(frozen=True)
class Asked:
    """One request."""

    group: str
    resource: str
    verb: str
    status: int
    forbidden: bool
    """By RBAC, not by a policy or a quota."""
    message: str
    namespace: str


def asked(cluster: Cluster, user: str) -> Iterator[Asked]:
    """Every request of a user about a resource of Kubernetes, oldest first."""
    with (cluster.folder / "audit.log").open() as log:
        for line in log:
            event = json.loads(line)
            about = event.get("objectRef") or {}
            if event["user"]["username"] != user or "resource" not in about:
                continue
            status = event.get("responseStatus") or {}
            sub = f"/{about['subresource']}" if about.get("subresource") else ""
            decision = (event.get("annotations") or {}).get("authorization.k8s.io/decision")
            yield Asked(
                group=about.get("apiGroup", ""),
                resource=about["resource"] + sub,
                verb=event["verb"],
                status=status.get("code", 0),
                forbidden=decision == "forbid",
                message=status.get("message", ""),
                namespace=about.get("namespace", ""),
            )


def refusals(cluster: Cluster, user: str) -> list[str]:
    """What RBAC did not let the user do."""
    return sorted({f"{a.verb} {a.resource}.{a.group}: {a.message}" for a in asked(cluster, user) if a.forbidden})
