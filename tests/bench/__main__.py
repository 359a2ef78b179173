"""`python -m tests.bench [NAME...] [--out FOLDER]`, which is `make bench`: builds what is missing, then measures.

NAME is one of: one, one-node (as root), sequence, burst-100, burst-500 (or burst-N), hold, scale (or scale-N), failover
(or a part of it: failover-SIGKILL, failover-apiserver), command, images (as root). Without a name: those without root.
Of `one` and `one-node` a table side by side follows, once a folder has both.
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

from tests.bench import burst, command, failover, hold, images, one, scale, sequence, side_by_side
from tests.bench.figures import Report
from tests.cluster import build
from tests.cluster.enter import inside, outer
from tests.e2e.prepare import prepare
from tests.images.__main__ import main as images_command

Bench = Callable[[Path], Coroutine[Any, Any, Report]]
ALL = ("one", "sequence", "burst-100", "burst-500", "hold", "scale", "failover", "command")
_ON_NODE = ("one-node",)


def bench(name: str) -> Bench:
    """The benchmark of that name; raises KeyError."""
    word, _, number = name.partition("-")
    if word == "burst" and number.isdigit():
        return partial(burst.run, size=int(number))
    if word == "scale" and (number.isdigit() or not number):
        return partial(scale.run, size=int(number or scale.DEFAULT))
    if word == "failover" and number in ("", *failover.FAULTS):
        return partial(failover.run, parts=(number,) if number else failover.FAULTS)
    plain: dict[str, Bench] = {
        "one": one.run,
        "one-node": partial(one.run, node=True),
        "sequence": sequence.run,
        "hold": hold.run,
    }
    plain |= {"command": command.run, "images": images.run}
    return plain[name]


def main() -> int:
    """Returns 1 when a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", default=ALL)
    parser.add_argument("--out", type=Path, help="folder for the figures as JSON and the logs; default: a new one")
    arguments = parser.parse_args()
    try:
        wanted = {name: bench(name) for name in arguments.names}
    except KeyError as error:
        sys.exit(f"no such benchmark: {error.args[0]}; there are {', '.join((*ALL, *_ON_NODE, 'images'))}")
    out = (arguments.out or Path(tempfile.mkdtemp(prefix="bench-"))).resolve()
    code = _measure(wanted, out) if inside() else _enter(list(wanted), out)
    if not inside() and (both := side_by_side.table(out)) and {"one", *_ON_NODE} & wanted.keys():
        print(both)
    if not inside() or arguments.out is None:
        print(f"figures and logs: {out}")
    return code


def _enter(names: list[str], out: Path) -> int:
    """Each where it belongs: on pretended nodes, or in the namespaces of a real one."""
    worst = 0
    for node in (False, True):
        if here := [name for name in names if (name in _ON_NODE) == node]:
            _prepare(here, out, node=node)
            arguments = [sys.executable, "-m", "tests.bench", *here, "--out", str(out)]
            worst = max(worst, outer(arguments, node=node))
        if worst > 1:
            break  # interrupted
    return worst


def _prepare(names: list[str], out: Path, *, node: bool) -> None:
    if node:
        prepare("node", out)
        return
    if "images" in names:
        images_command(["prepare"])
    try:
        build.ensure(["kwok"])
    except build.BuildError as error:
        sys.exit(str(error))


def _measure(wanted: dict[str, Bench], out: Path) -> int:
    met = True
    for name, run in wanted.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        report = asyncio.run(run(folder))
        print(report, flush=True)
        report.write(out)
        met = met and all(kept for _, kept in report.targets)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
