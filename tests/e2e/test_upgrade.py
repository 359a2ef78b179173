"""The operator is upgraded, rolled back, removed and installed again under a rollout; only the next version notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from strategyrollout.api.meta import LABEL_ROLE, LABEL_ROLLOUT, ROLE_ROUTER
from tests.cluster.processes import until
from tests.e2e import setting
from tests.e2e.desk import Desk
from tests.e2e.product import NAMESPACE, RELEASE, Product
from tests.e2e.site import Site
from tests.images import Image, relabelled
from tests.install.lifecycle import Release, Rollout, Unmoved, nothing_moves
from tests.traffic.hands import NAME

pytestmark = pytest.mark.cluster

Object = dict[str, Any]


@pytest_asyncio.fixture
async def as_it_was(site: Site) -> AsyncIterator[None]:
    """Whatever becomes of the release, the tests that follow find the usual one."""
    yield
    await site.product.install()


async def newer(site: Site, build: str) -> Product:
    """The product with other images: the same files under other digests."""
    built = setting.images()
    references = {part: await _stored(site, built[part], build) for part in ("operator", "router")}
    return Product(site.cluster, references)


async def _stored(site: Site, image: Image, build: str) -> str:
    other = await asyncio.to_thread(relabelled, image, {"build": build})
    return await site.cluster.put_image(other.archive, other.name)


def rollout(desk: Desk) -> Rollout:
    """The desk's rollout as something that must not notice."""
    return Rollout(desk.cluster, desk.namespace, NAME, lambda: desk.record.tables, desk.sender.ask_everyone)


async def _router_images(desk: Desk) -> set[str]:
    selector = f"{LABEL_ROLLOUT}={NAME},{LABEL_ROLE}={ROLE_ROUTER}"
    _, listed = await desk.cluster.request("GET", f"/api/v1/namespaces/{desk.namespace}/pods?labelSelector={selector}")
    return {container["image"] for pod in listed["items"] for container in pod["spec"]["containers"]}


@pytest.mark.usefixtures("as_it_was")
async def test_helm_install_upgrade_rollback_and_uninstall_at_10_percent(
    site: Site, desk: Desk, tmp_path: Path
) -> None:
    desk.times = replace(desk.times, steps=("10%", "50%"))
    release = Release(site.cluster, RELEASE, NAMESPACE, tmp_path)
    await release.uninstall()

    async def to_ten_percent() -> None:
        await desk.stable()
        await desk.candidate()
        assert desk.record.share(desk.on_trial) == 1_000

    other = await newer(site, "lifecycle")
    await nothing_moves(release, rollout(desk), site.product.values(), newer=other.values(), start=to_ten_percent)
    await desk.promoted("2.0.0")


@pytest.mark.usefixtures("as_it_was")
async def test_routers_become_those_of_an_upgraded_operator_with_the_next_version_and_lose_no_order(
    site: Site, desk: Desk
) -> None:
    await desk.stable()
    await desk.candidate()
    unmoved = Unmoved(rollout(desk))
    await unmoved.remember()
    old = await _router_images(desk)
    other = await newer(site, "mid-rollout")
    await other.install()
    await asyncio.sleep(12)  # a resync is every 10 s: everything was looked at once more
    await unmoved.check("the upgrade")
    await desk.promoted("2.0.0")
    assert await _router_images(desk) == old
    await desk.candidate("3.0.0")

    async def replaced() -> bool:
        return await _router_images(desk) == {other.images["router"]}

    await until("all routers are those of the newer operator", replaced, 90)
    await desk.routers_ready()
    await desk.promoted("3.0.0")
