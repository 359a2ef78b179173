"""A newer version's field in a running rollout, and an operator that does not know it: the candidate stays judged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.api.install import CRDS, install_crds
from tests.conformance.conftest import Floor
from tests.conformance.desk import Desk
from tests.conformance.manifests import Object, gate, steps
from tests.conformance.test_switch import behind_a_service
from tests.operator_process import Operator
from tests.router.image import add_router_image

pytestmark = pytest.mark.cluster

LONG = steps(("10%", "1h"))


def _newer(value: Any) -> None:
    """Let fields take values that a later version may bring."""
    if isinstance(value, dict):
        for name, child in value.items():
            if name in ("onDeadline", "severity") and isinstance(child, dict) and "enum" in child:
                child["enum"].append("Page")
            _newer(child)
    elif isinstance(value, list):
        for child in value:
            _newer(child)


@pytest_asyncio.fixture
async def newer_api(floor: Floor) -> AsyncIterator[None]:
    """The API server of a cluster in which a later version was installed."""
    crd = yaml.safe_load((CRDS / "strategyrollouts.yaml").read_text())
    _newer(crd)
    await floor.cluster.apply(crd)
    yield
    await install_crds(floor.cluster)


@pytest_asyncio.fixture
async def older(floor: Floor, namespace: str, tmp_path: Path) -> AsyncIterator[Operator]:
    """An operator of its own, to be killed."""
    image, url = add_router_image(floor.cluster.images), floor.cluster.prometheus_url
    operator = Operator(floor.cluster, tmp_path, namespaces=namespace, prometheus=url, router_image=image)
    async with operator.running():
        yield operator
        assert "Traceback" not in operator.log.read_text()


async def _desk(floor: Floor, namespace: str, *, flips: bool = False) -> Desk:
    return Desk(floor.cluster, floor.api, namespace, "momentum", flips=flips)


async def _cannot_be_read(desk: Desk, *problems: str) -> None:
    """A later version's values are applied; that is reported, with who is judged by what."""
    spec: Object = {"onDeadline": "Page", "gates": [gate(severity="Page")]}
    await desk.api.merge(desk.path(), {"spec": spec})
    await desk.until("it is InvalidSpec", lambda: desk.status.get("state") == "InvalidSpec")
    assert [word for word in ("spec.", "Input should be", *problems) if word not in desk.status["message"]] == []


@pytest.mark.usefixtures("newer_api")
@pytest.mark.parametrize("restart", [False, True], ids=["by the same process", "by one that has never read it"])
async def test_a_candidate_whose_spec_cannot_be_read_is_judged_by_the_gates_it_began_with(
    floor: Floor, older: Operator, namespace: str, restart: bool
) -> None:
    async with (await _desk(floor, namespace)).recorded() as desk:
        await desk.promoted("1.0.0")
        await desk.apply("2.0.0", method=LONG)
        await desk.reaches("Holding", weight="10%")
        await desk.judged("Pass")
        await _cannot_be_read(desk, "2.0.0 stays at 10%, judged by rejects")
        if restart:
            await older.kill()
            await older.start()
        await desk.judged("Pass")
        await desk.stays(2, "it stays at 10 %", lambda: desk.weight("2.0.0") == 1_000)
        await desk.signal("2.0.0", "rejects", "0.9")
        await desk.until("everything is back", lambda: desk.weight("1.0.0") == 10_000, 10)
        cause = next(t.cause for t in desk.tables if t.record.revert)
        assert (cause.kind, cause.gate, cause.limit) == ("GateBreached", "rejects", "> 0.5")
        await desk.serve("1.0.0")


@pytest.mark.usefixtures("newer_api")
async def test_a_service_is_switched_back_although_the_spec_cannot_be_read(
    floor: Floor, older: Operator, namespace: str
) -> None:
    async with (await _desk(floor, namespace, flips=True)).recorded() as desk:
        spec = behind_a_service(desk.name, bake={"duration": "1h"})
        await desk.promoted("1.0.0", **{**spec, "bake": {"duration": "0s"}})
        await desk.apply("2.0.0", **spec)
        await desk.reaches("Baking")
        await desk.judged("Pass")
        await _cannot_be_read(desk, "2.0.0 stays at 100%, judged by rejects")
        await older.kill()
        await older.start()
        await desk.signal("2.0.0", "rejects", "0.9")
        path = f"/api/v1/namespaces/{namespace}/services/{desk.name}-orders"

        async def back() -> bool:
            selector = (await desk.api.get(path))["spec"]["selector"]
            return bool(selector["strategyrollout.io/revision"] == desk.hashes["1.0.0"])

        await desk.until_async("the Service selects 1.0.0", back, 20)
