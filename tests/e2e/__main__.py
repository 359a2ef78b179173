"""`python -m tests.e2e [--cluster node|kind|current] [-- PYTEST ARGUMENTS]`: builds what is missing, runs the tests."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from tests import images
from tests.cluster import build, enter, packages
from tests.cluster.providers import NAMES
from tests.e2e import leftovers, setting
from tests.images.archive import ImageError

_PROGRAMS = ("kubectl", "helm", "prometheus")


def main() -> int:
    """Exit code of the tests; 1 also when something was left behind."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e", description=__doc__)
    parser.add_argument("--cluster", choices=NAMES, default="node")
    parser.add_argument("--dir", type=Path, help="where to keep logs (default: a new folder in .e2e)")
    parser.add_argument("--keep", action="store_true", help="node: no tests; keep it until Control-C for runs of a few")
    parser.add_argument("argument", nargs="*", help="for pytest, after --")
    options = parser.parse_args()
    if options.cluster == "node" and os.geteuid() != 0:
        print("e2e: CLUSTER=node needs root; CLUSTER=kind and CLUSTER=current do not", file=sys.stderr)
        return 2
    try:
        build.ensure(_PROGRAMS)
        built = images.ensure()
    except (build.BuildError, packages.PackagesMissing, ImageError) as error:
        print(f"e2e: {error}", file=sys.stderr)
        return 2
    folder = (options.dir or Path(".e2e") / time.strftime("run-%Y%m%d-%H%M%S")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= setting.told(options.cluster, built, folder)
    command = [sys.executable, "-m", "pytest", *(options.argument or ["tests/e2e"])]
    if options.keep:
        command = [sys.executable, "-m", "tests.e2e.keep"]
    if options.cluster != "node":
        return subprocess.run(command, check=False).returncode
    before = leftovers.snapshot()
    code = enter.outer(command, node=True)
    if left := leftovers.since(before):
        print(f"e2e: the node has left something behind:\n{left}", file=sys.stderr)
        return code or 1
    print("e2e: the node has left nothing behind", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
