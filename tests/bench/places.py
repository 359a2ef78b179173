"""Where a rollout with real routers is measured: pods that are processes, or a real node with the product installed.

What is measured, and how, does not know which: one.py. In both the metric and its Prometheus are the bench's own, and
the cluster's Prometheus, whose discovery of pods would be load that nobody needs, is stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.api.install import install_crds
from tests.bench.crowd import PRODUCTION
from tests.bench.footprint import Measured
from tests.bench.signals import PORT, Signals
from tests.cluster.access import Access
from tests.cluster.cluster import Cluster
from tests.cluster.processes import ClusterError, until
from tests.cluster.realnode.addons import MONITORING
from tests.cluster.realnode.cluster import NodeCluster
from tests.cluster.realnode.place import ADDRESS, keep_volumes_in
from tests.e2e import setting, site
from tests.e2e.product import Product
from tests.operator_process import Operator
from tests.router.image import add_router_image
from tests.strategy.image import add_image, pod_template

Object = dict[str, Any]
_EVIDENCE = "evidence"


@dataclass(frozen=True)
class Place:
    """A cluster in which the operator works with its production settings."""

    cluster: Access
    signals: Signals
    operator: Measured
    """The one that leads."""
    evidence: tuple[Path, ...]
    """Decisions of every replica."""
    template: Callable[[str], Awaitable[Object]]
    """The pod template of a version of the strategy."""


@contextlib.asynccontextmanager
async def process(folder: Path, scrape: str) -> AsyncIterator[Place]:
    """The operator is a process beside the cluster, alone, with the rights of an administrator."""
    async with Cluster.start(folder / "cluster") as cluster, Signals(folder, scrape).running() as signals:
        await cluster.stop_prometheus()
        await install_crds(cluster)
        settings = {**PRODUCTION, "prometheus": signals.url, "router_image": add_router_image(cluster.images)}

        async def template(version: str) -> Object:
            return pod_template(add_image(cluster.images, version))

        async with Operator(cluster, folder, None, **settings).running() as operator:
            yield Place(cluster, signals, operator, (operator.evidence,), template)


@contextlib.asynccontextmanager
async def node(folder: Path, scrape: str) -> AsyncIterator[Place]:
    """The operator is installed by its chart: two replicas in their image, with the rights and policies it ships."""
    images = setting.images()
    keep_volumes_in(folder / "volumes")  # as users have them, slow disks included
    async with (
        NodeCluster.start(folder / "cluster", images["pause"].archive) as cluster,
        Signals(folder, scrape, ADDRESS).running() as signals,
    ):
        await cluster.kubectl("scale", "deployment/prometheus", "-n", MONITORING, "--replicas=0")
        made = await site.installed(cluster, images, _values(signals))
        leader = await _leader(made.product)
        evidence = [cluster.volume(pod, _EVIDENCE) / _EVIDENCE for pod in await made.product.pods()]

        async def template(version: str) -> Object:
            return pod_template(await made.image_of(version))

        operator = _Leader(made.product, leader, cluster.faults.pid(leader))
        yield Place(cluster, signals, operator, tuple(evidence), template)


def _values(signals: Signals) -> Object:
    """The chart's own, with the evidence by which the moment of a write is known."""
    return {
        "prometheus": signals.url,
        "networkPolicy": {"prometheus": {"ports": [PORT]}},
        "log": {"format": PRODUCTION["log_format"]},
        "settings": {
            "resync": PRODUCTION["resync"],
            "check": PRODUCTION["check"],
            "liveNumbers": PRODUCTION["live_numbers"],
            "evidence": f"/{_EVIDENCE}/{_EVIDENCE}",
        },
        "extraVolumes": [{"name": _EVIDENCE, "emptyDir": {}}],
        "extraVolumeMounts": [{"name": _EVIDENCE, "mountPath": f"/{_EVIDENCE}"}],
    }


@dataclass(frozen=True)
class _Leader:
    """A replica in its pod."""

    product: Product
    pod: Object
    pid: int

    async def page(self, path: str) -> tuple[int, str]:
        return await self.product.page(self.pod, path)


async def _leader(product: Product) -> Object:
    found: list[Object] = []

    async def one_leads() -> bool:
        with contextlib.suppress(ClusterError):
            found[:] = [await product.leader()]
        return bool(found)

    await until("one replica leads", one_leads, 30)
    return found[0]
