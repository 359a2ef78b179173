"""A rollout is deleted, and another one of its name takes its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from strategyrollout.api.meta import API_VERSION, LABEL_ROLLOUT
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.traffic.desk import NAME, Desk, Times, desk_of

pytestmark = pytest.mark.cluster


async def _names(desk: Desk, collection: str) -> list[str]:
    path = f"{collection}?labelSelector={LABEL_ROLLOUT}={NAME}"
    status, listed = await desk.cluster.request("GET", path)
    assert status == 200, listed
    return [str(item["metadata"]["name"]) for item in listed["items"]]


async def test_nothing_stays_behind_of_a_deleted_rollout(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    async with desk_of(cluster, namespace, tmp_path, Times(routers=2), tolerance=300) as desk:
        await desk.stable()
        assert len(await _names(desk, f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")) == 2
        path = f"/apis/{API_VERSION}/namespaces/{namespace}/strategyrollouts/{NAME}"
        assert (await cluster.request("DELETE", path))[0] == 200
        left: dict[str, list[str]] = {}

        async def nothing() -> bool:
            for collection in (
                f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
                f"/api/v1/namespaces/{namespace}/pods",
                f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions",
                f"/api/v1/namespaces/{namespace}/configmaps",
            ):
                left[collection] = await _names(desk, collection)
            return not any(left.values())

        try:
            await until("nothing is left", nothing, 60)
        finally:
            print(left)


async def test_a_rollout_of_the_same_name_says_what_it_waits_for_and_follows_as_soon_as_it_can(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with desk_of(cluster, namespace, tmp_path, Times(routers=2), tolerance=300) as desk:
        await desk.stable()
        before = desk.record.rollout["metadata"]["uid"]
        path = f"/apis/{API_VERSION}/namespaces/{namespace}/strategyrollouts/{NAME}"
        assert (await cluster.request("DELETE", path))[0] == 200
        await desk.apply("1.0.0")
        await desk.record.until("it is the new one", lambda: desk.record.rollout["metadata"]["uid"] != before)
        await desk.record.until("it serves", lambda: desk.record.status.get("state") == "Promoted", 60)
        said = [words for _, _, words in desk.record.said if "earlier rollout of this name" in words]
        assert said
        assert desk.record.table.rollout_uid == desk.record.rollout["metadata"]["uid"]
        assert desk.record.table.record.routers is not None
