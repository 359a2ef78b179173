"""A rollout with routers and strategies that really run, the operator beside it, and hands for what people do."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.api.install import install_crds
from tests.cluster.cluster import Cluster
from tests.operator_process import Operator
from tests.router.image import add_router_image
from tests.strategy.image import add_image, pod_template
from tests.traffic.hands import ACCOUNTS, NAME, Hands, Times, is_ready
from tests.traffic.record import Object, Record, following

__all__ = ["ACCOUNTS", "NAME", "Desk", "Times", "desk_of", "is_ready"]


class Desk(Hands):
    """One rollout and everything around it on this machine."""

    def __init__(self, cluster: Cluster, folder: Path, record: Record, operator: Operator, times: Times) -> None:
        super().__init__(cluster, folder, record, times)
        self.cluster = cluster
        self.operator = operator

    async def template(self, version: str) -> Object:
        """All strategies write into one file."""
        return pod_template(add_image(self.cluster.images, version), order_log=self.order_log)


@contextlib.asynccontextmanager
async def desk_of(
    cluster: Cluster, namespace: str, folder: Path, times: Times, tolerance: int, **settings: str
) -> AsyncIterator[Desk]:
    """A namespace with a running operator of its own, with these settings, and nothing in it yet."""
    await install_crds(cluster)
    record = Record(namespace, NAME, tolerance)
    operator = Operator(
        cluster,
        folder,
        None,
        namespaces=namespace,
        router_image=add_router_image(cluster.images),
        prometheus=cluster.prometheus_url,
        **settings,
    )
    async with operator.running(), following(cluster, record):
        yield Desk(cluster, folder, record, operator, times)
