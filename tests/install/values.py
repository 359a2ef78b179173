"""How different users set the chart: each by the name under which tests speak of it."""

from __future__ import annotations

from typing import Any

_DIGEST = "sha256:" + "4b0e9ce1" * 8
_OFF = {"enabled": False}

DEFAULT: dict[str, Any] = {}
MINIMAL: dict[str, Any] = {
    "replicas": 1,
    "crds": {"install": False},
    "serviceAccount": {"create": False, "name": "made-by-others"},
    "rbac": {"create": False},
    "userRoles": {"create": False},
    "admission": _OFF,
    "podDisruptionBudget": _OFF,
    "networkPolicy": _OFF,
}
NAMESPACED: dict[str, Any] = {
    "namespaces": ["desk-a", "desk-b"],
    "selector": "desk in (equities, fx)",
    "podMonitor": {"enabled": True},
}
EVERYTHING: dict[str, Any] = {
    "image": {"repository": "registry.example/strategy-rollouts/operator", "tag": "0.1.0", "digest": _DIGEST},
    "router": {"image": {"repository": "registry.example/strategy-rollouts/router", "digest": _DIGEST}},
    "imagePullSecrets": [{"name": "registry"}],
    "replicas": 3,
    "prometheus": "http://prometheus.monitoring:9090",
    "settings": {"workers": 128, "resync": "5m", "evidence": "/evidence/decisions.jsonl"},
    "serviceAccount": {"annotations": {"example.com/role": "rollouts"}},
    "networkPolicy": {
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "apiServer": {"cidrs": ["10.0.0.1/32"], "ports": [6443]},
        "prometheus": {"to": [{"podSelector": {}}]},
        "extraEgress": [{"ports": [{"port": 9095}]}],
    },
    "service": {"annotations": {"example.com/team": "platform"}},
    "podMonitor": {"enabled": True, "interval": "1s", "labels": {"release": "kube-prometheus-stack"}},
    "serviceMonitor": {"enabled": True, "labels": {"release": "kube-prometheus-stack"}},
    "prometheusRule": {"enabled": True, "runbooks": "https://docs.example/runbooks/"},
    "podAnnotations": {"example.com/note": "a"},
    "podLabels": {"example.com/team": "platform"},
    "priorityClassName": "important",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "trading", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {"topologyKey": "kubernetes.io/hostname", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    ],
    "extraVolumes": [{"name": "evidence", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "evidence", "mountPath": "/evidence"}],
}

USERS = {"default": DEFAULT, "minimal": MINIMAL, "namespaced": NAMESPACED, "everything": EVERYTHING}
