"""`python -m tests.cluster up [--dir D]`: a cluster to keep and to look at, until Control-C.

`python -m tests.cluster run [--dir D] -- COMMAND...` runs a command beside a fresh cluster instead, so that several
processes, the workers of a parallel test run for example, share one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.cluster import build
from tests.cluster.cluster import RUNNING, Cluster
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


async def _run(folder: Path, command: list[str]) -> int:
    async with Cluster.start(folder) as cluster:
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, RUNNING: str(cluster.folder)})
        # The command hears Control-C itself; it is waited for, so that the cluster outlives its clean-up.
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, process.terminate)
        return await process.wait()


def main() -> int:
    """Parse the command line; enter first if need be."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster")
    parser.add_argument("command", choices=["up", "run"])
    parser.add_argument("--dir", type=Path, help="where to keep its files (default: a new folder)")
    parser.add_argument("argument", nargs="*", help="with run: the command, after --")
    options = parser.parse_args()
    if not inside():
        return outer([sys.executable, "-m", "tests.cluster", *sys.argv[1:]])
    folder = options.dir or Path(tempfile.mkdtemp(prefix="strategyrollout-"))
    if options.command == "run":
        return asyncio.run(_run(folder, options.argument))
    asyncio.run(_up(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
