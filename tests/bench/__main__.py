"""`python -m tests.bench [NAME...] [--out FOLDER]`, inside `python -m tests.cluster.enter --`. `make bench` does both.

NAME is one of: one, sequence, burst-100, burst-500 (or burst-N), hold, scale (or scale-N), failover (or a part of it:
failover-SIGKILL, failover-apiserver), command, images (as root). Without a name: all but images.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import burst, command, failover, hold, images, one, scale, sequence
from tests.bench.figures import Report
from tests.cluster.enter import inside

Bench = Callable[[Path], Coroutine[Any, Any, Report]]
ALL = ("one", "sequence", "burst-100", "burst-500", "hold", "scale", "failover", "command")


def bench(name: str) -> Bench:
    """The benchmark of that name; raises KeyError."""
    word, _, number = name.partition("-")
    if word == "burst" and number.isdigit():
        return partial(burst.run, size=int(number))
    if word == "scale" and (number.isdigit() or not number):
        return partial(scale.run, size=int(number or scale.DEFAULT))
    if word == "failover" and number in ("", *failover.FAULTS):
        return partial(failover.run, parts=(number,) if number else failover.FAULTS)
    plain = {"one": one.run, "sequence": sequence.run, "hold": hold.run, "command": command.run, "images": images.run}
    return plain[name]


def main() -> int:
    """Returns 1 when a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", default=ALL)
    parser.add_argument("--out", type=Path, help="folder for the figures as JSON and the logs; default: a new one")
    arguments = parser.parse_args()
    if not inside():
        sys.exit("run this as: python -m tests.cluster.enter -- python -m tests.bench")
    try:
        wanted = {name: bench(name) for name in arguments.names}
    except KeyError as error:
        sys.exit(f"no such benchmark: {error.args[0]}; there are {', '.join(ALL)}")
    out: Path = arguments.out or Path(tempfile.mkdtemp(prefix="bench-"))
    met = True
    for name, run in wanted.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        report = asyncio.run(run(folder))
        print(report, flush=True)
        report.write(out)
        met = met and all(kept for _, kept in report.targets)
    print(f"figures and logs: {out}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
