"""A desk with orders flowing, an operator that is gone, and a person with a kubeconfig and a command."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cli.command import Command, Said, run
from tests.cluster.cluster import Cluster
from tests.traffic.desk import ACCOUNTS, NAME, Desk, Times, desk_of
from tests.traffic.load import Answer, Load, Shape, running

DRAIN = 300
LEASE = "lead"


@dataclass
class Scene:
    """1.0.0 serves, orders come."""

    desk: Desk
    stable: str
    load: Load
    kubeconfig: Path

    def words(self, command: str, *arguments: str) -> tuple[str, ...]:
        """A command about the rollout."""
        namespace = self.desk.record.namespace
        lease = ("--operator-lease", f"{namespace}/{LEASE}") if command == "override" else ()
        return (command, NAME, "-n", namespace, *lease, *arguments)

    async def run(self, command: str, *arguments: str, seconds: float = 60) -> Said:
        """From start to end."""
        return await run(self.kubeconfig, *self.words(command, *arguments), seconds=seconds)

    async def start(self, command: str, *arguments: str) -> Command:
        """Under way."""
        return await Command.start(self.kubeconfig, *self.words(command, *arguments))

    async def everything_at(self, revision: str) -> None:
        """The table says so, and every account that is served from now on is served there."""
        record = self.desk.record
        await record.until("everything is there", lambda: record.share(revision) == 10_000)

    async def finish(self, revision: str, since: float) -> list[Answer]:
        """Orders sent since then (ms) reached only this revision, for every account; every rule held."""
        await asyncio.sleep(2)
        answers = await self.load.stop()
        late = [a for a in answers if a.sent_at >= since and a.status == 200]
        assert {a.revision for a in late} == {revision}
        assert {a.account for a in late} == set(ACCOUNTS)
        assert self.desk.judge() > 100
        return answers


@contextlib.asynccontextmanager
async def scene(
    cluster: Cluster, namespace: str, folder: Path, *, elected: bool = False, **times_: Any
) -> AsyncIterator[Scene]:
    """1.0.0 serves through two routers. `elected`: the operator leads by a Lease."""
    usual: dict[str, Any] = {"routers": 2, "lease": "10s", "drain": f"{DRAIN}ms", "steps": ("10%",)}
    times = Times(**(usual | times_))
    settings = {"leader_lease": f"{namespace}/{LEASE}", "lease_duration": "3s", "renew_deadline": "2s"}
    settings |= {"retry_period": "500ms"}
    async with desk_of(cluster, namespace, folder, times, tolerance=DRAIN, **(settings if elected else {})) as desk:
        stable = await desk.stable()
        shape = Shape(connections=4, pause=0.02, slow_share=0.05, slow_most=DRAIN // 4)
        async with running(folder, await desk.routers_ready(), ACCOUNTS, shape) as load:
            yield Scene(desk, stable, load, cluster.kubeconfig)
