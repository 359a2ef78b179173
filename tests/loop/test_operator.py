"""The whole operator process on a real API server: what comes in, what it survives, how it ends."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from strategyrollout.cluster.access import from_kubeconfig
from strategyrollout.cluster.kinds import WATCHED
from strategyrollout.process import Process
from strategyrollout.settings import Settings
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.loop.conftest import Body, Desk, template
from tests.operator_process import Operator

TEMPLATE = {
    "apiVersion": "strategyrollout.io/v1alpha1",
    "kind": "GateTemplate",
    "metadata": {"name": "fine"},
    "spec": {"query": "strategy_rejects", "limit": {"above": "1"}},
}


async def test_01_a_first_version_is_promoted_and_says_so(operator: Operator, desk: Desk) -> None:
    await desk.apply("momentum")
    status = await desk.reaches("momentum", "Promoted", "1.0.0")
    assert status["weight"] == "100%"
    service = await desk.get("services", "momentum-orders", "/api/v1")
    assert service is not None
    assert service["spec"]["selector"]["strategyrollout.io/revision"] == status["stable"]


async def test_02_each_version_follows_the_one_before(operator: Operator, desk: Desk) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        await desk.apply("momentum", version)
        await desk.reaches("momentum", "Promoted", version)
    assert await operator.metric("canary_traffic_percent", strategy="momentum", version="1.2.0") == 100
    assert await operator.metric("canary_traffic_percent", strategy="momentum", version="1.1.0") == 0
    assert await operator.metric("version_activations_total", strategy="momentum") == 3


BAD: dict[str, tuple[Body, str, str]] = {
    "a pod template with a typo": (
        {"template": template(imagePullPolice="Always")},
        "InvalidTemplate",
        "imagePullPolice",
    ),
    "a missing ConfigMap": (
        {"template": template(envFrom=[{"configMapRef": {"name": "nowhere"}}])},
        "MissingInput",
        "spec.template.spec.containers[0].envFrom[0].configMapRef.name",
    ),
    "a missing gate template": (
        {"gates": [{"name": "g", "template": {"kind": "GateTemplate", "name": "nowhere"}}]},
        "InvalidGate",
        "spec.gates[g].template",
    ),
}


async def test_38_objects_that_cannot_work_disturb_nobody_and_recover_when_mended(
    operator: Operator, desk: Desk
) -> None:
    await asyncio.gather(*(desk.apply(f"bad-{n}", **spec) for n, (spec, _, _) in enumerate(BAD.values())))
    for n, (_, reason, path) in enumerate(BAD.values()):
        status = await desk.reaches(f"bad-{n}", reason)
        assert path in status["message"]
        stalled = next(c for c in status["conditions"] if c["type"] == "Stalled")
        assert stalled["status"] == "True"
    await desk.apply("good")
    await desk.reaches("good", "Promoted", "1.0.0", seconds=5)
    await desk.apply("bad-0", template=template())
    await desk.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "nowhere", "namespace": desk.namespace},
            "data": {"a": "b"},
        },
        {**TEMPLATE, "metadata": {"name": "nowhere", "namespace": desk.namespace}},
    )
    for n in range(len(BAD)):
        await desk.reaches(f"bad-{n}", "Promoted", "1.0.0")
    assert "Traceback" not in operator.log.read_text()


async def test_40_a_killed_operator_goes_on_where_it_was(operator: Operator, desk: Desk) -> None:
    await desk.apply("momentum")
    await desk.reaches("momentum", "Promoted", "1.0.0")
    await desk.apply("momentum", "1.1.0", bake={"duration": "15s"})
    await desk.reaches("momentum", "Baking")
    before = await desk.get("trafficassignments", "momentum")
    assert before is not None
    await operator.kill()
    await operator.start()
    after = await desk.get("trafficassignments", "momentum")
    assert after is not None
    assert after["spec"] == before["spec"]
    await desk.reaches("momentum", "Promoted", "1.1.0")
    promoted = await desk.get("trafficassignments", "momentum")
    assert promoted is not None
    baked = promoted["spec"]["cause"]["at"] - before["spec"]["record"]["attempt"]["heldFrom"]
    assert 15_000 <= baked < 16_500


async def test_deleted_while_the_operator_was_away_leaves_nothing_behind(operator: Operator, desk: Desk) -> None:
    await desk.apply("momentum")
    await desk.apply("other")
    await desk.reaches("momentum", "Promoted")
    await operator.kill()
    await desk.cluster.kubectl("delete", "sro", "momentum", "-n", desk.namespace)
    await operator.start()
    await desk.reaches("other", "Promoted")
    assert await operator.metric("strategyrollout_rollouts") == 1
    await desk.apply("momentum", "2.0.0")
    await desk.reaches("momentum", "Promoted", "2.0.0")


async def test_what_people_change_by_hand_is_mended(operator: Operator, desk: Desk) -> None:
    await desk.apply("momentum")
    status = await desk.reaches("momentum", "Promoted")
    deployment = f"momentum-{status['stable']}"
    await desk.cluster.kubectl("scale", "deployment", deployment, "--replicas=0", "-n", desk.namespace)
    await desk.cluster.kubectl("delete", "service", "momentum-orders", "-n", desk.namespace)

    async def mended() -> bool:
        found = await desk.get("deployments", deployment, "/apis/apps/v1")
        service = await desk.get("services", "momentum-orders", "/api/v1")
        return found is not None and service is not None and found["spec"]["replicas"] == 1

    await until("the children are as they should be", mended, 10)


async def test_a_rollback_of_nothing_is_answered(operator: Operator, desk: Desk) -> None:
    await desk.cluster.apply(
        {
            "apiVersion": "strategyrollout.io/v1alpha1",
            "kind": "Rollback",
            "metadata": {"name": "oops", "namespace": desk.namespace},
            "spec": {"rollout": "nothing", "reason": "wrong name"},
        }
    )

    async def answered() -> bool:
        found = await desk.get("rollbacks", "oops") or {}
        return bool(found.get("status", {}).get("outcome") == "Refused")

    await until("the request is refused", answered, 10)


async def test_the_end_is_orderly_and_quick(operator: Operator, desk: Desk) -> None:
    await desk.apply("momentum")
    await desk.reaches("momentum", "Promoted")
    assert await operator.page("/livez") == (200, "ok\n")
    began = asyncio.get_running_loop().time()
    assert await operator.stop() == 0
    assert asyncio.get_running_loop().time() - began < 5
    assert operator.evidence.read_text().count("\n") >= 3
    await operator.start()


async def test_missing_permissions_are_named_and_nothing_crashes(
    prepared: Cluster, namespace: str, tmp_path: Path
) -> None:
    kubeconfig = await prepared.service_account_kubeconfig(namespace, "default")
    operator = Operator(prepared, tmp_path, kubeconfig, namespaces=namespace)
    await operator.start(ready=False)

    async def explained() -> bool:
        status, text = await operator.page("/readyz")
        return status == 503 and "RBAC does not allow to update trafficassignments.strategyrollout.io" in text

    await until("the missing verbs are named", explained, 15)
    assert (await operator.page("/livez"))[0] == 200
    assert await operator.stop() == 0


async def test_a_bad_setting_ends_the_process_at_once(prepared: Cluster, tmp_path: Path) -> None:
    operator = Operator(prepared, tmp_path, resync="soon")
    await operator.start(ready=False)
    assert await operator.ended(10) == 2
    assert "STRATEGYROLLOUT_RESYNC='soon' must be a duration" in operator.last_words()


@pytest.fixture
def inside(prepared: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Process:
    """An operator in this very process, so that a test can take parts of it away."""
    monkeypatch.setenv("KUBECONFIG", str(prepared.kubeconfig))
    settings = Settings(namespaces=(namespace,), http_address="127.0.0.1", http_port=0, check=0.5, resync=600)
    return Process(settings, from_kubeconfig(str(prepared.kubeconfig)))


async def test_41_dead_watchers_are_noticed_and_truth_comes_by_other_ways(inside: Process, desk: Desk) -> None:
    running = asyncio.create_task(inside.run())

    async def ready() -> bool:
        return not inside.health.in_the_way()

    await until("the operator is ready", ready, 20)
    await desk.apply("momentum")
    await desk.reaches("momentum", "Promoted", "1.0.0")
    watchers = [task for task in asyncio.all_tasks() if task.get_name().startswith("watcher for ")]
    assert len(watchers) == len(WATCHED)
    for task in watchers:
        task.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)
    assert inside.health.not_alive() == [f"0 of {len(WATCHED)} watchers are there"]
    await desk.apply("momentum", "1.1.0")
    await desk.reaches("momentum", "Promoted", "1.1.0", seconds=10)
    await desk.cluster.kubectl("delete", "sro", "momentum", "-n", desk.namespace)

    async def gone() -> bool:
        return not inside.rollouts._uids

    await until("the deletion is noticed", gone, 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def gate_that_breaks_at(seconds: float) -> Body:
    """A gate about whatever is scraped of a revision; its value turns from 0 to 1 at a time of Prometheus' clock."""
    query = f"up * 0 + (time() > bool {seconds:.3f})"
    return {"name": "loss", "prometheus": {"query": query}, "limit": {"above": "0.5"}, "interval": "250ms"}


async def test_09_a_breach_in_the_bake_takes_traffic_back_and_says_why(operator: Operator, desk: Desk) -> None:
    await desk.apply("momentum")
    stable = (await desk.reaches("momentum", "Promoted", "1.0.0"))["stable"]
    await desk.apply("momentum", "1.1.0", bake={"duration": "1h"}, gates=[gate_that_breaks_at(time.time() + 12)])
    await desk.reaches("momentum", "Baking")
    status = await desk.reaches("momentum", "Reverted", "1.0.0")
    assert status["message"] == "Reverted: loss 1 > 0.5 at 100%, serving 1.0.0"
    service = await desk.get("services", "momentum-orders", "/api/v1")
    assert service is not None
    assert service["spec"]["selector"]["strategyrollout.io/revision"] == stable
    for figure in ("sample_to_decided", "decided_to_freeze_written"):
        assert await operator.metric(f"strategyrollout_{figure}_seconds_count") == 1
        assert await operator.metric(f"strategyrollout_{figure}_seconds_sum") < 0.5
    (event,) = [line for line in (await events(desk)).splitlines() if "Reverted" in line]
    assert "Warning" in event


async def test_a_template_deleted_in_mid_attempt_changes_nothing(operator: Operator, desk: Desk) -> None:
    breaks = time.time() + 12
    spec = {"query": gate_that_breaks_at(breaks)["prometheus"]["query"], "limit": {"above": "0.5"}, "interval": "250ms"}
    body = {**TEMPLATE, "metadata": {"name": "loss", "namespace": desk.namespace}, "spec": spec}
    await desk.cluster.apply(body)
    await desk.apply("momentum")
    await desk.reaches("momentum", "Promoted", "1.0.0")
    gate = {"name": "loss", "template": {"kind": "GateTemplate", "name": "loss"}}
    await desk.apply("momentum", "1.1.0", bake={"duration": "1h"}, gates=[gate])
    await desk.reaches("momentum", "Baking")
    await desk.cluster.kubectl("delete", "gatetemplate", "loss", "-n", desk.namespace)
    await operator.kill()
    await operator.start()
    status = await desk.reaches("momentum", "Reverted", "1.0.0")
    assert "loss 1 > 0.5" in status["lastRevert"]["message"]


async def events(desk: Desk) -> str:
    """What `kubectl get events` says."""
    return await desk.cluster.kubectl("get", "events", "-n", desk.namespace)
