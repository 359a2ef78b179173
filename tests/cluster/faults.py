"""What a test can do to pods that run on the real node: look at, freeze, kill, cut off, orphan.

All of it works through files the agent keeps in the cluster's folder and through signals, so that it works from any
process inside the namespace, and even while the agent itself is frozen.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.cluster import network
from tests.cluster.processes import ClusterError, Program, alive

# Files in a pod's folder: "leave it alone", and the process that holds its network.
ORPHAN, PAUSE = "orphan", "pause"


class Node:
    """The real nodes of a cluster as a test sees them. A pod is named by its namespace and name."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._agents = {name: Program(folder, f"node-agent-{name}") for name in names}

    def _pod_folder(self, namespace: str, pod: str) -> Path:
        """The folder of the living pod of that name; of the newest if an orphan of the same name remains."""
        found = [
            path
            for name in self._agents
            for path in (self._folder / "nodes" / name / "pods").glob(f"{namespace}_{pod}_*")
        ]
        if not found:
            raise ClusterError(f"no pod {namespace}/{pod} on the node")
        return max(found, key=lambda path: path.stat().st_ctime)

    def pid(self, namespace: str, pod: str, container: str | None = None) -> int:
        """The first process of a container (of the only one if none is named)."""
        return _container_pid(self._pod_folder(namespace, pod), container)

    def running(self, namespace: str, pod: str, container: str | None = None) -> bool:
        """Whether the container has a living process."""
        try:
            return alive(self.pid(namespace, pod, container))
        except ClusterError:
            return False

    def kill(self, namespace: str, pod: str, container: str | None = None) -> None:
        """End all processes of the container at once, as a crash does."""
        os.kill(self.pid(namespace, pod, container), signal.SIGKILL)

    def sigstop(self, namespace: str, pod: str, container: str | None = None) -> None:
        """Freeze all processes of the container; it keeps its open connections."""
        _signal_all(self.pid(namespace, pod, container), signal.SIGSTOP)

    def sigcont(self, namespace: str, pod: str, container: str | None = None) -> None:
        """Let the container's processes go on."""
        _signal_all(self.pid(namespace, pod, container), signal.SIGCONT)

    async def cut_off(self, namespace: str, pod: str) -> None:
        """Make the API server unreachable for this pod only: packets vanish, open connections hang."""
        await asyncio.to_thread(network.cut_off, self._pause(namespace, pod))

    async def heal(self, namespace: str, pod: str) -> None:
        """Undo `cut_off`."""
        await asyncio.to_thread(network.heal, self._pause(namespace, pod))

    def _pause(self, namespace: str, pod: str) -> int:
        return int((self._pod_folder(namespace, pod) / PAUSE).read_text())

    def orphan(self, namespace: str, pod: str) -> Orphan:
        """From now on the node neither ends this pod's processes nor reports it, whatever happens to its object."""
        folder = self._pod_folder(namespace, pod)
        (folder / ORPHAN).touch()
        return Orphan(folder)

    def log(self, namespace: str, pod: str, container: str | None = None) -> str:
        """Everything the container's runs have written, oldest first; also after the pod is gone."""
        pattern = f"*/logs/{namespace}_{pod}_*/{container or '*'}.*.log"
        files = sorted((self._folder / "nodes").glob(pattern), key=lambda path: path.stat().st_mtime)
        return "".join(path.read_text(errors="replace") for path in files)

    def freeze_agent(self, name: str = "node-1") -> None:
        """Stop the agent from working; its pods go on, nobody reports them."""
        self._agents[name].signal(signal.SIGSTOP)

    def thaw_agent(self, name: str = "node-1") -> None:
        """Let the agent go on."""
        self._agents[name].signal(signal.SIGCONT)

    def end_all(self) -> None:
        """End what the agents started, orphans too; for the end of the cluster, when the agents are dead."""
        for name in self._agents:
            pods = self._folder / "nodes" / name / "pods"
            for file in [*pods.glob("*/containers/*/pid"), *pods.glob(f"*/{PAUSE}")]:
                with contextlib.suppress(OSError, ValueError):
                    os.kill(int(file.read_text()), signal.SIGKILL)


class Orphan:
    """Processes of a pod whose object may be gone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def pid(self, container: str | None = None) -> int:
        """The first process of a container."""
        return _container_pid(self._folder, container)

    def release(self) -> None:
        """Give it back to the node, which ends it if its object is gone or being deleted."""
        (self._folder / ORPHAN).unlink(missing_ok=True)


def _container_pid(folder: Path, container: str | None) -> int:
    files = sorted((folder / "containers").glob(f"{container or '*'}/pid"))
    if len(files) != 1:
        raise ClusterError(f"{len(files)} running containers match {container or 'any'} in {folder.name}")
    return int(files[0].read_text())


def _signal_all(first: int, number: int) -> None:
    """Signal every process of the container: those in the first one's process namespace."""
    namespace = Path(f"/proc/{first}/ns/pid").readlink()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "ns" / "pid").readlink() == namespace:
                os.kill(int(entry.name), number)
        except OSError:
            continue
