"""The group under which everything of one node is accounted, limited and found again when it must go.

Why a root of our own: a kubelet otherwise makes its groups beside those of the machine, where nobody can tell
afterwards which are left over from a run. It carries the process id of the run, so a later run may remove it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.processes import alive

_ROOT = Path("/sys/fs/cgroup")
_PREFIX = "strategyrollout-"
_PATIENCE_SECONDS = 10.0


def name_of(outer_pid: int) -> str:
    """Name of the group of that run."""
    return f"{_PREFIX}{outer_pid}"


def _version_2() -> bool:
    return (_ROOT / "cgroup.controllers").exists()


def _hierarchies() -> Iterator[Path]:
    if _version_2():
        yield _ROOT
        return
    # Links are other names of joined hierarchies.
    yield from (path for path in sorted(_ROOT.iterdir()) if path.is_dir() and not path.is_symlink())


def make(name: str) -> None:
    """The group in every hierarchy; a kubelet does not make its own root."""
    if _version_2():
        wanted = "+cpu +cpuset +memory +pids +io"
        with contextlib.suppress(OSError):  # where they are on already, or belong to somebody else
            (_ROOT / "cgroup.subtree_control").write_text(wanted)
        (_ROOT / name).mkdir(exist_ok=True)
        return
    for hierarchy in _hierarchies():
        if hierarchy.name == "unified":
            continue
        (hierarchy / name).mkdir(exist_ok=True)
        if hierarchy.name == "cpuset":
            for file in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group, and then nothing may run in it
                (hierarchy / name / file).write_text((hierarchy / file).read_text())


def of_ended_runs() -> list[Path]:
    """Groups of runs that are over, this process's own among them."""
    found = [path for hierarchy in _hierarchies() for path in hierarchy.glob(f"{_PREFIX}*")]
    return [path for path in found if path.name == name_of(os.getpid()) or not alive(_owner(path))]


def _owner(group: Path) -> int:
    return int(group.name.removeprefix(_PREFIX))


def remove(name: str) -> None:
    """All groups of that name, once their processes have been ended; what does not go in time stays."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while left := [path for hierarchy in _hierarchies() if (path := hierarchy / name).is_dir()]:
        for group in left:
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def remove_left_over() -> None:
    """What runs have left that were ended so that nobody could tidy up."""
    for name in {path.name for path in of_ended_runs()}:
        remove(name)
