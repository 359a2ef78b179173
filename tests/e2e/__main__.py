"""`python -m tests.e2e [--cluster node|kind|current] [-- PYTEST ARGUMENTS]`: builds what is missing, runs the tests."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.cluster import enter
from tests.cluster.providers import NAMES
from tests.e2e import interrupted, leftovers
from tests.e2e.prepare import prepare

_RUNS_KEPT = 3


def _new_folder() -> Path:
    """For this run; of earlier ones only the latest stay."""
    runs = Path(".e2e")
    for old in sorted(runs.glob("run-*"))[: -_RUNS_KEPT + 1]:
        shutil.rmtree(old, ignore_errors=True)
    return runs / time.strftime("run-%Y%m%d-%H%M%S")


def main() -> int:
    """Exit code of the tests; 1 also when something was left behind."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e", description=__doc__)
    parser.add_argument("--cluster", choices=NAMES, default="node")
    parser.add_argument("--dir", type=Path, help="where to keep logs (default: a new folder in .e2e)")
    parser.add_argument("--keep", action="store_true", help="node: no tests; keep it until Control-C for runs of a few")
    parser.add_argument("argument", nargs="*", help="for pytest, after --; all tests unless given")
    options = parser.parse_args()
    folder = (options.dir or _new_folder()).resolve()
    prepare(options.cluster, folder)
    command = [sys.executable, "-m", "pytest", *(options.argument or ["tests/e2e"])]
    if options.keep:
        command = [sys.executable, "-m", "tests.e2e.keep"]
    if options.cluster != "node":
        return subprocess.run(command, check=False).returncode
    before = leftovers.snapshot()
    code = enter.outer(command, node=True)
    left = leftovers.since(before)
    if not options.argument and not options.keep and not left:
        left = interrupted.check(folder / "interrupted")
    if left:
        print(f"e2e: the node has left something behind:\n{left}", file=sys.stderr)
        return code or 1
    print("e2e: the node has left nothing behind", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
