"""What people on call type while an operator runs: one desk, one story, each command in text and as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import pytest

from tests.cli.command import run
from tests.cli.scene import Scene, scene
from tests.cluster.build import binary
from tests.cluster.cluster import Cluster
from tests.traffic.desk import NAME

pytestmark = pytest.mark.cluster

WHY = ("--reason", "fills diverge")


async def test_the_story_of_a_version_by_commands_alone(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    async with scene(cluster, namespace, tmp_path) as s:
        candidate = await s.desk.candidate()
        await _looked_at(s, candidate)
        await _rolled_back(s, candidate)
        await _tried_again(s)
        await s.desk.record.until("it holds again", lambda: s.desk.holds_at("10%"), 30)
        said = await s.run("resume", "--reason", "looks fine", "-o", "json")
        assert (said.code, said.json["takenUp"]) == (0, True), said
        assert "looks fine" in said.json["value"]
        await s.desk.record.until("2.0.0 is promoted", lambda: s.desk.record.status.get("state") == "Promoted", 30)
        said = await s.run("rollback", "--to", "1.0.0", "-o", "json", *WHY)
        assert (said.code, said.json["outcome"], said.json["revision"]) == (0, "Succeeded", s.stable), said
        assert {"decidedAt", "stoppedAt", "servedAt"} <= set(said.json)
        assert s.desk.judge() > 100


async def _looked_at(s: Scene, candidate: str) -> None:
    said = await s.run("status")
    assert said.code == 0, said
    assert said.out.startswith(f"{NAME} in {s.desk.record.namespace}: AwaitingResume (step 1/2)")
    assert f"2.0.0    {candidate}  candidate  10%    1/1" in said.out
    assert f"kubectl strategyrollout resume {NAME} -n {s.desk.record.namespace}" in said.out
    facts = (await s.run("status", "-o", "json")).json
    assert (facts["state"], facts["table"]["frozen"], facts["reportIsOld"]) == ("AwaitingResume", "0%", "")
    assert {r["version"]: r["weight"] for r in facts["revisions"]} == {"1.0.0": "90%", "2.0.0": "10%"}


async def _rolled_back(s: Scene, candidate: str) -> None:
    said = await s.run("rollback", "--to", "3.0.0", *WHY)
    assert said.code == 1, said
    assert "has no revision 3.0.0" in said.err
    assert {f"1.0.0 ({s.stable}, stable)", f"2.0.0 ({candidate}, candidate)"} == set(
        said.err.rpartition("there are ")[2].strip().replace("), ", ")|").split("|")
    )
    assert s.desk.holds_at("10%"), "a typing error takes nothing back"
    said = await s.run("rollback", *WHY)
    assert said.code == 0, said
    assert "created Rollback momentum-" in said.out
    assert "done: 1.0.0 serves everything (decided " in said.out
    again = await s.run("rollback", *WHY)
    assert again.code == 0
    assert "nothing to do: already taken back" in again.out
    status = await s.run("status")
    assert "RolledBack" in status.out
    assert "last revert   2.0.0 -> 1.0.0: RollbackRequested, fills diverge" in status.out


async def _tried_again(s: Scene) -> None:
    said = await s.run("retry", "1.0.0")
    assert said.code == 1, said
    assert "its spec says 2.0.0" in said.err
    s.desk.record.history.record_retry(int(time.time() * 1000))
    said = await s.run("retry", "2.0.0", "--reason", "fixed the feed")
    assert said.code == 0, said
    assert "the operator has taken it up" in said.out


async def test_a_name_that_is_none_is_told_with_those_that_are(desk: Scene) -> None:
    namespace = desk.desk.record.namespace
    for command, words in {"status": (), "rollback": WHY, "retry": (), "override": ("--to", "1.0.0", *WHY)}.items():
        said = await run(desk.kubeconfig, command, "momentun", "-n", namespace, *words, "-o", "json")
        assert said.code == 1, said
        assert said.json["error"] == f"there is no StrategyRollout momentun in namespace {namespace}"
        assert f"there are {NAME}" in said.json["hint"]


async def test_requests_that_nobody_takes_up_time_out_and_stay_asked_for(desk: Scene) -> None:
    said = await desk.run("promote", "--timeout", "1s")
    assert said.code == 3, said
    assert "is the operator running?" in said.err
    said = await desk.run("rollback", "--timeout", "6s", "-o", "json", *WHY)
    assert (said.code, said.json["exitCode"]) == (3, 3), said
    assert f"kubectl strategyrollout override {NAME}" in said.json["hint"]
    said = await desk.run("rollback", "--no-wait", *WHY)
    assert said.code == 0, said
    assert "kubectl get rollback momentum-" in said.out


async def test_kubectl_finds_it_and_the_current_namespace_counts(desk: Scene, tmp_path: Path) -> None:
    plugin = tmp_path / "kubectl-strategyrollout"
    source = Path(__file__).parents[2] / "operator"
    plugin.write_text(f'#!/bin/sh\nPYTHONPATH={source} exec {sys.executable} -m strategyrollout.cli "$@"\n')
    plugin.chmod(0o755)
    config = tmp_path / "kubeconfig"
    config.write_text(desk.kubeconfig.read_text())
    cluster = desk.desk.cluster
    kubectl = str(binary("kubectl"))
    path = os.environ["PATH"]
    os.environ["PATH"], os.environ["KUBECONFIG"] = f"{tmp_path}:{path}", str(config)
    try:
        await cluster.kubectl(
            *("config", "set-context", "--current", f"--namespace={desk.desk.record.namespace}"),
            *("--kubeconfig", str(config)),
        )
        said = await _run(kubectl, "strategyrollout", "status", NAME, "-o", "json")
    finally:
        os.environ["PATH"] = path
        del os.environ["KUBECONFIG"]
    assert json.loads(said)["name"] == NAME


async def _run(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode()
