"""What a real Prometheus says, and what gates make of it."""

import asyncio
import signal
from decimal import Decimal
from typing import Any

import pytest

from strategyrollout.core.gates import judge
from strategyrollout.metrics.answer import Subject
from strategyrollout.ports import Key
from tests.cluster.processes import until
from tests.metrics.conftest import GREEN, KEY, RealPrometheus, Watch, asking, now, number

OTHER = Key("desk-b", "momentum")


def series(name: str, key: Key = KEY, revision: str = GREEN, **labels: str) -> str:
    subject: Subject = (key.namespace, key.name, revision)
    names = {**dict(zip(("namespace", "rollout", "revision"), subject, strict=True)), **labels}
    return name + "{" + ",".join(f'{label}="{text}"' for label, text in names.items()) + "}"


@pytest.fixture(autouse=True)
def metrics(prometheus: RealPrometheus) -> None:
    prometheus.exporter.lines = {
        series("rejects"): "3",
        series("orders"): "60",
        series("rejects", OTHER): "60",
        series("orders", OTHER): "60",
        series("idle"): "0",
        series("legacy", Key("", "")): "1",
        "process_start_time_seconds": "1",
    }


async def watch(prometheus: RealPrometheus, watching: Watch, text: str, **fields: Any) -> Any:
    gate = asking(text, **fields)
    watcher = await watching(prometheus.address)
    watcher.plane.watch(KEY, (GREEN,), (gate,))
    return gate, watcher


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("rejects / orders", "0.05"),
        ("sum by (namespace, rollout, revision) (rejects) / 100", "0.03"),
        ('{__name__=~"rejects|orders"}', "60 3"),
        ("idle / idle", "NaN"),
        ("orders / idle", "Infinity"),
        ("-orders / idle", "-Infinity"),
    ],
)
async def test_values(text: str, value: str, prometheus: RealPrometheus, watching: Watch) -> None:
    gate, watcher = await watch(prometheus, watching, text)
    sample = await watcher.becomes("a value", gate, lambda s: bool(s.values))
    assert sorted(map(str, sample.values)) == sorted(str(Decimal(number)) for number in value.split())
    expected = "Breach" if "60" in value else "NoData" if value in ("NaN", "Infinity", "-Infinity") else "Pass"
    assert judge(gate, (sample,), now()).verdict == expected


async def test_a_metric_that_nobody_has_is_no_data(prometheus: RealPrometheus, watching: Watch) -> None:
    gate, watcher = await watch(prometheus, watching, "no_such_metric")
    sample = await watcher.sample(gate)
    assert (sample.values, sample.blind, sample.problem) == ((), False, "the query answered with no series")
    assert judge(gate, (sample,), now()).verdict == "NoData"
    assert watcher.plane.problems([gate]) == ()


async def test_rows_of_another_namespace_are_not_ours(prometheus: RealPrometheus, watching: Watch) -> None:
    gate, watcher = await watch(prometheus, watching, "rejects / orders")
    await watcher.becomes("a value", gate, lambda s: bool(s.values))
    assert number(await watcher.sample(gate)) == Decimal("0.05")
    watcher.plane.watch(OTHER, (GREEN,), (gate,))

    async def theirs() -> bool:
        return bool(watcher.recent(gate, OTHER))

    await until("a sample of the other rollout", theirs, 10)
    assert number(watcher.recent(gate, OTHER)[-1]) == 1
    assert number(watcher.recent(gate)[-1]) == Decimal("0.05")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rate(rejects", "parse error: unclosed left parenthesis"),
        ("rejects / ignoring (rollout, namespace) orders", "many"),
        ("rejects[1m]", "the query answers a matrix"),
        ("scalar(rejects)", "the query answers a scalar"),
        ("sum(rejects)", "the answer has series without the label namespace, rollout, revision; keep it"),
        ("sum by (revision) (rejects)", "the answer has series without the label namespace, rollout; keep it"),
        ("process_start_time_seconds", "without the label namespace, rollout, revision"),
    ],
)
async def test_a_query_of_no_use_says_what_to_do(
    text: str, problem: str, prometheus: RealPrometheus, watching: Watch
) -> None:
    gate, watcher = await watch(prometheus, watching, text)

    async def noticed() -> bool:
        return bool(watcher.plane.problems([gate]))

    await until("the problem is noticed", noticed, 20)
    (found,) = watcher.plane.problems([gate])
    assert problem in found.message
    sample = watcher.recent(gate)[-1]
    assert (sample.values, sample.blind) == ((), False)
    assert judge(gate, (sample,), now()).verdict == "NoData"


async def test_a_value_older_than_its_age_is_no_data(prometheus: RealPrometheus, watching: Watch) -> None:
    # With a time of its own a sample gets no stale marker: Prometheus would repeat it for five minutes.
    prometheus.exporter.lines[series("sticky")] = f"1 {now()}"
    patient, watcher = await watch(prometheus, watching, "sticky", max_age=60_000)
    await watcher.becomes("the value is there", patient, lambda s: bool(s.values))
    strict = asking("sticky", name="strict", max_age=1_000)
    watcher.plane.watch(KEY, (GREEN,), (patient, strict))
    await watcher.becomes("the value is too old", strict, lambda s: not s.values)
    assert number(await watcher.sample(patient, after=now())) == 1
    assert watcher.recent(strict)[-1].problem == "the query answered with no series"


async def test_prometheus_goes_away_hangs_and_comes_back(prometheus: RealPrometheus, watching: Watch) -> None:
    gate, watcher = await watch(prometheus, watching, "rejects / orders")
    await watcher.becomes("a value", gate, lambda s: bool(s.values))
    assert watcher.plane.blind_since([gate]) is None
    for away in (signal.SIGSTOP, signal.SIGKILL):
        before = now()
        prometheus.program.signal(away)
        sample = await watcher.becomes("blind", gate, lambda s: s.blind)
        assert judge(gate, (sample,), now()).verdict == "NoData"
        since = watcher.plane.blind_since([gate])
        assert before - 1_000 <= since <= sample.at
        await asyncio.sleep(0.5)
        assert watcher.plane.blind_since([gate]) == since
        if away == signal.SIGSTOP:
            prometheus.program.signal(signal.SIGCONT)
        else:
            await prometheus.program.stop()
            await asyncio.to_thread(prometheus.start)
        await watcher.becomes("a value again", gate, lambda s: bool(s.values))
        assert watcher.plane.blind_since([gate]) is None
    assert not any(urgent for _, urgent in watcher.woken)
