"""Helm install, upgrade, rollback and uninstall under a rollout at 10 %: no pod restarts and no share moves."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from tests.cluster.cluster import Cluster
from tests.conformance.api_client import Api
from tests.conformance.desk import Desk
from tests.conformance.manifests import steps
from tests.conformance.orders import ACCOUNTS, order
from tests.install.helm import Values
from tests.install.image import add_operator_image, as_values
from tests.install.lifecycle import Release, Rollout, nothing_moves
from tests.router.image import add_router_image

pytestmark = pytest.mark.cluster


async def served(desk: Desk) -> list[tuple[str, str, str]]:
    """Who serves each account through each router."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        return [
            (pod["metadata"]["name"], account, await order(session, pod["status"]["podIP"], account))
            for pod in await desk.routers()
            for account in ACCOUNTS
        ]


async def test_a_release_comes_and_goes_and_the_rollout_does_not_notice(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    def values(build: str) -> Values:
        return {
            "image": as_values(add_operator_image(cluster.images, build)),
            "router": {"image": as_values(add_router_image(cluster.images, build))},
            "namespaces": [namespace],
            "log": {"level": "DEBUG", "format": "text"},
        }

    api = Api(cluster)
    desk = Desk(cluster, api, namespace, "momentum")
    operator = Release(cluster, f"operator-{namespace[-8:]}".replace("--", "-"), f"{namespace}-operator", tmp_path)

    recording = AsyncExitStack()

    async def to_ten_percent() -> None:
        await recording.enter_async_context(desk.recorded())
        method = steps(("10%", ""), ("50%", ""))
        await desk.promoted("1.0.0", gates=[], method=method)
        await desk.apply("2.0.0", gates=[], method=method)
        await desk.reaches("AwaitingResume", weight="10%")
        await desk.serve("1.0.0", "2.0.0")

    rollout = Rollout(cluster, namespace, "momentum", lambda: desk.tables, lambda: served(desk))
    try:
        async with recording:
            await nothing_moves(operator, rollout, values("1"), newer=values("2"), start=to_ten_percent)
            await desk.annotate("promote", "all is well")
            await desk.reaches("Promoted", version="2.0.0", seconds=60)
            await desk.serve("2.0.0")
    finally:
        await operator.uninstall()
        await cluster.request("DELETE", f"/api/v1/namespaces/{operator.namespace}")
        await api.close()
