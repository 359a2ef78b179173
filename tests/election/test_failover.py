"""Two operator processes on a real API server: who leads, who follows, and that a breach is acted on all the same."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.loop.conftest import Body, Desk
from tests.loop.test_operator import gate_that_breaks_at
from tests.operator_process import Operator
from tests.replicas import Replicas, role

pytestmark = pytest.mark.cluster

READS = {"GET", "LIST"}


async def writes(operator: Operator) -> dict[str, float]:
    """Requests that were no reads and no questions about permissions, by what the operator counts of itself."""
    _, text = await operator.page("/metrics")
    found = {}
    for line in text.splitlines():
        if line.startswith("strategyrollout_api_requests_total{"):
            name, _, value = line.rpartition(" ")
            verb = name.partition('verb="')[2].partition('"')[0]
            if verb not in READS and "selfsubjectaccessreviews" not in name:
                found[name] = float(value)
    return found


async def in_the_bake(desk: Desk, breach_at: float) -> None:
    """A version that bakes and breaches at a time of its own."""
    await desk.apply("momentum")
    await desk.reaches("momentum", "Promoted", "1.0.0")
    await desk.apply("momentum", "1.1.0", bake={"duration": "1h"}, gates=[gate_that_breaks_at(breach_at)])
    await desk.reaches("momentum", "Baking")


async def reverted(desk: Desk) -> Body:
    status = await desk.reaches("momentum", "Reverted", "1.0.0", seconds=60)
    assert status["message"] == "Reverted: loss 1 > 0.5 at 100%, serving 1.0.0"
    return status


async def test_one_leads_and_the_other_is_ready_and_writes_nothing(replicas: Replicas, desk: Desk) -> None:
    leader = await replicas.leader()
    (standby,) = [o for o in replicas.all if o is not leader]
    holder = (await replicas.lease())["holderIdentity"]
    assert await role(standby) == f"standing by; {holder} leads"
    await desk.apply("momentum")
    await desk.reaches("momentum", "Promoted", "1.0.0")
    await desk.cluster.kubectl("annotate", "sro", "momentum", "-n", desk.namespace, "strategyrollout.io/rollback=x")
    await asyncio.sleep(8)  # more than a resync
    assert await writes(standby) == {}
    assert await standby.metric("strategyrollout_queries_total") == 0
    assert await standby.metric("strategyrollout_rollouts") == 1
    assert [await o.metric("strategyrollout_is_leader") for o in (leader, standby)] == [1, 0]
    assert (await standby.page("/livez"))[0] == 200
    assert await standby.stop() == 0
    assert (await replicas.lease())["holderIdentity"] == holder


async def test_a_leader_that_is_told_to_end_gives_the_lead_away(replicas: Replicas, desk: Desk) -> None:
    leader = await replicas.leader()
    breach = time.time() + 14
    await in_the_bake(desk, breach)
    await asyncio.sleep(max(0.0, breach - time.time() - 0.2))
    assert await leader.stop() == 0
    assert "is given back" in leader.last_words()
    follower = await replicas.leader(after=leader)
    await reverted(desk)
    assert await follower.metric("strategyrollout_leader_transitions") == 1
    lease = await replicas.lease()
    assert (lease["leaseTransitions"], lease["leaseDurationSeconds"]) == (1, 8)
    await leader.start()
    assert (await role(leader)).startswith("standing by")


async def test_a_leader_that_is_killed_is_followed_and_no_time_is_lost(replicas: Replicas, desk: Desk) -> None:
    leader = await replicas.leader()
    breach = time.time() + 14
    await in_the_bake(desk, breach)
    await asyncio.sleep(max(0.0, breach - time.time() - 0.2))
    await leader.kill()
    await reverted(desk)
    assert await replicas.leader(after=leader) is not leader


async def test_a_leader_that_stood_still_ends_itself_when_it_wakes_up(replicas: Replicas, desk: Desk) -> None:
    leader = await replicas.leader()
    await in_the_bake(desk, time.time() + 14)
    leader.pause()
    follower = await replicas.leader(after=leader)
    await reverted(desk)
    before = await desk.get("trafficassignments", "momentum")
    leader.resume()
    assert await leader.ended(10) == 1
    assert "no longer leading, so everything ends" in leader.last_words()
    assert (await replicas.lease())["holderIdentity"].startswith(f"{follower.log.parent.name}_")
    await leader.start()
    await asyncio.sleep(2)
    assert await desk.get("trafficassignments", "momentum") == before


async def test_a_leader_that_hears_nothing_ends_itself_before_its_lease_does(
    replicas: Replicas, desk: Desk, prepared: Cluster
) -> None:
    leader = await replicas.leader()
    await desk.apply("momentum")
    await desk.reaches("momentum", "Promoted", "1.0.0")
    try:
        prepared.freeze_apiserver()
        frozen = time.monotonic()
        assert await leader.ended(10) == 1
        assert time.monotonic() - frozen < 8  # its Lease
    finally:
        prepared.thaw_apiserver()
    assert "could not be renewed for 5 s" in leader.last_words()
    assert await replicas.leader(after=leader) is not leader
    await desk.apply("momentum", "1.1.0")
    await desk.reaches("momentum", "Promoted", "1.1.0")
    await leader.start()


async def test_a_restart_of_the_api_server_changes_nothing(
    replicas: Replicas, prepared: Cluster, namespace: str
) -> None:
    desk = Desk(prepared, namespace)  # not recorded: a watch does not outlive its server
    await in_the_bake(desk, time.time() + 20)
    before = await desk.get("trafficassignments", "momentum")
    await prepared.restart_apiserver(down_for=1.0)
    await replicas.leader()
    after = await desk.get("trafficassignments", "momentum")
    assert before is not None
    assert after is not None
    if after["spec"]["cause"]["kind"] != "GateBreached":
        assert after["spec"] == before["spec"]
    await reverted(desk)
    await replicas.revive()  # on a slow machine the server may have been away for longer than the deadline
    assert [(await operator.page("/livez"))[0] for operator in replicas.all] == [200, 200]


async def test_who_may_not_elect_says_so(prepared: Cluster, namespace: str, tmp_path: Path) -> None:
    kubeconfig = await prepared.service_account_kubeconfig(namespace, "default")
    operator = Operator(prepared, tmp_path, kubeconfig, namespaces=namespace, leader_lease=f"{namespace}/operator")
    await operator.start(ready=False)

    async def explained() -> bool:
        status, text = await operator.page("/readyz")
        return status == 503 and "needed to elect a leader" in text and "cannot read the Lease" in text

    await until("the missing verbs are named", explained, 15)
    assert await operator.stop() == 0
