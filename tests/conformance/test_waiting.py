"""What a rollout waits for it names: routers that cannot start, and what cannot be kept of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.conftest import Floor
from tests.conformance.desk import Desk
from tests.conformance.manifests import Object
from tests.operator_process import Operator

pytestmark = pytest.mark.cluster

MISSING = "registry.example/router@sha256:" + "0" * 64


def _operator(floor: Floor, namespace: str, folder: Path, image: str) -> Operator:
    url = floor.cluster.prometheus_url
    return Operator(floor.cluster, folder, namespaces=namespace, prometheus=url, router_image=image)


async def test_routers_that_cannot_start_are_named_with_the_reason(
    floor: Floor, namespace: str, tmp_path: Path
) -> None:
    async with (
        _operator(floor, namespace, tmp_path, MISSING).running(),
        Desk(floor.cluster, floor.api, namespace, "momentum").recorded() as desk,
    ):
        spec: Object = {"gates": []}
        await desk.apply("1.0.0", **spec)
        words = ("no router is ready to serve it: pod momentum-", "ImagePullBackOff")
        await desk.until(
            "the pod is named", lambda: all(word in desk.status.get("message", "") for word in words), seconds=30
        )
        assert desk.status["state"] == "Starting"
        assert (desk.condition("Available"), desk.condition("Promoted")) == ("False", "False")
