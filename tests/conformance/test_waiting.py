"""What a rollout waits for it names: routers that cannot start, and what cannot be kept of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conformance.conftest import Floor
from tests.conformance.desk import Desk
from tests.conformance.manifests import Object
from tests.operator_process import Operator
from tests.router.image import add_router_image

pytestmark = pytest.mark.cluster

MISSING = "registry.example/router@sha256:" + "0" * 64


def _operator(floor: Floor, namespace: str, folder: Path, image: str) -> Operator:
    url = floor.cluster.prometheus_url
    return Operator(floor.cluster, folder, namespaces=namespace, prometheus=url, router_image=image)


POLICIES = "/apis/admissionregistration.k8s.io/v1"


@contextlib.asynccontextmanager
async def _refused(floor: Floor, namespace: str) -> AsyncIterator[None]:
    """A policy of somebody else keeps what routers are made of from being stored in this namespace."""
    name = f"none-{namespace}"[:60]
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["controllerrevisions"]}
    policy: Object = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "resourceRules": [{**rule, "operations": ["CREATE"]}],
        },
        "validations": [{"expression": "!object.metadata.name.contains('-routers-')", "message": "too much history"}],
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    kinds = {"validatingadmissionpolicies": policy, "validatingadmissionpolicybindings": binding}
    for plural, spec in kinds.items():
        await floor.api.call("POST", f"{POLICIES}/{plural}", {"metadata": {"name": name}, "spec": spec})
    try:
        await asyncio.sleep(3)  # until the API server goes by it
        yield
    finally:
        for plural in kinds:
            await floor.api.delete(f"{POLICIES}/{plural}/{name}")


async def test_a_snapshot_of_routers_that_is_refused_is_named_with_the_reason(
    floor: Floor, namespace: str, tmp_path: Path
) -> None:
    image = add_router_image(floor.cluster.images)
    async with (
        _operator(floor, namespace, tmp_path, image).running(),
        Desk(floor.cluster, floor.api, namespace, "momentum").recorded() as desk,
    ):
        async with _refused(floor, namespace):
            await desk.apply("1.0.0", gates=[])
            status = await desk.reaches("InvalidTemplate")
            words = ("refuses ControllerRevision momentum-routers-", "too much history", "until it is kept")
            assert [word for word in words if word not in status["message"]] == [], status["message"]
            assert desk.condition("Stalled") == "True"
        await desk.reaches("Promoted", version="1.0.0", seconds=40)


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
