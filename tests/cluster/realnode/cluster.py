"""The cluster of one real node: `async with NodeCluster.start(folder) as cluster:`, inside `enter --node`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.cluster.access import Access
from tests.cluster.control_plane import ADMIN_TOKEN, ControlPlane
from tests.cluster.enter import cgroup, inside
from tests.cluster.processes import ClusterError, until
from tests.cluster.realnode import addons, configuration
from tests.cluster.realnode.faults import Faults
from tests.cluster.realnode.machine import Machine
from tests.cluster.realnode.place import DATA, KUBELET, NAME

_NOT_INSIDE = "a real node runs in namespaces of its own; run this as: python -m tests.cluster.enter --node -- COMMAND"
_PODS_READY_SECONDS = 60


class NodeCluster(Access):
    """A running cluster. Its pods have addresses that this process, being inside, reaches."""

    name = "node"
    prometheus_url = addons.PROMETHEUS_URL
    registry = configuration.REGISTRY

    def __init__(self, folder: Path, *, pause: Path | None = None, cgroup: str = "") -> None:
        """`pause`, `cgroup`: what it takes to start it; not needed for one that runs."""
        folder = folder.resolve()
        variant = configuration.variant(folder / "certs" / "node")
        self._control_plane = ControlPlane(folder, variant)
        super().__init__(
            folder, variant.server, self._control_plane.ca_file, self._control_plane.kubeconfig, ADMIN_TOKEN
        )
        self._machine = Machine(folder, cgroup)
        self._pause = pause
        self.faults = Faults(self._machine, self._control_plane)

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, folder: Path, pause: Path, *, scrape_interval: str = "500ms") -> AsyncIterator[NodeCluster]:
        """Start the cluster with DNS and Prometheus in it. What it leaves goes with the namespaces, but for logs.

        `pause` is the image (an OCI archive) of what holds a pod's namespaces.
        """
        if not inside() or not DATA.exists():
            raise ClusterError(_NOT_INSIDE)
        cluster = cls(folder, pause=pause, cgroup=cgroup())
        try:
            await cluster._start(scrape_interval)
            yield cluster
        except ClusterError as error:
            raise ClusterError(f"{error}\nlogs are in {cluster.folder}/logs and {cluster.folder}/pods") from error
        finally:
            await cluster._stop()

    async def _start(self, scrape_interval: str) -> None:
        machine = self._machine
        self.folder.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(machine.prepare)
        async with asyncio.TaskGroup() as tasks:
            programs = tasks.create_task(self._push_programs())
            tasks.create_task(self._control_plane.start())
        await self.apply(*_proxy_rights())
        assert self.ca_file is not None
        machine.start_node(self.server, self.ca_file)
        await until(f"{NAME} is ready", self._node_ready, _PODS_READY_SECONDS)
        dns, prometheus = programs.result()
        await self.apply(*addons.dns(dns))
        await self.apply(*addons.prometheus(prometheus, scrape_interval))
        await self.deployed("kube-system", "coredns")
        await self.deployed(addons.MONITORING, "prometheus")

    async def _push_programs(self) -> tuple[str, str]:
        assert self._pause is not None
        await self._machine.start_images(self._pause)
        dns = await self._machine.push_program("coredns", "/coredns", ["/coredns"])
        return dns, await self._machine.push_program("prometheus", "/prometheus", ["/prometheus"])

    async def _node_ready(self) -> bool:
        for program in (self._machine.containerd, self._machine.kubelet, self._machine.proxy):
            if program.pid is None:
                raise ClusterError(f"{program.name} ended\n{program.last_words()}")
        status, node = await self.request("GET", f"/api/v1/nodes/{NAME}")
        if status != 200:
            return False
        conditions = node["status"].get("conditions") or []
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        return ready and not node["spec"].get("taints")

    async def put_image(self, archive: Path, repository: str) -> str:
        """Let the cluster's registry have an image (an OCI archive); returns its reference pinned by digest."""
        return await self._machine.push(archive, repository)

    def volume(self, pod: dict[str, Any], name: str) -> Path:
        """Where an emptyDir of a pod lies on the node: the product's images have no shell to read its files with."""
        return KUBELET / "pods" / str(pod["metadata"]["uid"]) / "volumes" / "kubernetes.io~empty-dir" / name

    async def reach(self, namespace: str, pod: str, address: str, port: int) -> tuple[str, int]:
        """Where this process reaches a port of a pod: at the pod itself."""
        return address, port

    async def _stop(self) -> None:
        """All of it at once: nothing is kept, and what does not hear this ends with the namespaces."""
        machine = self._machine
        for program in (machine.kubelet, machine.proxy, machine.containerd, machine.registry):
            if program.pid is not None:
                program.signal(signal.SIGKILL)
        await self._control_plane.stop()


def _proxy_rights() -> list[dict[str, object]]:
    """The role exists in every cluster; who holds it is said by whoever sets kube-proxy up."""
    rbac = "rbac.authorization.k8s.io"
    subject = {"apiGroup": rbac, "kind": "User", "name": "system:kube-proxy"}
    role = {"apiGroup": rbac, "kind": "ClusterRole", "name": "system:node-proxier"}
    metadata = {"name": "kube-proxy"}
    binding = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRoleBinding", "metadata": metadata}
    return [{**binding, "roleRef": role, "subjects": [subject]}]
