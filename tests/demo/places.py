"""Where the story is played: on pods that are processes, without root; or on a real node, with the product installed.

The story does not know which: it applies, asks, sends orders and reads what strategies say.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.api.install import install_crds
from tests.cluster.__main__ import how_to_enter
from tests.cluster.access import Access
from tests.cluster.cluster import Cluster
from tests.cluster.realnode.addons import MONITORING, PROMETHEUS_PORT
from tests.demo import manifests
from tests.e2e import site
from tests.e2e.keep import how_to_join
from tests.e2e.logs import OrderLogs
from tests.operator_process import Operator
from tests.router.image import add_router_image
from tests.strategy.image import add_image, pod_template

Object = dict[str, Any]
NAMES = ("process", "node")
_EVIDENCE = {
    "manifests/": "what was applied",
    "assignments.jsonl": "every version of the TrafficAssignment, as the API server sent it",
    "orders.jsonl": "every order, as the strategies saw it",
}


@dataclass(frozen=True)
class Place:
    """A cluster in which the operator works."""

    cluster: Access
    prometheus: str
    """As this process reaches it."""
    order_log: Path
    image_of: Callable[[str], Awaitable[str]]
    """The strategy's image of a version."""
    template: Callable[[str], Object]
    """A pod template with that image, whose orders get into `order_log`."""
    evidence: dict[str, str]
    enter: str
    """How a person gets in."""


PROCESS = "A cluster: etcd, API server, controllers, scheduler, Prometheus, a node whose pods are processes"
NODE = "A cluster: a real node with kubelet and containerd; Prometheus and the operator from its chart run in it"


@contextlib.asynccontextmanager
async def process(folder: Path) -> AsyncIterator[Place]:
    """The operator is a process beside the cluster."""
    async with Cluster.start(folder, scrape_interval="250ms") as cluster:
        await install_crds(cluster)
        operator = Operator(
            cluster,
            folder,
            prometheus=cluster.prometheus_url,
            router_image=add_router_image(cluster.images),
            resync="2m",
            check="5s",
            live_numbers="1s",
        )
        log = folder / "orders.jsonl"

        async def image_of(version: str) -> str:
            return add_image(cluster.images, version)

        evidence = _EVIDENCE | {
            "evidence.jsonl": "every decision of the operator, with its inputs",
            "operator.log, logs/": "logs of the operator and of the cluster's programs",
            "nodes/*/logs": "logs of the pods' containers",
        }
        async with operator.running():
            yield Place(
                cluster,
                cluster.prometheus_url,
                log,
                image_of,
                lambda image: pod_template(image, order_log=log),
                evidence,
                how_to_enter(cluster),
            )


@contextlib.asynccontextmanager
async def node(folder: Path) -> AsyncIterator[Place]:
    """The product is installed by its chart; strategies tell their orders on standard output."""
    async with site.made("node", folder) as made:
        cluster = made.cluster
        assert isinstance(cluster, Access)
        log = folder / "orders.jsonl"
        _, service = await cluster.request("GET", f"/api/v1/namespaces/{MONITORING}/services/prometheus")
        address = service["spec"]["clusterIP"]
        evidence = _EVIDENCE | {
            "logs/": "logs of the cluster's programs",
            "pods/": "logs of the pods' containers, the operator's among them",
        }
        async with OrderLogs(manifests.NAMESPACE, log).read(made.cluster):
            yield Place(
                cluster,
                f"http://{address}:{PROMETHEUS_PORT}",
                log,
                made.image_of,
                lambda image: pod_template(image, order_log=Path("-")),
                evidence,
                how_to_join(folder),
            )
