"""The example strategy as container images and as the pod template of a rollout."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cluster.images import ImageStore

Object = dict[str, Any]
_PROGRAM = Path(__file__).with_name("program.py")
_INSIDE = "/opt/strategy/program.py"
_FIELDS = {
    "POD_IP": "status.podIP",
    "POD_NAME": "metadata.name",
    "REVISION": "metadata.labels['strategyrollout.io/revision']",
    "VERSION": "metadata.labels['strategyrollout.io/version']",
}


def add_image(store: ImageStore, build: str) -> str:
    """Store the image of one build and return its reference; builds differ in digest and in nothing else."""
    # -I and -S: no site packages, so that it starts in a few hundredths of a second.
    entrypoint = [sys.executable, "-I", "-S", _INSIDE]
    return store.add("momentum", entrypoint, {_INSIDE: _PROGRAM.read_text()}, env={"BUILD": build})


def pod_template(
    image: str, *, environment: Mapping[str, str] | None = None, order_log: Path | None = None, configmap: str = ""
) -> Object:
    """The `template` of a rollout that runs it. Everything in `environment` is part of the revision."""
    variables: list[Object] = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in _FIELDS.items()
    ]
    given = {**(environment or {}), **({"ORDER_LOG": str(order_log)} if order_log else {})}
    variables += [{"name": name, "value": value} for name, value in given.items()]
    container: Object = {
        "name": "strategy",
        "image": image,
        "ports": [{"name": "orders", "containerPort": 8080}, {"name": "metrics", "containerPort": 9100}],
        "env": variables,
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "orders"}, "periodSeconds": 1},
    }
    if configmap:
        container["envFrom"] = [{"configMapRef": {"name": configmap}}]
    return {"spec": {"terminationGracePeriodSeconds": 5, "containers": [container]}}
