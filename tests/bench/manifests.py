"""The rollouts under measurement: a canary that stays at 10 % until somebody or something ends it."""

from __future__ import annotations

from typing import Any

from tests.bench.signals import LIMIT, METRIC

Object = dict[str, Any]
TEMPLATE = "loss"
API_VERSION = "strategyrollout.io/v1alpha1"
DRAIN_MS = 100
_IMAGES = {
    version: f"registry.example/strategy@sha256:{digit * 64}" for version, digit in (("1.0.0", "1"), ("2.0.0", "2"))
}


def gate_template(interval: str) -> Object:
    """The gate that all rollouts share, so that it is asked once for all."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ClusterGateTemplate",
        "metadata": {"name": TEMPLATE},
        "spec": {
            "summary": "Loss of the strategy",
            "query": METRIC,
            "limit": {"above": LIMIT},
            "interval": interval,
            "maxAge": "60s",
        },
    }


def rollout(namespace: str, name: str, version: str, *, routers: int, template: Object | None = None) -> Object:
    """A canary by account: 10 % and then no further."""
    return {
        "apiVersion": API_VERSION,
        "kind": "StrategyRollout",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "version": version,
            "workload": "RequestDriven",
            "replicas": 1,
            "template": template or _template(version),
            "method": {"type": "Canary", "canary": {"steps": [{"weight": "10%", "hold": {}}]}},
            "traffic": {
                "unit": {"header": "X-Account-Id"},
                "drain": f"{DRAIN_MS}ms",
                "haproxy": {"replicas": routers},
            },
            "gates": [{"name": "loss", "template": {"kind": "ClusterGateTemplate", "name": TEMPLATE}}],
            "settle": "0s",
        },
    }


def namespace(name: str) -> Object:
    """A namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _template(version: str) -> Object:
    ports = [{"name": "orders", "containerPort": 8080}]
    return {"spec": {"containers": [{"name": "strategy", "image": _IMAGES[version], "ports": ports}]}}
