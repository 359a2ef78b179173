"""What runs in the cluster for everybody: DNS and Prometheus, as pods, the way users have them."""

from __future__ import annotations

import json
from typing import Any

from tests.cluster.prometheus import configuration
from tests.cluster.realnode.configuration import DNS_ADDRESS

Object = dict[str, Any]
MONITORING = "monitoring"
PROMETHEUS_PORT = 9090
PROMETHEUS_URL = f"http://prometheus.{MONITORING}:{PROMETHEUS_PORT}"
"""As pods say it."""
# Names outside of the cluster do not exist here: no forward, so that they fail at once and not after a time-out.
_COREFILE = """.:53 {
    errors
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        ttl 5
    }
    cache 5
}
"""
_CONFINED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def _identity(name: str, namespace: str, rules: list[Object]) -> list[Object]:
    rbac, meta = "rbac.authorization.k8s.io", {"name": name}
    reference = {"apiGroup": rbac, "kind": "ClusterRole", "name": name}
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**meta, "namespace": namespace}},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": meta, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": meta,
            "roleRef": reference,
            "subjects": subjects,
        },
    ]


def _deployment(name: str, namespace: str, container: Object, config: str, **pod: Any) -> Object:
    volumes = [{"name": "config", "configMap": {"name": config}}, {"name": "data", "emptyDir": {}}]
    mounts = [{"name": "config", "mountPath": "/config"}, {"name": "data", "mountPath": "/data"}]
    container = {"name": name, "volumeMounts": mounts, **container}
    spec = {"serviceAccountName": name, "containers": [container], "volumes": volumes, **pod}
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def _config(name: str, namespace: str, file: str, text: str) -> Object:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {file: text}}


def _service(name: str, namespace: str, app: str, ports: list[Object], **spec: Any) -> Object:
    metadata = {"name": name, "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": {"app": app}, "ports": ports, **spec},
    }


def dns(image: str) -> list[Object]:
    """CoreDNS under the address that every pod is told."""
    watched = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    container = {
        "image": image,
        "args": ["-conf", "/config/Corefile"],
        "securityContext": _CONFINED,
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
    }
    ports = [{"name": name, "port": 53, "protocol": name.upper()} for name in ("udp", "tcp")]
    # Else it may not bind port 53: its program is not root.
    low_ports = {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]}
    return [
        *_identity("coredns", "kube-system", watched),
        _config("coredns", "kube-system", "Corefile", _COREFILE),
        _deployment("coredns", "kube-system", container, "coredns", dnsPolicy="Default", securityContext=low_ports),
        _service("kube-dns", "kube-system", "coredns", ports, clusterIP=DNS_ADDRESS),
    ]


def prometheus(image: str, interval: str) -> list[Object]:
    """Prometheus that finds strategies by itself, with the relabelling that the documentation tells users to have."""
    found = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    flags = {
        "config.file": "/config/prometheus.json",
        "storage.tsdb.path": "/data",
        "web.listen-address": f":{PROMETHEUS_PORT}",
        # The default makes a new pod wait up to five seconds for its first scrape.
        "scrape.discovery-reload-interval": "200ms",
    }
    container = {
        "image": image,
        "args": [*(f"--{name}={value}" for name, value in flags.items()), "--web.enable-remote-write-receiver"],
        "securityContext": _CONFINED,
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": PROMETHEUS_PORT}, "periodSeconds": 1},
    }
    text = json.dumps(configuration(None, interval), indent=1)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MONITORING}}
    return [
        namespace,
        *_identity("prometheus", MONITORING, found),
        _config("prometheus", MONITORING, "prometheus.json", text),
        _deployment("prometheus", MONITORING, container, "prometheus", terminationGracePeriodSeconds=2),
        _service("prometheus", MONITORING, "prometheus", [{"port": PROMETHEUS_PORT}]),
    ]
