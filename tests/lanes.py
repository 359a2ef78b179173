"""All tests in as few minutes as two cores allow: `python -m tests.lanes`, which is what `make test` runs.

Most tests wait: for leases to end, for pods, for programs to be built into images. So they run in two lanes side by
side, each with a cluster and a network of its own. Those that send thousands of orders a second, or judge what happens
within a fraction of one, come first and have the machine to themselves; what they leave of it while they wait is given
to those that only compute.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

_TESTS = Path(__file__).parent
_ALONE = ("traffic", "router", "conformance", "orders")
_COMPUTING = ("core", "properties", "history")
_WAITING = ("cli", "election", "images")
_NOT_HERE = ("e2e",)  # has a command of its own
_A_FAILURE = ("FAILED ", "ERROR ")  # how pytest's summary begins the line that names one


def _others() -> list[str]:
    """Every folder with tests that is named nowhere, so that none can be forgotten."""
    named = {*_ALONE, *_COMPUTING, *_WAITING, *_NOT_HERE}
    return sorted({path.parent.name for path in _TESTS.glob("*/test_*.py")} - named)


def _start(folders: Sequence[str]) -> subprocess.Popen[str]:
    gives_way = folders == _COMPUTING
    command = [sys.executable, "-m", "tests.cluster.enter", "--", sys.executable, "-m", "pytest", "--durations=15"]
    command += [f"tests/{folder}" for folder in folders]
    wide = {**os.environ, "COLUMNS": "200"}  # else pytest cuts off why something failed
    lane = subprocess.Popen(
        command,
        cwd=_TESTS.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=wide,
        start_new_session=gives_way,
    )
    if gives_way:
        _run_when_idle(lane.pid)
    return lane


def _run_when_idle(leader: int) -> None:
    """Whoever else wants to run does so at once. `leader` is that of a session: where Linux shares its time out among
    sessions (sched(7), autogroup), a process that only gives way within its own takes as much as ever from the others.
    """
    with contextlib.suppress(OSError):  # not every kernel has both, not every container allows them
        os.sched_setscheduler(leader, os.SCHED_IDLE, os.sched_param(0))
        Path(f"/proc/{leader}/autogroup").write_text("19")


def _tell(name: str, lane: subprocess.Popen[str], failures: list[str]) -> None:
    assert lane.stdout is not None
    for line in lane.stdout:
        print(f"{name} | {line}", end="", flush=True)
        if line.startswith(_A_FAILURE):
            failures.append(line)


def side_by_side(lanes: dict[str, Sequence[str]], failures: list[str]) -> dict[str, int]:
    """Runs these lanes (name -> folders) at once; returns the exit status of each. Ends them when interrupted.

    What failed is added to `failures`, a line each, so that it can be said once more at the end.
    """
    running = {name: _start(folders) for name, folders in lanes.items()}
    tellers = [threading.Thread(target=_tell, args=(*pair, failures)) for pair in running.items()]
    for teller in tellers:
        teller.start()
    try:
        return {name: lane.wait() for name, lane in running.items()}
    finally:
        for lane in running.values():
            lane.terminate()
        for teller in tellers:
            teller.join()


def main() -> int:
    """Returns 0 when everything passed."""
    began = time.monotonic()
    failures: list[str] = []
    results = side_by_side({"alone": _ALONE, "computing": _COMPUTING}, failures)
    results |= side_by_side({"waiting": _WAITING, "others": _others()}, failures)
    failed = [name for name, status in results.items() if status]
    print("".join(failures), end="")
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"{'FAILED in ' + ', '.join(failed) if failed else 'all tests passed'}; {minutes} min {seconds} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
