"""Rollouts and gates as the cases apply them: short holds, quick gates, one difference at a time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from strategyrollout.api.meta import API_VERSION
from tests.cluster.images import ImageStore

Object = dict[str, Any]
_PROGRAM = Path(__file__).with_name("exporter.py")
_INSIDE = "/opt/exporter.py"
LIMIT = "0.5"


def add_image(store: ImageStore, build: str) -> str:
    """The image of one build; builds differ in digest and in nothing else."""
    entrypoint = [sys.executable, "-I", "-S", _INSIDE]
    return store.add("exporter", entrypoint, {_INSIDE: _PROGRAM.read_text()}, env={"BUILD": build})


def template(image: str, version: str = "", **environment: str) -> Object:
    """Pods of the exporter. What it crashes by lies in a volume of the pod, so that it crashes again."""
    variables = [{"name": k, "value": v} for k, v in {"VERSION": version, **environment}.items()]
    return {
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "strategy",
                    "image": image,
                    "env": variables,
                    "ports": [{"name": "orders", "containerPort": 8080}, {"name": "metrics", "containerPort": 9100}],
                    "readinessProbe": {
                        "httpGet": {"path": "/readyz", "port": "orders"},
                        "periodSeconds": 1,
                        "failureThreshold": 1,
                    },
                    "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                }
            ],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
        }
    }


def query(signal: str) -> str:
    """The PromQL of a signal."""
    return f'strategy_signal{{name="{signal}"}}'


def gate(name: str = "rejects", *, signal: str = "", address: str = "", **fields: Any) -> Object:
    """A gate on a signal of the same name, asked four times a second."""
    prometheus: Object = {"query": query(signal or name)}
    if address:
        prometheus["source"] = {"address": address}
    base = {"name": name, "prometheus": prometheus, "limit": {"above": LIMIT}, "interval": "250ms", "maxAge": "2s"}
    return {**base, **fields}


def steps(*pairs: tuple[str, str]) -> Object:
    """`("10%", "1s")` holds a second, `("10%", "")` until somebody resumes."""
    holds = [{"weight": weight, "hold": {"duration": hold} if hold else {}} for weight, hold in pairs]
    return {"type": "Canary", "canary": {"steps": holds}}


def blue_green(preview: str = "0s", promote: str = "Automatic") -> Object:
    """A preview of so long, then the switch."""
    return {"type": "BlueGreen", "blueGreen": {"preview": {"duration": preview}, "promote": promote}}


CANARY: Object = {
    "method": steps(("10%", "1s"), ("50%", "1s")),
    "traffic": {
        "unit": {"header": "X-Account-Id"},
        "drain": "100ms",
        "ackTimeout": "10s",
        "haproxy": {"replicas": 1},
    },
}


def rollout(namespace: str, name: str, version: str, **spec: Any) -> Object:
    """A canary of one pod behind one router, unless told otherwise."""
    return {
        "apiVersion": API_VERSION,
        "kind": "StrategyRollout",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "version": version,
            "workload": "RequestDriven",
            "replicas": 1,
            "gates": [gate()],
            "settle": "0s",
            **CANARY,
            **spec,
        },
    }
