"""Clusters behind one door: what an end-to-end test may ask of any of them, and the ways to get one.

    process   pretended nodes, pods are processes (cluster.py): no root; for `make test` and `make demo`
    node      a real node in namespaces (realnode/): root
    kind      a kind cluster, where Docker answers
    current   whatever KUBECONFIG points to

`node`, `kind` and `current` are `Provider`s. One without `faults` cannot be broken on purpose; tests that need that are
skipped there and say so.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

from tests.cluster import elsewhere
from tests.cluster.node.api import Api
from tests.cluster.processes import ClusterError
from tests.cluster.realnode.cluster import NodeCluster

Object = dict[str, Any]
NAMES = ("node", "kind", "current")


class Faults(Protocol):
    """What can be broken. A pod is given as the API server shows it."""

    def kill(self, pod: Object, container: str | None = None) -> None:
        """kill -9 of a container; of the only one if none is named."""

    async def cut_off(self, pod: Object) -> None:
        """Packets between this pod and the API server vanish."""

    async def heal(self, pod: Object) -> None:
        """Undo `cut_off`."""

    async def kill_kubelet(self) -> None:
        """kill -9; pods go on."""

    def start_kubelet(self) -> None:
        """Start it again."""

    async def restart_apiserver(self, down_for: float = 0.0) -> None:
        """Kill it, leave it dead for so long (s), start it and wait until it is ready."""


class Provider(Protocol):
    """A cluster to install the product into."""

    @property
    def name(self) -> str:
        """As in `CLUSTER=name`."""

    @property
    def folder(self) -> Path:
        """For files of this run."""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""

    @property
    def prometheus_url(self) -> str:
        """As pods say it. It scrapes pods with the configuration that users get."""

    @property
    def faults(self) -> Faults | None:
        """None: this cluster cannot be broken on purpose."""

    async def request(self, method: str, path: str, body: Object | None = None, token: str = "") -> tuple[int, Object]:
        """One JSON request: status and answer; status 0 when nobody answers."""

    def api(self) -> Api:
        """A session that can watch; to be closed by the caller."""

    async def apply(self, *objects: Object) -> None:
        """`kubectl apply`, server-side."""

    async def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """What kubectl printed. Raises ClusterError when it fails."""

    async def deployed(self, namespace: str, name: str, seconds: float = 60) -> None:
        """Wait until all pods of a Deployment are ready."""

    async def put_image(self, archive: Path, repository: str) -> str:
        """Let the cluster have an image (an OCI archive); returns its reference, pinned by digest."""

    async def reach(self, namespace: str, pod: str, address: str, port: int) -> tuple[str, int]:
        """Where this process reaches a port of a pod."""


@contextlib.asynccontextmanager
async def provided(name: str, folder: Path, pause: Path) -> AsyncIterator[Provider]:
    """The cluster of that name, for as long as the block runs. Raises ClusterError with what is missing."""
    if name == "node":
        async with NodeCluster.start(folder, pause) as cluster:
            yield cluster
    elif name in NAMES:
        async with elsewhere.found(name, folder) as cluster:
            yield cluster
    else:
        raise ClusterError(f"CLUSTER={name} is not known; there are {', '.join(NAMES)}")
