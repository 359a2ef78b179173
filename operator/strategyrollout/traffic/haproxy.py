"""The routers of a rollout: what the `haproxy` provider needs to exist, as plain dicts out of plain values.

They are built when an attempt starts, kept as built (`core.build.routers_snapshot`) and left alone until the next one
does: an upgrade of the operator must not restart what routes orders. Each configuration has an immutable ConfigMap of
its own, so that a router that is restarted reads what it read when it was made.

While routers are replaced, those before and those after live with the same Services, account and permissions. So
what is built here may never serve one of them alone; the selectors and names of a StatefulSet cannot change at all.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strategyrollout.api.meta import GROUP, LABEL_COMPONENT, LABEL_ROLE, LABEL_ROLLOUT, ROLE_ROUTER, VERB_ACKNOWLEDGE
from strategyrollout.core.build import ANNOTATION_CONFIG, ROUTED_PORT, Owner, owned, service_port
from strategyrollout.core.routing import request_limit
from strategyrollout.traffic.guarantees import Guarantees
from strategyrollout.traffic.haproxy_config import HEALTH_PORT, PORT, haproxy_config

Body = dict[str, Any]

KEEPS = Guarantees(
    acknowledged=True,
    by_unit=True,
    drained=True,
    note="Moving units are answered 423 for about the drain; see docs/traffic.md for what else clients meet.",
)

_RUN_DIR = "/run/router"
_CONFIG_DIR = "/etc/router"
_SLACK_SECONDS = 10
_USER = 65532


@dataclass(frozen=True)
class Routers:
    """What is known about the routers of one rollout. `drain` in ms; `salt`, `header`, `drain` as in the assignment."""

    owner: Owner
    image: str
    replicas: int
    port_name: str
    header: str
    salt: str
    drain: int


def router_name(owner: Owner) -> str:
    """Name of the StatefulSet, its ServiceAccount, Role and RoleBinding."""
    return f"{owner.name}-router"


def config_name(owner: Owner, mark: str) -> str:
    """Name of the ConfigMap with the configuration that has this hash."""
    return f"{router_name(owner)}-{mark[:10]}"


def objects(routers: Routers) -> list[Body]:
    """Everything, in the order in which it must be made. Raises ValueError (see `haproxy_config`)."""
    config = haproxy_config(header=routers.header, salt=routers.salt, drain=routers.drain)
    mark = hashlib.sha256(config.encode()).hexdigest()[:16]
    return [
        *identity(routers.owner),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": owned(routers.owner, config_name(routers.owner, mark), _LABELS),
            "immutable": True,
            "data": {"haproxy.cfg": config},
        },
        *_services(routers),
        _stateful_set(routers, mark),
    ]


def without_replicas(bodies: Sequence[Body]) -> list[Body]:
    """What is kept of routers: how many of them there are is the rollout's to say at any time."""
    return [
        {**body, "spec": {key: value for key, value in body["spec"].items() if key != "replicas"}}
        if body["kind"] == "StatefulSet"
        else body
        for body in bodies
    ]


def with_replicas(bodies: Sequence[Body], replicas: int) -> list[Body]:
    """What is kept of routers, with as many of them as are wanted now."""
    return [
        {**body, "spec": {**body["spec"], "replicas": replicas}} if body["kind"] == "StatefulSet" else body
        for body in bodies
    ]


_LABELS = {LABEL_ROLE: ROLE_ROUTER, LABEL_COMPONENT: ROLE_ROUTER}


def _selector(owner: Owner) -> dict[str, str]:
    return {LABEL_ROLLOUT: owner.name, LABEL_ROLE: ROLE_ROUTER}


def identity(owner: Owner) -> list[Body]:
    """Who the agent is and what it may: read one assignment, follow endpoints, keep its Lease. Nothing else."""
    name = router_name(owner)
    metadata = owned(owner, name, _LABELS)
    rules = [
        {
            "apiGroups": [GROUP],
            "resources": ["trafficassignments"],
            "resourceNames": [owner.name],
            "verbs": ["get", "list", "watch"],
        },
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        # A Lease is named by a pod's UID, which no rule can know beforehand. So an admission policy minds whose it is,
        # and asks for the verb below: that a router of another rollout does not hold for this UID.
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
        {
            "apiGroups": [GROUP],
            "resources": ["trafficassignments"],
            "resourceNames": [owner.uid],
            "verbs": [VERB_ACKNOWLEDGE],
        },
    ]
    rbac = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata,
            "automountServiceAccountToken": False,
        },
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": owner.namespace}],
        },
    ]


def _services(routers: Routers) -> list[Body]:
    """The one clients use, named like the rollout, and the one a StatefulSet must have."""
    owner = routers.owner
    ports = [service_port(routers.port_name, ROUTED_PORT)]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": owned(owner, owner.name, _LABELS),
            "spec": {"selector": _selector(owner), "ports": ports},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": owned(owner, f"{router_name(owner)}s", _LABELS),
            "spec": {"clusterIP": "None", "selector": _selector(owner), "ports": ports},
        },
    ]


def _stateful_set(routers: Routers, config: str) -> Body:
    owner = routers.owner
    name = router_name(owner)
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": owned(owner, name, _LABELS),
        "spec": {
            "replicas": routers.replicas,
            "serviceName": f"{name}s",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": _selector(owner)},
            "template": {
                "metadata": {
                    "labels": {**_selector(owner), **_LABELS},
                    "annotations": {ANNOTATION_CONFIG: config},
                },
                "spec": _pod(routers, config_name(owner, config)),
            },
        },
    }


def _pod(routers: Routers, config: str) -> Body:
    name = router_name(routers.owner)
    limit_seconds = -(-request_limit(routers.drain) // 1000)
    return {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": limit_seconds + 2 * _SLACK_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_agent(routers), _proxy(routers, limit_seconds)],
        "volumes": [
            {"name": "run", "emptyDir": {}},
            {"name": "config", "configMap": {"name": config}},
            {"name": "token", "projected": {"sources": _TOKEN_SOURCES}},
        ],
    }


_TOKEN_SOURCES = [
    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
]
_TOKEN_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"
_CONFINED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def _container(routers: Routers, part: str, environment: list[Body], mounts: list[Body]) -> Body:
    return {
        "name": part,
        "image": routers.image,
        # The image's entry point is `python -m strategyrollout.router`.
        "args": [part],
        "env": [{"name": "RUN_DIR", "value": _RUN_DIR}, *environment],
        "volumeMounts": [{"name": "run", "mountPath": _RUN_DIR}, *mounts],
        "securityContext": _CONFINED,
    }


def _values(values: Mapping[str, object]) -> list[Body]:
    return [{"name": name, "value": str(value)} for name, value in values.items()]


def _fields(fields: Mapping[str, str]) -> list[Body]:
    return [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()]


def _agent(routers: Routers) -> Body:
    owner = routers.owner
    values = {"ROLLOUT": owner.name, "ROLLOUT_UID": owner.uid, "PORT_NAME": ROUTED_PORT}
    fields = {"NAMESPACE": "metadata.namespace", "POD_NAME": "metadata.name", "POD_UID": "metadata.uid"}
    mounts = [{"name": "token", "mountPath": _TOKEN_DIR, "readOnly": True}]
    return {
        **_container(routers, "agent", [*_values(values), *_fields(fields)], mounts),
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
    }


def _proxy(routers: Routers, limit_seconds: int) -> Body:
    values = {
        "PORT": PORT,
        "HEALTH_PORT": HEALTH_PORT,
        "HAPROXY_CONFIG": f"{_CONFIG_DIR}/haproxy.cfg",
        "GRACE_SECONDS": limit_seconds + _SLACK_SECONDS,
    }
    mounts = [{"name": "config", "mountPath": _CONFIG_DIR, "readOnly": True}]
    return {
        **_container(routers, "proxy", [*_values(values), *_fields({"POD_IP": "status.podIP"})], mounts),
        "ports": [
            {"name": ROUTED_PORT, "containerPort": PORT, "protocol": "TCP"},
            {"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": "health", "scheme": "HTTP"},
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
        "resources": {"requests": {"cpu": "100m", "memory": "48Mi"}, "limits": {"memory": "256Mi"}},
    }
