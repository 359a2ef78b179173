"""`make e2e KEEP=1`: the node with the product, until Control-C; tells how to run tests on it from another terminal."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from pathlib import Path

from tests.cluster.build import binary
from tests.cluster.enter import OUTER
from tests.e2e import setting, site


def how_to_join(folder: Path) -> str:
    """What to type in another terminal, in this same folder, to have kubectl and pytest inside."""
    join = f"{sys.executable} -m tests.cluster.enter --join {os.environ[OUTER]} --"
    told = {name: os.environ[name] for name in setting.NAMES} | {"KUBECONFIG": f"{folder}/kubeconfig"}
    (folder / "env").write_text("".join(f"export {k}={shlex.quote(v)}\n" for k, v in told.items()))
    return (
        f"  . {folder}/env\n"
        f"  {join} {binary('kubectl')} get pods -A\n"
        f"  {join} {sys.executable} -m pytest tests/e2e -k story\n"
        f"  logs: {folder}/logs, {folder}/pods"
    )


async def _keep() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    folder = setting.folder()
    assert folder is not None
    async with site.made("node", folder) as made:
        site.keep(made)
        print(f"the node is up until Control-C. In another terminal, here:\n{how_to_join(folder)}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_keep())
