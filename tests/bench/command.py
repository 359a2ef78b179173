"""How long a person waits for `kubectl strategyrollout status`: from starting the process to its end."""

from __future__ import annotations

from pathlib import Path

from tests.api.install import install_crds
from tests.api.manifests import sample
from tests.bench.figures import Report
from tests.cli.command import run as command
from tests.cluster.cluster import Cluster

_TIMES = 30


async def run(folder: Path) -> Report:
    """One rollout, no operator: only the command and the API server are measured."""
    report = Report("command", f"`status` {_TIMES} times against a real API server, one after another")
    async with Cluster.start(folder / "cluster") as cluster:
        await install_crds(cluster)
        rollout = sample("canary.yaml")
        rollout["metadata"] = {"name": "momentum", "namespace": "default"}
        await cluster.apply(rollout)
        took, wrong = [], []
        for _ in range(_TIMES):
            took.append((await command(cluster.kubeconfig, "status", "momentum")).seconds)
            wrong.append((await command(cluster.kubeconfig, "status", "--nonsense")).seconds)
    report.measured("process started -> status printed and ended", took)
    report.measured("process started -> wrong use told and ended", wrong)
    return report
