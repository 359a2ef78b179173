"""What was decided can be read back and decided again."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from strategyrollout.api.rollout import RolloutSpec
from strategyrollout.api.status import RolloutStatus
from strategyrollout.cluster.evidence import EvidenceFile, line, recorded, replay
from strategyrollout.core.buckets import owners
from strategyrollout.core.decide import decide
from strategyrollout.core.gates import Gate, Query, Sample
from strategyrollout.core.observed import GateReading, Observed, Problem, Request, Revision, Stored, Workload
from tests.hands.conftest import pod_template

GATE = Gate(
    name="reject-rate",
    query=Query("up", 1_000, 1_000),
    when=frozenset({"Rollout", "Bake"}),
    above=Decimal("0.05"),
    below=None,
    reduce="Worst",
    severity="Stop",
    breaches=1,
    of=1,
    no_data="Hold",
    no_data_after=1_000,
)
SAMPLES = (
    Sample(1_000, (Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity"))),
    Sample(2_000, (Decimal("0.0810"),)),
    Sample(3_000, problem="timed out", blind=True),
)
TARGET = Revision("a" * 10, "2.4.0", frozenset({"sha256:" + "4b" * 32}), ("registry.example/m@sha256:" + "4b" * 32,))
NEXT = Revision("b" * 10, "2.5.0", frozenset({"sha256:" + "5c" * 32}), ("registry.example/m@sha256:" + "5c" * 32,))


def world(now: int = 5_000) -> Observed:
    spec = RolloutSpec.model_validate(
        {
            "version": "2.4.0",
            "workload": "RequestDriven",
            "template": pod_template(),
            "method": {"type": "Canary", "canary": {"steps": [{"weight": "12.5%", "hold": {"duration": "1h30m"}}]}},
            "traffic": {"unit": {"header": "X-Account-Id"}, "drain": "0s", "haproxy": {"replicas": 2}},
        }
    )
    return Observed(
        now=now,
        namespace="desk-a",
        name="momentum",
        uid="u-1",
        generation=3,
        spec=spec,
        problems=(Problem("MissingInput", "ConfigMap größe", "spec.template"),),
        target=TARGET,
        revisions={each.hash: each for each in (TARGET, NEXT)},
        workloads={each.hash: Workload(each.hash, 2, 2, 2) for each in (TARGET, NEXT)},
        gates=(GateReading(GATE, TARGET.hash, SAMPLES),),
        requests=(Request("Annotation", "Rollback", "k", "fills look wrong"),),
    )


def worlds() -> list[Observed]:
    """A rollout's first passes, each seeing what the one before wrote; at last there is another revision to try."""
    seen, table, status = [world()], None, RolloutStatus()
    for step in range(1, 10):
        decision = decide(seen[-1])
        table, status = decision.assignment or table, decision.status or status
        stored = Stored(table, str(step)) if table is not None else None
        now = replace(world(5_000 + step * 7_000), problems=(), requests=(), stored=stored, status=status)
        seen.append(replace(now, target=TARGET if step < 6 else NEXT))
    return seen


@pytest.mark.parametrize("seen", worlds(), ids=lambda seen: str(seen.now))
def test_every_decision_replays_to_itself_from_its_line(seen: Observed) -> None:
    decision = decide(seen)
    text = line(seen, decision, {"written": {"resourceVersion": "7"}})
    assert text.endswith("\n")
    assert "\n" not in text[:-1]
    assert replay(text) == decision
    again, decided = recorded(text)
    assert decided == decision
    assert line(again, decided, {"written": {"resourceVersion": "7"}}) == text


def test_a_decision_is_the_same_text_in_every_process() -> None:
    """Python goes through a set of strings in another order in each."""
    code = (
        "from strategyrollout.cluster.evidence import line; from strategyrollout.core.decide import decide\n"
        "from tests.hands.test_evidence import worlds\n"
        "print(*(line(seen, decide(seen), {}) for seen in worlds()))"
    )
    texts = {
        subprocess.check_output([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": str(seed)})
        for seed in range(4)
    }
    assert len(texts) == 1
    assert any(seen.stored and len(owners(seen.stored.spec.ranges)) == 2 for seen in worlds()), "one has two revisions"


def test_the_samples_that_decided_are_kept_to_the_last_digit() -> None:
    kept, _ = recorded(line(world(), decide(world()), {}))
    assert [str(value) for sample in kept.gates[0].samples for value in sample.values] == [
        "NaN",
        "Infinity",
        "-Infinity",
        "0.0810",
    ]
    assert kept.gates[0].gate == GATE


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", '{"format":2}', '{"format":1,"observed":1,"decision":{}}'])
def test_a_line_that_is_not_ours_is_an_error_and_no_guess(text: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        replay(text)


@asynccontextmanager
async def running(evidence: EvidenceFile) -> AsyncIterator[None]:
    task = asyncio.create_task(evidence.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_decisions_are_kept_in_order(tmp_path: Path) -> None:
    evidence = EvidenceFile(tmp_path / "new" / "evidence.jsonl")
    async with running(evidence):
        for now in range(250):
            evidence.decided(world(now), decide(world(now)), {})
        await evidence.flush()
    lines = (tmp_path / "new" / "evidence.jsonl").read_text().splitlines()
    assert [json.loads(text)["at"] for text in lines] == list(range(250))
    assert evidence.counted == {"kept": 250, "failed": 0}


async def test_a_table_that_a_person_wrote_is_a_line_of_its_own_that_replays(tmp_path: Path) -> None:
    evidence = EvidenceFile(tmp_path / "evidence.jsonl")
    async with running(evidence):
        evidence.adopted(world(), decide(world()), {"spec": {"epoch": 7}})
        await evidence.flush()
    text = (tmp_path / "evidence.jsonl").read_text()
    assert json.loads(text)["adopted"] == {"spec": {"epoch": 7}}
    assert "written" not in json.loads(text)
    assert replay(text) == decide(world())


async def test_the_file_is_cut_and_the_newest_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "evidence.jsonl"
    one = len(line(world(), decide(world()), {"written": {}}).encode())
    evidence = EvidenceFile(path, max_bytes=3 * one, keep=2)
    async with running(evidence):
        for now in range(1_000, 1_010):
            evidence.decided(world(now), decide(world(now)), {})
            await evidence.flush()
    names = ["evidence.jsonl.2", "evidence.jsonl.1", "evidence.jsonl"]
    assert not (tmp_path / "evidence.jsonl.3").exists()
    kept = [json.loads(text)["at"] for name in names for text in (tmp_path / name).read_text().splitlines()]
    assert kept == list(range(1_003, 1_010))


async def test_a_disk_that_refuses_is_counted_and_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    evidence = EvidenceFile(tmp_path / "file" / "evidence.jsonl")
    async with running(evidence):
        evidence.decided(world(), decide(world()), {})
        evidence.decided(world(), decide(world()), {"not": object()})
        await evidence.flush()
    assert evidence.counted == {"kept": 0, "failed": 2}


async def test_what_comes_too_fast_is_counted(tmp_path: Path) -> None:
    evidence = EvidenceFile(tmp_path / "evidence.jsonl")
    for _ in range(1_001):
        evidence.decided(world(), decide(world()), {})
    assert evidence.counted == {"full": 1}
