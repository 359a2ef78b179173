"""Clusters that are not ours: one that kind makes, and whatever KUBECONFIG points to. A thin shim over their own tools.

All requests go through `kubectl proxy`, so that any way to log in works; pods are reached by `kubectl port-forward`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

from tests.cluster.access import Access
from tests.cluster.build import binary
from tests.cluster.processes import ClusterError, Program, until
from tests.cluster.realnode import addons, archive
from tests.cluster.realnode.machine import run

_KIND = "strategy-rollouts"
_REGISTRY = "STRATEGYROLLOUT_E2E_REGISTRY"


class Elsewhere(Access):
    """A cluster reached by a kubeconfig. Cannot be broken on purpose."""

    prometheus_url = addons.PROMETHEUS_URL
    faults = None

    def __init__(self, name: str, folder: Path, kubeconfig: Path) -> None:
        self._port = _free_port()
        super().__init__(folder, f"http://127.0.0.1:{self._port}", None, kubeconfig, "")
        self.name = name
        self._proxy = Program(self.folder, "kubectl-proxy")
        self._forwards: dict[tuple[str, str, int], tuple[Program, int]] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Elsewhere]:
        """With Prometheus in it, as long as the block runs."""
        self._proxy.start(self._kubectl("proxy", f"--port={self._port}"))
        try:
            await until("the cluster answers", self._answers, 20)
            prometheus = self.folder / "prometheus.tar"
            archive.write(prometheus, {"/prometheus": binary("prometheus")}, ["/prometheus"])
            await self.apply(*addons.prometheus(await self.put_image(prometheus, "cluster/prometheus"), "500ms"))
            await self.deployed(addons.MONITORING, "prometheus")
            yield self
        finally:
            for program in (self._proxy, *(program for program, _ in self._forwards.values())):
                await program.stop()

    def _kubectl(self, *arguments: str) -> list[str]:
        return [str(binary("kubectl")), "--kubeconfig", str(self.kubeconfig), *arguments]

    async def _answers(self) -> bool:
        if self._proxy.pid is None:
            raise ClusterError(f"kubectl proxy ended\n{self._proxy.last_words()}")
        return (await self.request("GET", "/version"))[0] == 200

    async def put_image(self, archive: Path, repository: str) -> str:
        """Into the registry that the cluster pulls from, which the user names."""
        if not (registry := os.environ.get(_REGISTRY)):
            raise ClusterError(f"CLUSTER=current needs {_REGISTRY}=host/path: a registry that you may push to")
        await run("skopeo", "copy", "--quiet", f"oci-archive:{archive}", f"docker://{registry}/{repository}:e2e")
        return f"{registry}/{repository}@{_digest(archive)}"

    async def reach(self, namespace: str, pod: str, address: str, port: int) -> tuple[str, int]:
        """A port of this machine that is forwarded."""
        key = (namespace, pod, port)
        program, local = self._forwards.get(key, (None, 0))
        if program is None or program.pid is None:
            local = _free_port()
            program = Program(self.folder, f"forward-{namespace}-{pod}-{port}")
            program.start(self._kubectl("port-forward", "-n", namespace, f"pod/{pod}", f"{local}:{port}"))
            self._forwards[key] = program, local
        return "127.0.0.1", local


class Kind(Elsewhere):
    """A cluster of kind, made for the run."""

    async def put_image(self, archive: Path, repository: str) -> str:
        """As `kind load` does, but under a reference with a digest, which it cannot give."""
        name = f"localhost/{repository}"
        load = ["ctr", "--namespace=k8s.io", "images", "import", "--digests", "--base-name", name, "-"]
        command = ["docker", "exec", "--interactive", f"{_KIND}-control-plane", *load]
        with archive.open("rb") as content:
            done = await asyncio.to_thread(subprocess.run, command, stdin=content, capture_output=True, text=True)
        if done.returncode:
            raise ClusterError(f"{' '.join(command)}: {done.stderr}")
        return f"{name}@{_digest(archive)}"


@contextlib.asynccontextmanager
async def found(name: str, folder: Path) -> AsyncIterator[Elsewhere]:
    """The cluster `kind` or `current`. Raises ClusterError with what is missing."""
    if name == "current":
        async with Elsewhere(name, folder, _given_kubeconfig()).running() as cluster:
            yield cluster
        return
    for program in ("docker", "kind"):
        if shutil.which(program) is None:
            raise ClusterError(f"CLUSTER=kind needs `{program}` on PATH; as root, CLUSTER=node needs neither")
    kubeconfig = folder / "kubeconfig"
    await run("kind", "create", "cluster", "--name", _KIND, "--kubeconfig", str(kubeconfig), "--wait", "120s")
    try:
        async with Kind(name, folder, kubeconfig).running() as cluster:
            yield cluster
    finally:
        await run("kind", "delete", "cluster", "--name", _KIND)


def _given_kubeconfig() -> Path:
    given = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if not given.exists():
        raise ClusterError(f"CLUSTER=current uses the cluster of KUBECONFIG, and there is no {given}")
    return given


def _digest(image: Path) -> str:
    with tarfile.open(image) as content:
        index = content.extractfile("index.json")
        assert index is not None
        return str(json.load(index)["manifests"][0]["digest"])


def _free_port() -> int:
    with socket.socket() as found_port:
        found_port.bind(("127.0.0.1", 0))
        return int(found_port.getsockname()[1])
