"""The cluster as tests, benchmarks and the demo use it: `async with Cluster.start(folder) as cluster:`."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.cluster import network, prometheus
from tests.cluster.access import Access
from tests.cluster.control_plane import ADMIN_TOKEN, SERVER, ControlPlane
from tests.cluster.enter import inside
from tests.cluster.fake_nodes import FakeNodes, node
from tests.cluster.faults import Node
from tests.cluster.images import ImageStore
from tests.cluster.processes import ClusterError, Program, until

Object = dict[str, Any]
# Names the folder of a cluster that is already running, to the tests that shall use it.
RUNNING = "STRATEGYROLLOUT_CLUSTER"
_NOT_INSIDE = "the cluster runs in a network of its own; run this as: python -m tests.cluster.enter -- COMMAND"


class Cluster(Access):
    """A running cluster in a folder whose nodes are small: pods are processes of this machine."""

    def __init__(self, folder: Path, nodes: int = 1) -> None:
        control_plane = ControlPlane(folder.resolve())
        super().__init__(folder, SERVER, control_plane.ca_file, control_plane.kubeconfig, ADMIN_TOKEN)
        self._names = [f"node-{number}" for number in range(1, nodes + 1)]
        self._control_plane = control_plane
        self._fake_nodes = FakeNodes(self.folder, self.kubeconfig)
        self._prometheus = prometheus.Prometheus(self.folder, self.kubeconfig)
        self.images = ImageStore(self.folder / "images")
        self.node = Node(self.folder, self._names)

    @classmethod
    def attach(cls, folder: Path, nodes: int = 1) -> Cluster:
        """A cluster that someone else started in that folder, in this same namespace."""
        if not inside():
            raise ClusterError(_NOT_INSIDE)
        return cls(folder, nodes)

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, folder: Path, nodes: int = 1, scrape_interval: str = "1s") -> AsyncIterator[Cluster]:
        """Start a cluster in the folder, stop it at the end.

        Logs stay: of the programs in `folder/logs`, of containers in `folder/nodes/*/logs`. Ports and addresses are
        always the same, so there can be one per namespace; start another `enter` for another one.
        """
        if not inside():
            raise ClusterError(_NOT_INSIDE)
        cluster = cls(folder, nodes)
        try:
            await cluster._start(scrape_interval)
            yield cluster
        finally:
            await cluster._stop()

    @property
    def prometheus_url(self) -> str:
        """Where Prometheus answers."""
        return prometheus.URL

    async def _start(self, scrape_interval: str) -> None:
        await self._control_plane.start()
        self._prometheus.start(scrape_interval)
        for index, name in enumerate(self._names):
            self._start_agent(index, name)
        await asyncio.gather(self._prometheus.ready(), *(self._schedulable(name) for name in self._names))

    def _start_agent(self, index: int, name: str) -> None:
        options = {
            "name": name,
            "index": str(index),
            "folder": str(self.folder / "nodes" / name),
            "images": str(self.folder / "images"),
            "server": SERVER,
            "ca-file": str(self.ca_file),
            "token": ADMIN_TOKEN,
        }
        arguments = [f"--{key}={value}" for key, value in options.items()]
        self._agent(name).start([sys.executable, "-m", "tests.cluster.node", *arguments])

    def _agent(self, name: str) -> Program:
        return Program(self.folder, f"node-agent-{name}")

    async def _schedulable(self, name: str) -> None:
        async def check() -> bool:
            if self._agent(name).pid is None:
                raise ClusterError(f"the agent of {name} ended\n{self._agent(name).last_words()}")
            status, item = await self.request("GET", f"/api/v1/nodes/{name}")
            return status == 200 and not item["spec"].get("taints")

        await until(f"{name} is ready", check, 60)

    async def _stop(self) -> None:
        programs = [self._agent(name) for name in self._names]
        programs += [self._fake_nodes.program, self._prometheus.program]
        for program in programs:
            await program.stop(grace=0.0)
        self.node.end_all()
        await self._control_plane.stop()
        # Logs are worth keeping, data is not: it is large and every run writes it anew.
        await asyncio.to_thread(shutil.rmtree, self.folder / "prometheus", ignore_errors=True)

    async def add_fake_nodes(self, count: int) -> None:
        """Add pretended nodes and wait until they are ready; see fake_nodes.py for how pods ask for them."""
        self._fake_nodes.start()
        _, listed = await self.request("GET", "/api/v1/nodes?labelSelector=type%3Dfake")
        first = len(listed["items"]) + 1
        names = [f"fake-{number}" for number in range(first, first + count)]
        for name in names:
            await self.request("POST", "/api/v1/nodes", node(name))
        await until(f"{count} more fake nodes are ready", self._fake_nodes_ready, 60)

    async def _fake_nodes_ready(self) -> bool:
        _, listed = await self.request("GET", "/api/v1/nodes?labelSelector=type%3Dfake")
        taints = [taint["key"] for item in listed["items"] for taint in item["spec"].get("taints", [])]
        return not any(key.startswith("node.kubernetes.io/") for key in taints)

    async def restart_apiserver(self, down_for: float = 0.0) -> None:
        """Kill the API server, leave it dead for so long, start it and wait until it is ready."""
        await self.stop_apiserver()
        await asyncio.sleep(down_for)
        await self.start_apiserver()

    async def stop_apiserver(self) -> None:
        """Kill the API server."""
        await self._control_plane.apiserver.stop(grace=0.0)

    async def start_apiserver(self) -> None:
        """Start it again and wait until it is ready."""
        self._control_plane.start_apiserver()
        await self._control_plane.apiserver_ready()

    def freeze_apiserver(self) -> None:
        """The API server accepts connections and never answers."""
        self._control_plane.apiserver.signal(signal.SIGSTOP)

    def thaw_apiserver(self) -> None:
        """The API server goes on."""
        self._control_plane.apiserver.signal(signal.SIGCONT)

    async def stop_prometheus(self) -> None:
        """Stop Prometheus; its data stays."""
        await self._prometheus.program.stop()

    async def start_prometheus(self, scrape_interval: str | None = None) -> None:
        """Start Prometheus again and wait until it answers."""
        self._prometheus.start(scrape_interval)
        await self._prometheus.ready()

    def freeze_prometheus(self) -> None:
        """Prometheus accepts connections, answers nothing and scrapes nothing."""
        self._prometheus.program.signal(signal.SIGSTOP)

    def thaw_prometheus(self) -> None:
        """Prometheus goes on."""
        self._prometheus.program.signal(signal.SIGCONT)

    async def set_scrape_interval(self, interval: str) -> None:
        """Change the scrape interval of the running Prometheus, for example to `250ms`."""
        await self._prometheus.set_interval(interval)

    async def query(self, expression: str) -> list[Object]:
        """The result of an instant query."""
        return await self._prometheus.query(expression)

    @property
    def host_address(self) -> str:
        """Where pods reach processes that run beside the cluster, like the operator in tests."""
        return network.HOST_ADDRESS
