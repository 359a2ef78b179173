"""Nodes that only pretend, for tests of scale: kwok keeps them ready and moves their pods along.

Pods ask for them with `nodeSelector: {type: fake}` and `tolerations: [{key: fake, operator: Exists}]`; everyone else
runs on the real node. Nothing runs in such pods, so nothing can be scraped from them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cluster.build import binary
from tests.cluster.processes import Program

Object = dict[str, Any]
_ANNOTATION = "kwok.x-k8s.io/node"
_NOW = "{{ Now | Quote }}"


def node(name: str) -> Object:
    """A fake node with room for anything."""
    capacity = {"cpu": "1000", "memory": "4000Gi", "pods": "1000"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"type": "fake"}, "annotations": {_ANNOTATION: "fake"}},
        "spec": {"taints": [{"key": "fake", "value": "true", "effect": "NoSchedule"}]},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def _stage(name: str, kind: str, wanted: list[Object], what: Object) -> Object:
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": wanted},
            **what,
        },
    }


def _is(key: str, *values: str) -> Object:
    return {"key": key, "operator": "In", "values": list(values)}


def _absent(key: str) -> Object:
    return {"key": key, "operator": "DoesNotExist"}


_NODE_READY = f"""
conditions:
- type: Ready
  status: "True"
  reason: Fake
  message: pretends
  lastHeartbeatTime: {_NOW}
  lastTransitionTime: {_NOW}
addresses:
- {{type: InternalIP, address: {{{{ NodeIP | Quote }}}}}}
phase: Running
"""
_POD_READY = """
{{ $now := Now }}
phase: Running
startTime: {{ $now | Quote }}
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
podIP: {{ PodIPWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace | Quote }}
conditions:
- {type: Initialized, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: ContainersReady, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: Ready, status: "True", lastTransitionTime: {{ $now | Quote }}}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: {{ .image | Quote }}
  ready: true
  started: true
  restartCount: 0
  state:
    running:
      startedAt: {{ $now | Quote }}
{{ end }}
"""


def stages() -> list[Object]:
    """What fake nodes and pods do: become ready, keep a heartbeat, vanish when deleted."""
    deleted = ".metadata.deletionTimestamp"
    node_ready = '.status.conditions.[] | select( .type == "Ready" ) | .status'
    beat = {"durationMilliseconds": 20000, "jitterDurationMilliseconds": 25000}
    return [
        _stage(
            "fake-node-ready",
            "Node",
            [_absent(deleted), {"key": node_ready, "operator": "NotIn", "values": ["True"]}],
            {"next": {"statusTemplate": _NODE_READY}},
        ),
        _stage(
            "fake-node-heartbeat",
            "Node",
            [_absent(deleted), _is(node_ready, "True")],
            {"delay": beat, "next": {"statusTemplate": _NODE_READY}, "immediateNextStage": False},
        ),
        _stage(
            "fake-pod-ready",
            "Pod",
            [_absent(deleted), _absent(".status.podIP")],
            {"next": {"statusTemplate": _POD_READY}},
        ),
        _stage(
            "fake-pod-delete",
            "Pod",
            [{"key": deleted, "operator": "Exists"}],
            {"next": {"finalizers": {"empty": True}, "delete": True}},
        ),
    ]


class FakeNodes:
    """The kwok process of a cluster."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self._folder = folder
        self._kubeconfig = kubeconfig
        self.program = Program(folder, "kwok")

    def start(self) -> None:
        """Start it unless it runs."""
        if self.program.pid is not None:
            return
        config = self._folder / "stages.yaml"
        config.write_text("\n---\n".join(json.dumps(stage) for stage in stages()))
        flags = {
            "kubeconfig": str(self._kubeconfig),
            "manage-all-nodes": "false",
            "manage-nodes-with-annotation-selector": f"{_ANNOTATION}=fake",
            "config": str(config),
            "node-lease-duration-seconds": "40",
        }
        self.program.start([str(binary("kwok")), *(f"--{name}={value}" for name, value in flags.items())])
