"""Helm install, upgrade, rollback and uninstall under a rollout at 10 %: no pod restarts and no share moves."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from strategyrollout.api.meta import API_VERSION, LABEL_ROLE, LABEL_ROLLOUT, ROLE_ROUTER
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.conformance.manifests import CANARY, add_image, rollout, steps, template
from tests.conformance.orders import ACCOUNTS, order
from tests.install.helm import Values
from tests.install.image import add_operator_image, as_values
from tests.install.lifecycle import Release, Rollout, nothing_moves
from tests.router.image import add_router_image
from tests.traffic.record import Record, following

pytestmark = pytest.mark.cluster
NAME = "momentum"


class Strategy:
    """A rollout with everything the API ever held about it."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        # Shares are judged by every table; nothing here is measured in time.
        self.record = Record(namespace, NAME, tolerance=0)
        self.record.history.declare([0, 1_000, 5_000, 10_000])

    async def apply(self, version: str) -> None:
        """Ask for a version that holds at 10 %."""
        pods = template(add_image(self.cluster.images, f"{self.record.namespace}-{version}"), version)
        # A busy machine keeps this drain: an order that is cut would look as if somebody else served it.
        traffic = {**CANARY["traffic"], "drain": "2s"}
        spec = {"template": pods, "gates": [], "method": steps(("10%", ""), ("50%", "")), "traffic": traffic}
        await self.cluster.apply(rollout(self.record.namespace, NAME, version, **spec))

    async def reaches(self, state: str, field: str, value: str) -> None:
        """Wait for what the status says."""

        def so() -> bool:
            status, meta = self.record.status, self.record.rollout.get("metadata") or {}
            current = status.get("observedGeneration") == meta.get("generation")
            return current and (status.get("state"), status.get(field)) == (state, value)

        await self.record.until(f"{state}, {field} {value}", so, 60)

    async def served(self) -> list[tuple[str, str, str]]:
        """Who serves each account through each router: its pod, the account, the version."""
        selector = f"labelSelector={LABEL_ROLLOUT}={NAME},{LABEL_ROLE}={ROLE_ROUTER}"
        _, listed = await self.cluster.request("GET", f"/api/v1/namespaces/{self.record.namespace}/pods?{selector}")
        routers = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in listed["items"]}
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            return [(pod, a, await order(session, ip, a)) for pod, ip in sorted(routers.items()) for a in ACCOUNTS]

    async def serve(self, *versions: str) -> None:
        """Wait until all accounts are served, by these versions."""

        async def so() -> bool:
            return {version for _, _, version in await self.served()} == set(versions)

        await until(f"{versions} serve", so, 30)


async def scraped(cluster: Cluster, expression: str) -> None:
    """Wait until Prometheus, configured as users are told to, has exactly one such series above zero."""

    async def there() -> bool:
        return len(await cluster.query(f"{expression} > 0")) == 1

    await until(f"{expression} is scraped", there, 60)


async def test_a_release_comes_and_goes_and_the_rollout_does_not_notice(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    def values(build: str) -> Values:
        return {
            "image": as_values(add_operator_image(cluster.images, build)),
            "router": {"image": as_values(add_router_image(cluster.images, build))},
            "namespaces": [namespace],
        }

    strategy, recording = Strategy(cluster, namespace), AsyncExitStack()

    async def to_ten_percent() -> None:
        await recording.enter_async_context(following(cluster, strategy.record))
        await strategy.apply("1.0.0")
        await strategy.reaches("Promoted", "stableVersion", "1.0.0")
        await strategy.apply("2.0.0")
        await strategy.reaches("AwaitingResume", "weight", "10%")
        await strategy.serve("1.0.0", "2.0.0")

    operator = Release(cluster, f"release-{namespace[-6:]}".replace("--", "-"), f"{namespace}-operator", tmp_path)
    under = Rollout(cluster, namespace, NAME, lambda: strategy.record.tables, strategy.served)
    try:
        async with recording:
            await nothing_moves(operator, under, values("1"), newer=values("2"), start=to_ten_percent)
            path = f"/apis/{API_VERSION}/namespaces/{namespace}/strategyrollouts/{NAME}"
            await cluster.request("PATCH", path, {"metadata": {"annotations": {"strategyrollout.io/promote": "well"}}})
            await strategy.reaches("Promoted", "stableVersion", "2.0.0")
            await strategy.serve("2.0.0")
            await scraped(cluster, f'strategyrollout_is_leader{{namespace="{operator.namespace}"}}')
            router = f'namespace="{namespace}", rollout="{NAME}", role="router", proxy="orders"'
            await scraped(cluster, f"haproxy_frontend_http_requests_total{{{router}}}")
            strategy.record.history.assert_clean()
    finally:
        await operator.uninstall()
        await cluster.request("DELETE", f"/api/v1/namespaces/{operator.namespace}")
