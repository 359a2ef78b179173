"""Break-glass on a real cluster: the operator is gone, a person moves everything, the next operator adopts it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from strategyrollout.api.meta import LABEL_REVISION
from tests.cli.command import run
from tests.cli.scene import Scene, scene
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.traffic.desk import NAME, Times, desk_of
from tests.traffic.record import Object

pytestmark = pytest.mark.cluster

WHY = ("--reason", "fills diverge")


def now() -> float:
    """Milliseconds since 1970."""
    return time.time() * 1000


async def adopted(s: Scene, words: str = "fills diverge") -> None:
    """An operator returns, says that it was rolled back and by whom, and leaves it so."""
    record, tables = s.desk.record, len(s.desk.record.tables)
    await s.desk.operator.start()
    await record.until("it is adopted", lambda: record.status.get("state") == "RolledBack", 30)
    assert "override by " in record.status["message"]
    assert words in record.status["message"]
    await asyncio.sleep(3)
    assert len(record.tables) == tables, "a returning operator changes nothing"
    on_record(s, record.table.epoch, words)
    assert record.status["state"] == "RolledBack"


def on_record(s: Scene, epoch: int, words: str) -> None:
    """The evidence has a line of what a person wrote: who and why, after which epoch, and the shares."""
    lines = [json.loads(text) for text in s.desk.operator.evidence.read_text().splitlines()]
    (found,) = [line["adopted"] for line in lines if "adopted" in line and line["adopted"]["spec"]["epoch"] == epoch]
    cause = found["spec"]["cause"]
    assert (cause["kind"], words in cause["message"], bool(cause["by"])) == ("Override", True, True)
    assert 0 < found["after"] < epoch
    assert found["spec"]["ranges"]


@pytest.mark.parametrize("place", ["at 10 %", "in the bake"])
async def test_a_candidate_is_taken_back_while_no_operator_runs(
    place: str, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with scene(cluster, namespace, tmp_path, bake="1h", bake_lease="30s") as s:
        candidate = await s.desk.candidate()
        if place == "in the bake":
            await s.desk.ask("resume")
            await s.desk.record.until("it bakes", lambda: s.desk.holds_at("100%"))
        await s.desk.operator.kill()
        said = await s.run("override", "--to", "1.0.0", *WHY)
        assert said.code == 0, said
        assert f"done: 1.0.0 ({s.stable}) serves everything; 2.0.0 ({candidate}) is kept out" in said.out
        await s.everything_at(s.stable)
        at = now()
        told = await s.run("status")
        assert "! this report is old" in told.out
        assert f"1.0.0    {s.stable}  stable     100%" in told.out
        await adopted(s)
        assert "2.0.0 -> 1.0.0: Override, override by " in (await s.run("status")).out
        await s.finish(s.stable, at)


async def test_a_promoted_revision_is_left_and_the_pods_of_the_other_are_started(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with scene(cluster, namespace, tmp_path) as s:
        await s.desk.candidate()
        await s.desk.promoted("2.0.0")
        await asyncio.sleep(1)
        await s.desk.operator.kill()
        name = f"{NAME}-{s.stable}"
        await cluster.kubectl("scale", "deployment", name, "--replicas=0", "-n", namespace)
        said = await s.run("override", "--to", s.stable, *WHY)
        assert said.code == 0, said
        assert f"scaled {name} from 0 to 1; waiting for a ready pod" in said.out
        await s.everything_at(s.stable)
        at = now()
        await adopted(s)
        await s.finish(s.stable, at)


@pytest.mark.parametrize("who", ["operator", "second run"])
async def test_killed_between_its_writes_it_is_finished_by_the_next(
    who: str, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with scene(cluster, namespace, tmp_path, drain="3s") as s:
        await s.desk.candidate()
        await s.desk.operator.kill()
        record = s.desk.record
        command = await s.start("override", "--to", "1.0.0", *WHY)
        await record.until("it is frozen", lambda: record.frozen)
        await command.kill()
        frozen = record.table.epoch
        assert "NOT FINISHED" in (await s.run("status")).out
        if who == "operator":
            await s.desk.operator.start()
        else:
            said = await s.run("override", "--to", "1.0.0", "--reason", "another person", "-o", "json")
            assert said.code == 0, said
            assert said.json["outcome"] == "Succeeded"
            assert said.json["stoppedAt"] is not None
        await s.everything_at(s.stable)
        if who == "operator":
            on_record(s, frozen, "fills diverge")
        at = now()
        assert next(t.epoch for t in record.tables if t.cause.kind == "Override") == frozen
        assert sum(t.cause.kind == "Override" for t in record.tables) == 2, "one Freeze and one Grant"
        if who == "second run":
            await adopted(s)
        await s.finish(s.stable, at)


async def test_beside_an_operator_that_lives_it_says_so_and_changes_nothing(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with scene(cluster, namespace, tmp_path, elected=True) as s:
        await s.desk.candidate()
        tables = len(s.desk.record.tables)
        said = await s.run("override", "--to", "1.0.0", *WHY)
        assert said.code == 1, said
        assert "an operator is alive" in said.err
        assert f"kubectl strategyrollout rollback {NAME} -n {namespace}" in said.err
        assert len(s.desk.record.tables) == tables
        said = await s.run("override", "--to", "1.0.0", "--even-if-operator-alive", *WHY)
        assert said.code == 0, said
        await s.everything_at(s.stable)
        await s.desk.record.until("it is told", lambda: s.desk.record.status.get("state") == "RolledBack")
        await s.finish(s.stable, now())


@pytest.mark.parametrize("end", ["killed", "ended"])
async def test_an_operator_that_is_gone_is_recognised_by_its_lease(
    end: str, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with scene(cluster, namespace, tmp_path, elected=True) as s:
        await s.desk.candidate()
        await (s.desk.operator.kill() if end == "killed" else s.desk.operator.stop())
        said = await s.run("override", "--to", "1.0.0", *WHY)
        assert said.code == 0, said
        assert ("has stopped renewing" if end == "killed" else "gave its Lease back") in said.out
        await s.everything_at(s.stable)
        at = now()
        await adopted(s)
        await s.finish(s.stable, at)


async def test_a_router_that_died_is_waited_for_until_a_person_gives_his_word(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with scene(cluster, namespace, tmp_path) as s:
        await s.desk.candidate()
        await s.desk.promoted("2.0.0")
        lost = (await s.desk.routers())[-1]
        name, uid = str(lost["metadata"]["name"]), str(lost["metadata"]["uid"])
        await s.desk.operator.kill()
        said = await s.run("override", "--close-router", name, *WHY)
        assert said.code == 1, said
        assert f"router {name} is ready: it is serving" in said.err
        orphan = cluster.node.orphan(namespace, name)  # its node is gone, and the process with it
        for container in ("agent", "proxy"):
            cluster.node.sigstop(namespace, name, container)
        await cluster.kubectl("delete", "pod", name, "-n", namespace, "--force", "--grace-period=0", "--wait=false")
        await s.desk.routers_ready(without=[uid])
        said = await s.run("override", "--to", "1.0.0", "--timeout", "12s", *WHY)
        assert said.code == 3, said
        assert f"waiting for {name}" in said.out
        assert f"run again with --close-router {uid}" in said.err
        several = await s.run("override", "--close-router", name, *WHY)
        assert (several.code, uid in several.err) == (1, True), several
        assert s.desk.record.frozen
        said = await s.run("override", "--to", "1.0.0", "--close-router", uid, *WHY)
        assert said.code == 0, said
        assert f"closed the Lease of {name} on your word" in said.out
        await s.everything_at(s.stable)
        orphan.release()
        await adopted(s)


async def test_a_service_is_switched_as_well(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    async with desk_of(cluster, namespace, tmp_path, Times(routers=0), tolerance=0) as desk:
        desk.record.history.flips = True
        spec: Object = {
            "method": {"type": "BlueGreen", "blueGreen": {"preview": {"duration": "1s"}, "promote": "Automatic"}},
            "traffic": {"service": {"name": "entry"}, "port": "orders", "drain": "1s"},
        }
        for version in ("1.0.0", "2.0.0"):
            await desk.apply(version, **spec)
            await desk.record.until(version, lambda v=version: desk._is("Promoted", v), 60)  # type: ignore[misc]
        revisions = {r["version"]: str(r["revision"]) for r in desk.record.status["revisions"]}

        async def selected() -> str:
            _, found = await cluster.request("GET", f"/api/v1/namespaces/{namespace}/services/entry")
            return str(found["spec"]["selector"][LABEL_REVISION])

        async def switched() -> bool:
            return await selected() == revisions["2.0.0"]

        await until("the Service follows the table", switched, 10)
        await desk.operator.kill()
        words = ("override", NAME, "-n", namespace, "--to", "1.0.0", *WHY)
        said = await run(cluster.kubeconfig, *words)
        assert said.code == 0, said
        assert "Service entry selects the new revision" in said.out
        assert await selected() == revisions["1.0.0"]
        again = await run(cluster.kubeconfig, *words)
        assert again.code == 0, again
        assert "serves everything" in again.out
        await desk.operator.start()
        await desk.record.until("it is adopted", lambda: desk.record.status.get("state") == "RolledBack", 30)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--to", "9.9.9"), 2, ("'9.9.9' is no revision", "VERSION", "1.0.0", "2.0.0", "10%")),
        (("--to", "2.0.0"), 1, ("has never held everything", "--untrusted")),
        (("--close-router", "nobody"), 1, ("has no router nobody", "momentum-router")),
        ((), 2, ("--to REVISION|VERSION",)),
    ],
    ids=["no such revision", "never trusted", "no such router", "nothing named"],
)
async def test_what_makes_no_sense_is_refused_with_what_would(
    arguments: tuple[str, ...], code: int, words: tuple[str, ...], desk: Scene
) -> None:
    tables = len(desk.desk.record.tables)
    said = await desk.run("override", *arguments, *WHY)
    assert said.code == code, said
    for word in words:
        assert word in said.err, said
    assert len(desk.desk.record.tables) == tables
