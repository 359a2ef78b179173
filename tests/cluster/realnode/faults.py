"""What a test can do to a real node and its pods: kill, freeze, cut off, restart.

Processes are found by the pod's UID in their control group and ended by their id: as a crash does, without the kubelet.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import ClusterError
from tests.cluster.realnode.configuration import API_PORT
from tests.cluster.realnode.machine import Machine
from tests.cluster.realnode.place import ADDRESS

Object = dict[str, Any]
# Both ways, and open connections too. By now kube-proxy has turned the Service's address into the server's own.
_API = (
    ("OUTPUT", "--destination", ADDRESS, "--protocol", "tcp", "--dport", str(API_PORT)),
    ("OUTPUT", "--destination", "10.96.0.1", "--protocol", "tcp"),
    ("INPUT", "--source", "10.96.0.1", "--protocol", "tcp"),
)


class Faults:
    """A pod is given as the API server shows it."""

    def __init__(self, machine: Machine, control_plane: ControlPlane) -> None:
        self._machine = machine
        self._control_plane = control_plane

    def kill(self, pod: Object, container: str | None = None) -> None:
        """kill -9 of the first process of a container, and so of all of them; of the only one if none is named."""
        os.kill(self.pid(pod, container), signal.SIGKILL)

    def freeze(self, pod: Object, container: str | None = None) -> None:
        """The container stands still and keeps its connections."""
        os.kill(self.pid(pod, container), signal.SIGSTOP)

    def thaw(self, pod: Object, container: str | None = None) -> None:
        """It goes on."""
        os.kill(self.pid(pod, container), signal.SIGCONT)

    def pid(self, pod: Object, container: str | None = None) -> int:
        """The first process of a container."""
        statuses = (pod.get("status") or {}).get("containerStatuses") or []
        ids = [s.get("containerID", "").rpartition("/")[2] for s in statuses if container in (None, s["name"])]
        name = pod["metadata"]["name"]
        if len(ids) != 1 or not ids[0]:
            raise ClusterError(f"{len(ids)} running containers of {name} match {container or 'any'}")
        found = sorted(_processes_of(ids[0]))
        if not found:
            raise ClusterError(f"no process of {name} is left")
        return found[0]

    async def cut_off(self, pod: Object) -> None:
        """Packets between this pod and the API server vanish."""
        await asyncio.to_thread(_rules, self._any_pid(pod), "--insert")

    async def heal(self, pod: Object) -> None:
        """Undo `cut_off`."""
        await asyncio.to_thread(_rules, self._any_pid(pod), "--delete")

    def _any_pid(self, pod: Object) -> int:
        """Of any container: all share one network."""
        return self.pid(pod, pod["spec"]["containers"][0]["name"])

    async def kill_kubelet(self) -> None:
        """kill -9; pods go on."""
        await self._machine.kubelet.stop(grace=0.0)

    def start_kubelet(self) -> None:
        """Start it again."""
        self._machine.start_kubelet()

    async def restart_apiserver(self, down_for: float = 0.0) -> None:
        """Kill the API server, leave it dead for so long, start it and wait until it is ready."""
        await self._control_plane.apiserver.stop(grace=0.0)
        await asyncio.sleep(down_for)
        self._control_plane.start_apiserver()
        await self._control_plane.apiserver_ready()


def _processes_of(container: str) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and container in (entry / "cgroup").read_text():
                yield int(entry.name)
        except OSError:
            continue


def _rules(pid: int, action: str) -> None:
    for rule in _API:
        command = ["nsenter", "-t", str(pid), "-n", "iptables", "--wait", action, *rule, "--jump", "DROP"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(f"{' '.join(command)}: {done.stderr}")
