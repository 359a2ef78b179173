"""Two operators in one namespace, told apart by the labels of rollouts: neither touches what is the other's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from strategyrollout.api import meta
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.loop.conftest import Body, Desk
from tests.operator_process import Operator

pytestmark = pytest.mark.cluster

LEASES = "/apis/coordination.k8s.io/v1"


@pytest_asyncio.fixture
async def operators(prepared: Cluster, namespace: str, tmp_path: Path) -> AsyncIterator[dict[str, Operator]]:
    async with AsyncExitStack() as stack:
        made = {}
        for team in ("fx", "rates"):
            operator = Operator(prepared, tmp_path / team, namespaces=namespace, selector=f"team={team}", resync="1s")
            made[team] = await stack.enter_async_context(operator.running())
        yield made


async def label(desk: Desk, name: str, team: str) -> None:
    await desk.cluster.kubectl("label", "sro", name, "-n", desk.namespace, f"team={team}", "--overwrite")


async def labelled(desk: Desk, name: str, team: str) -> None:
    """A first version of this team's rollout; before it has its label, it is nobody's."""
    await desk.apply(name)
    await label(desk, name, team)
    await desk.reaches(name, "Promoted", "1.0.0")


async def rollback(desk: Desk, name: str, rollout: str) -> None:
    await desk.cluster.apply(
        {
            "apiVersion": meta.API_VERSION,
            "kind": "Rollback",
            "metadata": {"name": name, "namespace": desk.namespace},
            "spec": {"rollout": rollout, "reason": "test"},
        }
    )


async def outcome(desk: Desk, name: str) -> str:
    return str(((await desk.get("rollbacks", name)) or {}).get("status", {}).get("outcome") or "")


async def lease(desk: Desk, name: str, rollout: str, uid: str, state: str) -> None:
    """A router's Lease that nobody has renewed for an hour."""
    long_ago = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    body: dict[str, Any] = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": desk.namespace,
            "labels": {meta.LABEL_ROLLOUT: rollout, meta.LABEL_ROLLOUT_UID: uid},
            "annotations": {meta.ANNOTATION_CONSUMER: state, meta.ANNOTATION_ACKED: "0"},
        },
        "spec": {"renewTime": long_ago, "leaseDurationSeconds": 180, "holderIdentity": name},
    }
    await desk.cluster.apply(body)


async def test_each_looks_after_its_own_alone(operators: dict[str, Operator], desk: Desk) -> None:
    await labelled(desk, "eurusd", "fx")
    await labelled(desk, "bunds", "rates")
    for operator in operators.values():
        assert await operator.metric("strategyrollout_rollouts") == 1
        assert await operator.metric("version_activations_total") == 1
    await operators["rates"].stop()
    await rollback(desk, "of-theirs", "bunds")
    await rollback(desk, "of-nobody", "nowhere")

    async def refused() -> bool:
        return await outcome(desk, "of-nobody") == "Refused"

    await until("what names nothing is refused", refused, 15)
    await asyncio.sleep(3)
    assert await outcome(desk, "of-theirs") == ""
    await operators["rates"].start()

    async def answered() -> bool:
        return await outcome(desk, "of-theirs") not in ("", "Running")

    await until("its own operator answers", answered, 15)
    found = await desk.get("rollbacks", "of-theirs") or {}
    assert "there is no StrategyRollout" not in found["status"].get("message", "")


async def test_leases_of_another_operators_routers_are_left_alone(operators: dict[str, Operator], desk: Desk) -> None:
    await labelled(desk, "bunds", "rates")
    theirs: Body = await desk.get("strategyrollouts", "bunds") or {}
    uid = theirs["metadata"]["uid"]
    await operators["rates"].stop()
    await lease(desk, "open", "bunds", uid, meta.CONSUMER_OPEN)
    await lease(desk, "closed", "bunds", uid, meta.CONSUMER_CLOSED)
    await lease(desk, "orphan", "bunds", "of-an-earlier-rollout", meta.CONSUMER_OPEN)

    async def tidied_up() -> bool:
        return await desk.get("leases", "orphan", LEASES) is None

    await until("the Lease of a rollout that is gone is deleted", tidied_up, 15)
    await asyncio.sleep(3)
    for name, state in (("open", meta.CONSUMER_OPEN), ("closed", meta.CONSUMER_CLOSED)):
        found = await desk.get("leases", name, LEASES)
        assert found is not None
        assert found["metadata"]["annotations"][meta.ANNOTATION_CONSUMER] == state
    await operators["rates"].start()


async def test_a_rollout_changes_hands_by_its_label_and_back(operators: dict[str, Operator], desk: Desk) -> None:
    await labelled(desk, "momentum", "fx")
    for team, other, version in (("rates", "fx", "1.1.0"), ("fx", "rates", "1.2.0")):
        await label(desk, "momentum", team)

        async def handed_over(team: str = team, other: str = other) -> bool:
            counts = [await operators[t].metric("strategyrollout_rollouts") for t in (team, other)]
            return counts == [1, 0]

        await until(f"it is with {team}", handed_over, 10)
        await desk.apply("momentum", version)
        await desk.reaches("momentum", "Promoted", version)
        assert await operators[team].metric("version_activations_total", version=version) == 1
        assert await operators[other].metric("version_activations_total", version=version) == 0
