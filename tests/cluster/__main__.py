"""`python -m tests.cluster up [--dir D]`: a cluster to keep and to look at, until Control-C."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.cluster import build
from tests.cluster.cluster import Cluster
from tests.cluster.enter import OUTER, inside, outer


def how_to_enter(cluster: Cluster) -> str:
    """What to type in another terminal, in this same folder, to be inside with kubectl at hand."""
    join = f"{sys.executable} -m tests.cluster.enter --join {os.environ.get(OUTER, 'PID')} --"
    return (
        f"  shell       KUBECONFIG={cluster.kubeconfig} {join} bash\n"
        f"  kubectl     {join} {build.binary('kubectl')} --kubeconfig {cluster.kubeconfig} get nodes\n"
        f"  Prometheus  {cluster.prometheus_url} (inside)\n"
        f"  logs        {cluster.folder}/logs and {cluster.folder}/nodes/*/logs"
    )


async def _up(folder: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Cluster.start(folder) as cluster:
        print(f"the cluster is up until Control-C\n{how_to_enter(cluster)}", flush=True)
        await stop.wait()


def main() -> int:
    """Parse the command line; enter first if need be."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster")
    parser.add_argument("command", choices=["up"])
    parser.add_argument("--dir", type=Path, help="where to keep its files (default: a new folder)")
    options = parser.parse_args()
    if not inside():
        return outer([sys.executable, "-m", "tests.cluster", *sys.argv[1:]])
    asyncio.run(_up(options.dir or Path(tempfile.mkdtemp(prefix="strategyrollout-"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
