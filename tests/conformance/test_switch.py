"""Blue/green before and after the switch, and reverts that must work whatever else is broken: cases 19 to 23."""

from __future__ import annotations

from typing import Any

import pytest

from strategyrollout.api.meta import LABEL_REVISION
from tests.conformance.api_client import Refused
from tests.conformance.conftest import MakeDesk
from tests.conformance.desk import Desk
from tests.conformance.manifests import Object, blue_green, gate, steps

pytestmark = pytest.mark.cluster

PARK = steps(("10%", "1h"))


def behind_a_service(name: str, preview: str = "0s", **spec: Any) -> Object:
    """Blue/green of one Service."""
    traffic = {"service": {"name": f"{name}-orders"}, "drain": "100ms"}
    return {"method": blue_green(preview), "traffic": traffic, **spec}


async def _selected(desk: Desk) -> str:
    try:
        service = await desk.api.get(f"/api/v1/namespaces/{desk.namespace}/services/{desk.name}-orders")
    except Refused:
        return ""
    return str(service["spec"]["selector"][LABEL_REVISION])


async def _selects(desk: Desk, version: str, seconds: float = 10) -> None:
    async def check() -> bool:
        return await _selected(desk) == desk.hashes[version]

    await desk.until_async(f"the Service selects {version}", check, seconds)


async def test_case_19_a_gate_that_fails_before_the_switch_leaves_the_active_version_alone(switched: Desk) -> None:
    desk = switched
    spec = behind_a_service(desk.name, "3s", gates=[gate(when=["PreTrade"])])
    await desk.promoted("1.0.0", **spec)
    await _selects(desk, "1.0.0")
    await desk.apply("2.0.0", env={"SIGNALS": "rejects=0.8"}, **spec)
    status = await desk.reaches("Reverted")
    assert "rejects 0.8 > 0.5 at 0%" in status["message"]
    assert desk.weights("2.0.0") == [0]
    assert await _selected(desk) == desk.hashes["1.0.0"]


async def test_case_20_a_gate_that_fails_after_the_switch_brings_the_version_before_back(switched: Desk) -> None:
    desk = switched
    spec = behind_a_service(desk.name, bake={"duration": "1h"})
    await desk.promoted("1.0.0", **{**spec, "bake": {"duration": "0s"}})
    await desk.apply("2.0.0", **spec)
    await desk.reaches("Baking")
    await _selects(desk, "2.0.0")
    await desk.judged("Pass")
    await desk.signal("2.0.0", "rejects", "0.8")
    await desk.reaches("Reverted")
    await _selects(desk, "1.0.0")
    assert desk.table.cause.kind == "GateBreached"


@pytest.mark.parametrize("provider", ["service", "haproxy"])
async def test_case_21_traffic_leaves_a_crash_looping_version_at_once(desks: MakeDesk, provider: str) -> None:
    desk = await desks(flips=provider == "service")
    spec: Object = behind_a_service(desk.name) if provider == "service" else {"method": PARK}
    spec["gates"] = []
    await desk.promoted("1.0.0", **spec)
    await desk.apply("2.0.0", bake={"duration": "1h"}, **spec)
    await desk.reaches("Baking" if provider == "service" else "Holding")
    await desk.command("2.0.0", "/crash")
    await desk.until("it is not ready", lambda: _ready(desk, "2.0.0") == 0)
    await desk.rollback("crashes")
    await desk.until("all are back", lambda: desk.weight("1.0.0") == 10_000, 3)
    await desk.reaches("RolledBack")
    if provider == "service":
        await _selects(desk, "1.0.0", 3)
    else:
        await desk.serve("1.0.0", seconds=3)


def _ready(desk: Desk, version: str) -> int:
    found = [r["ready"] for r in desk.status.get("revisions", []) if r["revision"] == desk.hashes[version]]
    return found[0] if found else -1


@pytest.mark.parametrize("policy", ["MoveIfAnyReady", "Freeze"])
async def test_case_22_a_partly_unready_stable_takes_traffic_back_as_declared(desk: Desk, policy: str) -> None:
    spec: Object = {"replicas": 2, "onRevert": {"unready": policy}}
    await desk.promoted("1.0.0", **spec)
    await desk.apply("2.0.0", method=PARK, **spec)
    await desk.reaches("Holding", weight="10%")
    await desk.judged("Pass")
    await desk.unready("1.0.0")
    await desk.until("one pod of stable is ready", lambda: _ready(desk, "1.0.0") == 1)
    await desk.signal("2.0.0", "rejects", "0.9")
    if policy == "MoveIfAnyReady":
        await desk.until("all are back", lambda: desk.weight("1.0.0") == 10_000, 5)
        status = await desk.reaches("Reverted")
        assert "serving 1.0.0 with 1 of 2 pods ready" in status["message"]
        await desk.serve("1.0.0", seconds=3)
        return
    await desk.reaches("Reverting")
    await desk.stays(2, "it stays frozen", lambda: desk.weight("1.0.0") == 9_000 and desk.weight("2.0.0") == 0)
    assert "waiting for all pods of 1.0.0, 1/2 are ready (onRevert.unready: Freeze)" in desk.status["message"]
    await desk.command("1.0.0", "/ready?1")
    await desk.reaches("Reverted")
    assert desk.weight("1.0.0") == 10_000


async def test_case_23_a_revert_needs_no_gate_template(desk: Desk) -> None:
    template = {
        "apiVersion": "strategyrollout.io/v1alpha1",
        "kind": "GateTemplate",
        "metadata": {"name": f"{desk.name}-rejects", "namespace": desk.namespace},
        "spec": {
            "query": gate()["prometheus"]["query"],
            "limit": {"above": "{limit}"},
            "params": [{"name": "limit", "default": "0.5"}],
            "interval": "250ms",
            "maxAge": "2s",
        },
    }
    await desk.api.apply(template)
    gates = [{"name": "rejects", "template": {"kind": "GateTemplate", "name": f"{desk.name}-rejects"}}]
    await desk.promoted("1.0.0", gates=gates)
    await desk.apply("2.0.0", gates=gates, method=PARK)
    await desk.reaches("Holding", weight="10%")
    await desk.judged("Pass")
    await desk.api.delete(desk.path("gatetemplates", f"{desk.name}-rejects"))
    await desk.stays(1, "its snapshot counts", lambda: desk.weight("2.0.0") == 1_000)
    await desk.signal("2.0.0", "rejects", "0.9")
    await desk.until("all are back", lambda: desk.weight("1.0.0") == 10_000, 5)
    assert desk.table.cause.gate == "rejects"


async def test_case_23_a_revert_brings_a_deleted_service_back(switched: Desk) -> None:
    desk = switched
    spec = behind_a_service(desk.name)
    await desk.promoted("1.0.0", **spec)
    await desk.apply("2.0.0", bake={"duration": "1h"}, **spec)
    await desk.reaches("Baking")
    await desk.api.delete(f"/api/v1/namespaces/{desk.namespace}/services/{desk.name}-orders")
    await desk.rollback("no-service")
    await desk.reaches("RolledBack")
    await _selects(desk, "1.0.0")
