"""Several operators of which one leads, as processes beside a cluster.

async with Replicas(cluster, folder, namespace).running() as replicas:
    leader = await replicas.leader()
    await leader.kill()
    leader = await replicas.leader(after=leader)
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.operator_process import Operator

LEASE = "operator"


class Replicas:
    """`lease_namespace` must exist. Settings as for `Operator`, the same for all."""

    def __init__(
        self, cluster: Cluster, folder: Path, lease_namespace: str, count: int = 2, /, **settings: str
    ) -> None:
        self._cluster = cluster
        self._namespace = lease_namespace
        own = {**settings, "leader_lease": f"{lease_namespace}/{LEASE}"}
        self.all = [
            Operator(cluster, folder / f"replica-{n}", None, **own, pod_name=f"replica-{n}") for n in range(count)
        ]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Replicas]:
        """All are started and one leads inside; those that still run are ended at the end."""
        async with contextlib.AsyncExitStack() as stack:
            for operator in self.all:
                await stack.enter_async_context(operator.running())
            await self.leader()
            yield self

    async def leader(self, *, after: Operator | None = None, seconds: float = 30) -> Operator:
        """Waits until one leads that is not `after`."""
        found: list[Operator] = []

        async def one_leads() -> bool:
            found[:] = [o for o in self.all if o is not after and await role(o) == "leading"]
            return len(found) == 1

        await until("one replica leads", one_leads, seconds, every=0.05)
        return found[0]

    def hit(self, operator: Operator, number: signal.Signals) -> None:
        """A signal; what comes of it is not waited for."""
        os.kill(operator.pid, number)

    async def revive(self) -> None:
        """Starts again those that have ended, as a kubelet does."""
        for operator in self.all:
            if operator._process is None or operator._process.returncode is not None:
                await operator.start()

    def written(self) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
        """Every table in the evidence of any of them, with namespace and name of its rollout."""
        for operator in self.all:
            for text in operator.evidence.read_text().splitlines() if operator.evidence.exists() else ():
                with contextlib.suppress(ValueError):  # the last line of one that was killed
                    line = json.loads(text)
                    namespace, _, name = line["rollout"].partition("/")
                    yield (namespace, name), line["written"]["spec"]

    async def lease(self) -> dict[str, Any]:
        """Spec of the Lease."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases/{LEASE}"
        status, body = await self._cluster.request("GET", path)
        return dict(body["spec"]) if status == 200 else {}


async def role(operator: Operator) -> str:
    """What a ready replica says it does; empty when it is not ready."""
    status, text = await operator.page("/readyz")
    return text.splitlines()[-1] if status == 200 else ""
