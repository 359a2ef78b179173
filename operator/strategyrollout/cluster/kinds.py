"""The kinds of object the operator watches, and how they are asked for; one list for watches, lists and checks."""

from dataclasses import dataclass
from typing import Final

from strategyrollout.api.meta import (
    GROUP,
    LABEL_MANAGED_BY,
    LABEL_ROLE,
    LABEL_ROLLOUT_UID,
    MANAGED_BY,
    ROLE_ROUTER,
    VERSION,
)
from strategyrollout.cluster.client import resource_path


@dataclass(frozen=True)
class Kind:
    """A resource as it appears in URLs. `selector` is applied by the server, so that the rest is never sent."""

    group: str
    version: str
    plural: str
    namespaced: bool = True
    selector: str = ""

    @property
    def api_version(self) -> str:
        """As in manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of the collection (of all namespaces when None), of an object or of its subresource."""
        scope = namespace if self.namespaced else None
        return resource_path(self.api_version, self.plural, scope or None, name, subresource)

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


OURS: Final = f"{LABEL_MANAGED_BY}={MANAGED_BY}"

ROLLOUTS: Final = Kind(GROUP, VERSION, "strategyrollouts")
ASSIGNMENTS: Final = Kind(GROUP, VERSION, "trafficassignments")
ROLLBACKS: Final = Kind(GROUP, VERSION, "rollbacks")
TEMPLATES: Final = Kind(GROUP, VERSION, "gatetemplates")
CLUSTER_TEMPLATES: Final = Kind(GROUP, VERSION, "clustergatetemplates", namespaced=False)
DEPLOYMENTS: Final = Kind("apps", "v1", "deployments", selector=OURS)
STATEFULSETS: Final = Kind("apps", "v1", "statefulsets", selector=OURS)
REVISIONS: Final = Kind("apps", "v1", "controllerrevisions", selector=OURS)
SERVICES: Final = Kind("", "v1", "services", selector=OURS)
LEASES: Final = Kind("coordination.k8s.io", "v1", "leases", selector=LABEL_ROLLOUT_UID)
# Any ConfigMap may be referenced by a template, so no selector can be given; the cache keeps the few that matter.
CONFIGMAPS: Final = Kind("", "v1", "configmaps")
PODS: Final = Kind("", "v1", "pods")
# Watched because the proof that a router has ended is there for a moment only: between its end and its deletion.
ROUTERS: Final = Kind("", "v1", "pods", selector=f"{LABEL_ROLE}={ROLE_ROUTER}")

OWN_KINDS: Final = (ROLLOUTS, ASSIGNMENTS, ROLLBACKS, TEMPLATES, CLUSTER_TEMPLATES)
WATCHED: Final = (*OWN_KINDS, REVISIONS, DEPLOYMENTS, STATEFULSETS, SERVICES, LEASES, CONFIGMAPS, ROUTERS)
