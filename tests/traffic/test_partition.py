"""One of three routers out of touch with the API server, in every way there is; orders go through all three meanwhile.

Nobody is ever served by two revisions at once, and the object says what was decided and who is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from strategyrollout.api.meta import ANNOTATION_ACKED
from tests.cluster.cluster import Cluster
from tests.cluster.faults import Orphan
from tests.cluster.processes import until
from tests.traffic.desk import ACCOUNTS, Desk, Times, desk_of
from tests.traffic.load import Answer, Load, Shape, running
from tests.traffic.record import Object

pytestmark = pytest.mark.cluster

LEASE, ACK_TIMEOUT, DRAIN = 2_000, 2_000, 300
PATIENCE = LEASE * 1.01 + 500
SILENCES = ("agent paused", "network cut", "network cut and object deleted by force")
# What lies between a decision and what is seen of it on a busy machine (ms).
SLACK = 1_500

DRAWDOWN: Object = {
    "name": "drawdown",
    "prometheus": {"query": "1 - strategy_equity / strategy_equity_high_water"},
    "limit": {"above": "0.03"},
    "interval": "250ms",
    "maxAge": "5s",
}


@dataclass
class Lost:
    """The router that is out of touch."""

    desk: Desk
    pod: Object
    how: str
    orphan: Orphan | None = None

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    @property
    def address(self) -> str:
        return str(self.pod["status"]["podIP"])

    async def lose(self) -> None:
        """It has the table in force, and hears nothing from now on."""
        await self._heard()
        node, namespace = self.desk.cluster.node, self.desk.record.namespace
        if self.how == "agent paused":
            node.sigstop(namespace, self.name, "agent")
        if self.how.startswith("network cut"):
            await node.cut_off(namespace, self.name)
        if self.how.endswith("by force"):
            self.orphan = node.orphan(namespace, self.name)
            force = ("--force", "--grace-period=0", "--wait=false")
            await self.desk.cluster.kubectl("delete", "pod", self.name, "-n", namespace, *force)
            await self.desk.routers_ready(3, without=[self.uid])

    async def _heard(self) -> None:

        async def acked() -> bool:
            lease = (await self.desk.leases())[self.uid]
            return bool(lease["metadata"]["annotations"][ANNOTATION_ACKED] == str(self.desk.record.table.epoch))

        await until("the router has confirmed", acked, 10)

    async def find(self) -> None:
        """It is back in touch, or, where it cannot come back, it is ended and a person says so."""
        node, namespace = self.desk.cluster.node, self.desk.record.namespace
        if self.how == "agent paused":
            node.sigcont(namespace, self.name, "agent")
        elif self.how == "network cut":
            await node.heal(namespace, self.name)
        else:
            assert self.orphan is not None
            await self.end()
            await self.desk.cluster.kubectl("delete", "lease", self.uid, "-n", namespace)

    async def end(self) -> None:
        """The orphan's processes end at last."""
        assert self.orphan is not None
        self.orphan.release()

        async def gone() -> bool:
            with contextlib.suppress(Exception):
                assert self.orphan is not None
                return self.orphan.pid("proxy") == 0
            return True

        await until("the orphan has ended", gone, 60)


@dataclass
class Scene:
    """Three routers under load, one of them about to be lost."""

    desk: Desk
    stable: str
    lost: Lost
    load: Load

    async def finish(self) -> list[Answer]:
        """Every rule held, also a moment after the last move; returns what became of the orders."""
        await asyncio.sleep(0.5)
        answers = await self.load.stop()
        assert self.desk.judge() > 100
        return answers


@contextlib.asynccontextmanager
async def scene(cluster: Cluster, namespace: str, folder: Path, how: str, **times_: Any) -> AsyncIterator[Scene]:
    usual = {"lease": f"{LEASE}ms", "ack_timeout": f"{ACK_TIMEOUT}ms", "drain": f"{DRAIN}ms"}
    times = Times(**(usual | times_))
    async with desk_of(cluster, namespace, folder, times, tolerance=DRAIN) as desk:
        stable = await desk.stable()
        addresses = await desk.routers_ready()
        pods = await desk.routers()
        shape = Shape(connections=4, pause=0.02, slow_share=0.05, slow_most=DRAIN * 2 // 3)
        async with running(folder, addresses, ACCOUNTS, shape) as load:
            yield Scene(desk, stable, Lost(desk, pods[-1], how), load)


def last_served(answers: list[Answer], revision: str, router: str) -> float:
    """When a router last let an order through to a revision (ms)."""
    return max((a.sent_at for a in answers if a.router == router and a.revision == revision), default=0.0)


@pytest.mark.parametrize("how", SILENCES)
async def test_a_revert_on_the_way_up_waits_for_the_lost_router_as_long_as_it_may_serve(
    how: str, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with scene(cluster, namespace, tmp_path, how) as s:
        desk, record = s.desk, s.desk.record
        candidate = await desk.candidate()
        await s.lost.lose()
        name = await desk.roll_back()
        await record.until("it is taken back", desk.taken_back)

        async def told() -> bool:
            return await desk.outcome(name) == "Succeeded"

        await until("the Rollback says so", told, 10)
        answers = await s.finish()
        revert = record.table.record.revert
        assert revert is not None
        assert revert.stopped_at is not None
        frozen = next(t.epoch for t in record.tables if t.record.revert is not None)
        assert PATIENCE <= revert.stopped_at - frozen <= PATIENCE + SLACK
        assert frozen < last_served(answers, candidate, s.lost.address) <= frozen + LEASE
        assert any(message.endswith(f"waiting for {s.lost.name}") for _, _, message in record.said), record.said
        assert any(s.lost.name in event for event in await desk.events()), await desk.events()
        assert record.share(s.stable) == 10_000


def _passes(desk: Desk, gate: str) -> bool:
    return any((g["name"], g.get("verdict")) == (gate, "Pass") for g in desk.record.status.get("gates", []))


async def test_a_breach_takes_a_candidate_back_although_a_router_is_lost(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    longer = LEASE * 3  # the gate must see the breach while the lost router may still serve
    async with scene(cluster, namespace, tmp_path, "network cut", gates=(DRAWDOWN,), lease=f"{longer}ms") as s:
        desk, record = s.desk, s.desk.record
        candidate = await desk.candidate()
        await record.until("Prometheus has found it", lambda: _passes(desk, "drawdown"))
        await s.lost.lose()
        await desk.misbehave(candidate, "drawdown")
        await record.until("it is taken back", desk.taken_back)
        revert = record.table.record.revert
        assert revert is not None
        assert (revert.cause.kind, revert.cause.gate) == ("GateBreached", "drawdown")
        frozen = next(t.epoch for t in record.tables if t.record.revert is not None)
        answers = await s.finish()
        assert frozen < last_served(answers, candidate, s.lost.address) <= frozen + longer
        assert any(message.endswith(f"waiting for {s.lost.name}") for _, _, message in record.said), record.said


async def test_a_revert_from_the_bake_waits_as_long_as_the_bake_lets_a_router_serve_alone(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    longer = LEASE * 2
    async with scene(
        cluster, namespace, tmp_path, "network cut", steps=("30%",), bake="1h", bake_lease=f"{longer}ms"
    ) as s:
        desk, record = s.desk, s.desk.record
        candidate = await desk.candidate()
        await desk.ask("resume")
        await record.until("it bakes", lambda: desk.holds_at("100%"))
        await s.lost.lose()
        await desk.roll_back()
        await record.until("it is taken back", desk.taken_back)
        answers = await s.finish()
        revert = record.table.record.revert
        assert revert is not None
        assert revert.stopped_at is not None
        frozen = next(t.epoch for t in record.tables if t.record.revert is not None)
        assert longer * 1.01 + 500 <= revert.stopped_at - frozen <= longer * 1.01 + 500 + SLACK
        assert frozen + LEASE < last_served(answers, candidate, s.lost.address) <= frozen + longer


async def test_a_router_that_missed_the_promotion_refuses_what_it_knows_as_on_trial_and_is_waited_for(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with scene(cluster, namespace, tmp_path, "network cut", steps=("30%",), bake="2s") as s:
        desk, record = s.desk, s.desk.record
        candidate = await desk.candidate()
        await desk.ask("resume")
        await record.until("it bakes", lambda: desk.holds_at("100%"))
        await s.lost.lose()
        lost_at = time.time() * 1000
        await record.until("it is promoted", lambda: record.table.record.stable == candidate)
        await asyncio.sleep(LEASE / 1000)
        await desk.roll_back()
        await record.until("it waits for it alone", lambda: _waited_for(record.status) == [s.lost.name])
        await asyncio.sleep(PATIENCE / 1000 + 1)
        assert record.frozen
        assert record.status["state"] == "WaitingForConsumer"
        await s.lost.find()
        await record.until("it is taken back", desk.taken_back)
        answers = await s.finish()
        assert last_served(answers, candidate, s.lost.address) <= lost_at + LEASE


@pytest.mark.parametrize("how", SILENCES)
async def test_an_increase_is_withdrawn_when_a_router_is_lost(
    how: str, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with scene(cluster, namespace, tmp_path, how) as s:
        desk, record = s.desk, s.desk.record
        candidate = await desk.candidate()
        await s.lost.lose()
        await desk.ask("resume")
        await record.until("it is on its way to the next step", lambda: record.frozen)
        frozen = record.table.epoch
        await record.until("it is withdrawn", lambda: record.table.cause.kind == "Withdrawn")
        assert s.lost.name in record.table.cause.message
        assert 0 <= record.table.epoch - frozen - ACK_TIMEOUT <= SLACK
        await record.until("people are told", lambda: "withdrawn" in record.status.get("message", ""))
        assert s.lost.name in record.status["message"]
        assert record.share(candidate) == 3_000
        await s.finish()


@pytest.mark.parametrize("how", SILENCES)
async def test_a_rollback_after_promotion_waits_for_the_lost_router_by_name_until_it_is_back_or_ended(
    how: str, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with scene(cluster, namespace, tmp_path, how) as s:
        desk, record = s.desk, s.desk.record
        candidate = await desk.candidate()
        await desk.promoted("2.0.0")
        await s.lost.lose()
        await desk.roll_back()
        waiting = "WaitingForConsumer"
        await record.until("it waits for it alone", lambda: _waited_for(record.status) == [s.lost.name])
        assert record.status["state"] == waiting
        assert s.lost.name in record.status["message"]
        frozen = record.table.epoch
        with pytest.raises(AssertionError):  # far longer than any right that runs out
            await record.until("it never grants", lambda: not record.frozen, PATIENCE / 1000 + 2)
        await s.lost.find()
        await record.until("it is taken back", desk.taken_back)
        served = record.table.epoch
        assert record.share(s.stable) == 10_000
        answers = await s.finish()
        revert = record.table.record.revert
        assert revert is not None
        assert revert.stopped_at is not None
        assert last_served(answers, candidate, s.lost.address) <= revert.stopped_at
        between = [a for a in answers if frozen + SLACK < a.sent_at and a.answered_at < served]
        assert {a.status for a in between if a.router != s.lost.address} == {423}
        alone = {(a.status, a.revision) for a in between if a.router == s.lost.address}
        assert (200, candidate) in alone
        assert any(e.startswith(waiting) and s.lost.name in e for e in await desk.events()), await desk.events()


async def test_a_lost_router_that_is_deleted_is_waited_for_until_its_end_is_reported(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with scene(cluster, namespace, tmp_path, "agent paused") as s:
        desk, record = s.desk, s.desk.record
        await desk.candidate()
        await desk.promoted("2.0.0")
        await s.lost.lose()
        await desk.cluster.kubectl("delete", "pod", s.lost.name, "-n", namespace, "--wait=false")
        await desk.roll_back()
        await record.until("it waits for it alone", lambda: _waited_for(record.status) == [s.lost.name])
        assert cluster.node.running(namespace, s.lost.name, "proxy")
        await record.until("it is taken back", desk.taken_back, 40)
        assert record.share(s.stable) == 10_000
        assert s.lost.uid not in {pod["metadata"]["uid"] for pod in await desk.routers()}
        await s.finish()


async def test_a_router_whose_object_was_deleted_by_force_still_counts_while_it_is_in_touch(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with scene(cluster, namespace, tmp_path, "object deleted by force") as s:
        desk, record = s.desk, s.desk.record
        candidate = await desk.candidate()
        await s.lost.lose()
        await desk.ask("resume")
        await record.until("it is at the next step", lambda: desk.holds_at("60%"))
        leases = await desk.leases()
        frozen = next(t.epoch for t in record.tables if t.cause.message.startswith("step 2"))
        assert int(leases[s.lost.uid]["metadata"]["annotations"][ANNOTATION_ACKED]) >= frozen
        answers = await s.finish()
        assert last_served(answers, candidate, s.lost.address) > frozen


def _waited_for(status: Object) -> list[str]:
    return [str(consumer["pod"]) for consumer in (status.get("traffic") or {}).get("waitingFor") or []]
