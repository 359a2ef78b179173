"""A pod's status as its node reports it, worked out anew from the state of its containers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.cluster.node.container import Container, timestamp

Object = dict[str, Any]


def container_status(container: Container) -> Object:
    """One entry of `containerStatuses`."""
    reference = container.spec["image"]
    running = "running" in container.state
    waiting = "waiting" in container.state and container.state["waiting"]["reason"] != "CrashLoopBackOff"
    return {
        "name": container.name,
        "state": container.state,
        "lastState": container.last_state,
        "ready": container.ready,
        "started": running and container.started,
        "restartCount": container.restarts,
        "image": reference,
        "imageID": "" if waiting else reference,
        "containerID": "" if waiting else f"test://{container.name}-{container.restarts}",
    }


def phase(initialised: bool, containers: Sequence[Container]) -> str:
    """Pending, Running, Succeeded or Failed."""
    if not initialised or any("waiting" in c.state and not c.last_state for c in containers):
        return "Pending"
    if all(container.finished for container in containers):
        good = all(c.state.get("terminated", {}).get("exitCode") == 0 for c in containers)
        return "Succeeded" if good else "Failed"
    return "Running"


def pod_status(
    pod: Object,
    init: Sequence[Container],
    containers: Sequence[Container],
    addresses: tuple[str, str],
    known: dict[str, Object],
) -> Object:
    """The whole status; `known` remembers when each condition last changed."""
    initialised = all(c.finished and c.state.get("terminated", {}).get("exitCode") == 0 for c in init)
    current = phase(initialised, containers)
    all_ready = initialised and all(container.ready for container in containers)
    given = {entry["type"]: entry["status"] for entry in pod.get("status", {}).get("conditions") or []}
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or []]
    gates_open = all(given.get(gate) == "True" for gate in gates)
    unready = ", ".join(container.name for container in containers if not container.ready)
    reason = ("ContainersNotReady", f"containers with unready status: [{unready}]")
    if current in ("Succeeded", "Failed"):
        reason = ("PodCompleted", "")
    conditions = [
        _condition(known, "Initialized", initialised, ("ContainersNotInitialized", "")),
        _condition(known, "ContainersReady", all_ready, reason),
        _condition(
            known, "Ready", all_ready and gates_open, reason if not all_ready else ("ReadinessGatesNotReady", "")
        ),
    ]
    status: Object = {
        "phase": current,
        "conditions": conditions,
        "hostIP": addresses[0],
        "podIP": addresses[1],
        "podIPs": [{"ip": addresses[1]}],
        "containerStatuses": [container_status(container) for container in containers],
    }
    if init:
        status["initContainerStatuses"] = [container_status(container) for container in init]
    return status


def _condition(known: dict[str, Object], kind: str, holds: bool, why_not: tuple[str, str]) -> Object:
    value = "True" if holds else "False"
    before = known.get(kind)
    changed = before is None or before["status"] != value
    condition: Object = {
        "type": kind,
        "status": value,
        "lastTransitionTime": timestamp() if changed or before is None else before["lastTransitionTime"],
        # Explicit nothing: a strategic merge would keep the words of the time before.
        "reason": None if holds else why_not[0],
        "message": None if holds else why_not[1],
    }
    known[kind] = condition
    return condition
