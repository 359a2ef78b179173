"""A node whose outer process is killed with SIGKILL while its pods run: nobody can tidy up, and nothing may stay.

Run once by each `make e2e CLUSTER=node`, after the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e import leftovers, setting

_UP = "the node is up"
_STARTED_SECONDS, _GONE_SECONDS = 180.0, 30.0


def check(folder: Path) -> str:
    """What has stayed, one a line; empty when all is well."""
    before = leftovers.snapshot()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= setting.elsewhere(folder)
    log = folder / "interrupted.log"
    command = [sys.executable, "-m", "tests.cluster.enter", "--node", "--", sys.executable, "-m", "tests.e2e.keep"]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        deadline = time.monotonic() + _STARTED_SECONDS
        while _UP not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                return f"  it did not start: {log}"
            time.sleep(0.2)
        process.kill()
    deadline = time.monotonic() + _GONE_SECONDS
    while (left := leftovers.since(before)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left
