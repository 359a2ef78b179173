"""A breach at the very moment at which the leader goes: how long until the candidate is stopped, and by what moves.

Ten rollouts hold at 10 %, two operators look after them, one of which leads. Twenty times each: the metric turns bad
and in the same instant the leader gets SIGTERM, or SIGKILL, or the API server is killed and started again. Every table
that the API ever held is recorded and judged by the history checker.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.cluster.access import from_kubeconfig
from strategyrollout.cluster.client import ApiError
from strategyrollout.cluster.kinds import ASSIGNMENTS
from strategyrollout.ports import Unavailable
from tests.bench.crowd import Crowd
from tests.bench.figures import Report
from tests.cluster.processes import until
from tests.history.history import History
from tests.operator_process import Operator
from tests.replicas import Replicas

FAULTS = ("SIGTERM", "SIGKILL", "apiserver")
_SIZE, _ROUNDS, _GATE_MS, _SCRAPE = 10, 20, 250, "230ms"
_NAMESPACE = "default"  # of the Lease
_TARGETS = {"SIGTERM": 2.0, "SIGKILL": 10.0}
_LONGEST = 60.0
Name = tuple[str, str]


class Team(Protocol):
    """Operators of which one leads; here processes beside the cluster, elsewhere pods."""

    async def leader(self, *, after: Operator | None = None, seconds: float = 30) -> Operator:
        """Who leads, once somebody does."""

    def hit(self, operator: Operator, number: signal.Signals) -> None:
        """Send a signal and wait for nothing."""

    async def revive(self) -> None:
        """As many as before are there again."""

    def written(self) -> Iterable[tuple[Name, dict[str, Any]]]:
        """Every table that they say they have written, with its rollout."""


class _Watched(Crowd):
    """A crowd with two operators, and with a record of every table."""

    async def _start_operators(self, stack: contextlib.AsyncExitStack, settings: dict[str, str]) -> None:
        replicas = Replicas(self.cluster, self._folder, _NAMESPACE, **settings)
        self.team: Team = await stack.enter_async_context(replicas.running())
        self.operator = await replicas.leader()
        self.tables: dict[Name, dict[int, AssignmentSpec]] = {}
        self.retries: dict[Name, list[int]] = {}
        self.recording = asyncio.create_task(self._record())
        stack.push_async_callback(_ended, self.recording)

    async def _record(self) -> None:
        """A server that was started anew knows nothing of before, so then the list of the moment is all there is."""
        access = from_kubeconfig(str(self.cluster.kubeconfig))
        headers = {"Authorization": f"Bearer {access.token}"}
        connector = aiohttp.TCPConnector(ssl=access.tls())
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2)
        async with aiohttp.ClientSession(
            headers=headers, connector=connector, timeout=timeout, read_bufsize=1 << 22
        ) as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError, OSError, ApiError, Unavailable):
                    listed = await self.api.list(ASSIGNMENTS.path())
                    for item in listed["items"]:
                        self._took(item)
                    query = {"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"]}
                    async with session.get(access.host + ASSIGNMENTS.path(), params=query) as response:
                        while response.status == 200 and (line := await response.content.readline()).endswith(b"\n"):
                            event = json.loads(line)
                            if event["type"] not in ("ADDED", "MODIFIED"):
                                break
                            self._took(event["object"])
                await asyncio.sleep(0.02)

    def _took(self, body: dict[str, Any]) -> None:
        spec = AssignmentSpec.model_validate(body["spec"])
        tables = self.tables.setdefault((body["metadata"]["namespace"], body["metadata"]["name"]), {})
        assert spec.epoch >= max(tables, default=0), "an epoch went back"
        tables[spec.epoch] = spec

    def histories(self) -> list[History]:
        """What the watch has seen, and what the operators have written while there was none."""
        for name, written in self.team.written():
            spec = AssignmentSpec.model_validate(written)
            self.tables[name].setdefault(spec.epoch, spec)
        found = []
        for name, tables in self.tables.items():
            history = History()
            history.declare([1_000, 10_000])
            for at in self.retries.get(name, ()):
                history.record_retry(at)
            for epoch in sorted(tables):
                history.record_table(epoch, tables[epoch])
            found.append(history)
        return found


async def run(folder: Path, parts: tuple[str, ...] = FAULTS) -> Report:
    """Each part with one rollout after the other, over and over."""
    name = "failover" if len(parts) > 1 else f"failover-{parts[0]}"
    report = Report(name, f"a breach while the leader goes, gate at {_GATE_MS} ms, two operators, {_SIZE} rollouts")
    crowd = _Watched(folder, _SIZE, routers=2, gate=f"{_GATE_MS}ms", scrape=_SCRAPE)
    async with crowd.holding():
        names = itertools.cycle(crowd.names)
        for fault in parts:
            seen = []
            for number in range(_ROUNDS):
                moments = await _round(crowd, next(names), fault)
                seen.append(moments)
                crowd.say(
                    f"{fault} {number + 1}: stopped {moments['stopped'] - moments['injected']:.2f} s after the fault"
                )
            _judge(report, fault, seen)
        assert not crowd.recording.done(), f"the record has ended: {crowd.recording.exception()!r}"
        histories = crowd.histories()
        tables = sum(len(history.versions) for history in histories)
        wrong = [violation for history in histories for violation in history.violations()]
    report.cost("tables on record", str(tables))
    for violation in wrong:
        report.cost("broken rule", str(violation))
    report.target(f"no wrong move in {tables} tables, by the history checker", tables > 0 and not wrong)
    return report


async def _round(crowd: _Watched, name: Name, fault: str) -> dict[str, float]:
    leader = await crowd.team.leader()
    subject = (await crowd.subjects())[name]
    await crowd.forget_acks()
    # At any point of the leader's second between two renewals, of the scrape and of the gate's interval.
    await asyncio.sleep(random.uniform(2.0, 3.0))
    breach = asyncio.create_task(crowd.signals.breach(subject))
    await asyncio.sleep(0)
    injected = time.time()
    if fault == "apiserver":
        await crowd.cluster.restart_apiserver(down_for=random.uniform(0, 1))
    else:
        crowd.team.hit(leader, signal.Signals[fault])
    readable = await breach
    await until(f"{name} is stopped", lambda: _is_stopped(crowd, name), _LONGEST, every=0.1)
    stopped = (await crowd.stopped([name]))[name]
    records = await crowd.reverted([name], _LONGEST)
    moments = {"injected": injected, "readable": readable, "stopped": stopped}
    moments["served"] = records[name]["record"]["revert"]["servedAt"] / 1000
    moments["by the one that went"] = float(fault != "apiserver" and _wrote(leader, records[name]))
    await _insist(crowd.team.revive)
    await crowd.team.leader()
    crowd.retries.setdefault(name, []).append(int(time.time() * 1000))
    await _insist(lambda: crowd.again([name], f"{fault}-{injected}"))
    return moments


async def _is_stopped(crowd: _Watched, name: Name) -> bool:
    return name in await crowd.stopped([name])


def _wrote(leader: Operator, spec: dict[str, Any]) -> bool:
    """Whether the revert was still decided by the one that went."""
    lines = leader.evidence.read_text().splitlines() if leader.evidence.exists() else []
    reverts = [json.loads(line)["written"]["spec"]["record"].get("revert") or {} for line in lines[-20:]]
    return spec["record"]["revert"]["id"] in [revert.get("id") for revert in reverts]


def _judge(report: Report, fault: str, seen: list[dict[str, float]]) -> None:
    def between(start: str) -> list[float]:
        return [moments["stopped"] - moments[start] for moments in seen]

    total = report.measured(f"{fault} and fault injected -> last router acked the Freeze", between("injected"))
    report.measured("  of it: readable in Prometheus -> last router acked", between("readable"))
    report.measured(f"{fault} and fault injected -> target granted", [m["served"] - m["injected"] for m in seen])
    if fault in _TARGETS:
        report.cost(f"{fault}: reverts by the one that went", f"{sum(m['by the one that went'] for m in seen):.0f}")
        within = _TARGETS[fault]
        words = f"{fault}: candidate stopped within {within:g} s at p90 of {total.n}: {total.p90:.2f} s"
        report.target(words, total.p90 <= within and total.n >= _ROUNDS)


async def _insist(work: Callable[[], Awaitable[None]]) -> None:
    """Once more while the API server is just coming back."""
    for _ in range(10):
        try:
            return await work()
        except Unavailable:
            await asyncio.sleep(1)
    return await work()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
