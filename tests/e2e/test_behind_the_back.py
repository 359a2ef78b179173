"""Somebody changes what a rollout stands on: a ConfigMap of its pods, or the whole namespace."""

from __future__ import annotations

from typing import Any

import pytest

from strategyrollout.api.meta import LABEL_REVISION, LABEL_ROLLOUT
from tests.cluster.processes import until
from tests.e2e.desk import Desk
from tests.e2e.site import Site
from tests.traffic.hands import NAME

pytestmark = pytest.mark.cluster

Object = dict[str, Any]
FROM: dict[str, Any] = {"envFrom": [{"configMapRef": {"name": "limits"}}]}


def _limits(desk: Desk, size: str) -> Object:
    metadata = {"name": "limits", "namespace": desk.namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"MAX_SIZE": size}}


async def _pinned(desk: Desk, revision: str) -> list[str]:
    """What the pods of a revision read, now and after any restart."""
    selector = f"{LABEL_ROLLOUT}={NAME},{LABEL_REVISION}={revision}"
    path = f"/api/v1/namespaces/{desk.namespace}/configmaps?labelSelector={selector}"
    _, listed = await desk.cluster.request("GET", path)
    return [body["data"]["MAX_SIZE"] for body in listed["items"]]


async def _starts(desk: Desk, revision: str) -> dict[str, int]:
    """Pod UID -> how often its container was started again."""
    return {
        pod["metadata"]["uid"]: pod["status"]["containerStatuses"][0]["restartCount"]
        for pod in await desk.pods(revision)
    }


async def test_a_configmap_changed_behind_the_back_is_a_new_revision_and_goes_back_like_any_other(desk: Desk) -> None:
    await desk.cluster.apply(_limits(desk, "10"))
    template = desk.template_of(await desk.site.image_of("1.0.0"), **FROM)
    stable = await desk.stable("1.0.0", template=template)
    before = await _starts(desk, stable)
    assert await _pinned(desk, stable) == ["10"]

    await desk.cluster.apply(_limits(desk, "1000000"))
    await desk.record.until("the change is on trial", lambda: desk.holds_at("30%"), 90)
    tried = desk.on_trial
    assert tried != stable
    assert (await _pinned(desk, stable), await _pinned(desk, tried)) == (["10"], ["1000000"])
    assert await _starts(desk, stable) == before

    await desk.roll_back()
    await desk.record.until("it is taken back", desk.taken_back, 60)
    await desk.everyone_is_served_by(stable)
    await desk.record.until("it stays taken back", lambda: desk.state("RolledBack", "1.0.0"), 30)
    assert await _starts(desk, stable) == before


async def test_a_namespace_deleted_in_mid_rollout_goes_and_leaves_the_operator_well(site: Site, desk: Desk) -> None:
    await desk.stable()
    await desk.candidate()
    starts = {pod["metadata"]["uid"]: _restarts(pod) for pod in await site.product.pods()}
    await desk.sender.stop()
    await desk.cluster.kubectl("delete", "namespace", desk.namespace, "--wait=false")

    async def gone() -> bool:
        return (await desk.cluster.request("GET", f"/api/v1/namespaces/{desk.namespace}"))[0] == 404

    await until("the namespace is gone, with everything in it", gone, 120)
    pods = await site.product.pods()
    assert {pod["metadata"]["uid"]: _restarts(pod) for pod in pods} == starts
    for pod in pods:
        status, words = await site.product.page(pod, "/readyz")
        assert status == 200, words

    async def forgotten() -> bool:
        _, metrics = await site.product.page(await site.product.leader(), "/metrics")
        told = [line for line in metrics.splitlines() if f'rollout_namespace="{desk.namespace}"' in line]
        return not any(line.startswith("strategyrollout_rollout_state") for line in told)

    await until("nothing is said of it any more", forgotten, 30)


def _restarts(pod: Object) -> list[int]:
    return [status["restartCount"] for status in pod["status"].get("containerStatuses") or []]
