"""What a machine has that a node could have left on it: mounts, links, routes, groups, folders, settings, processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.cluster.enter import OUTER
from tests.cluster.processes import alive
from tests.cluster.realnode import cgroups

_SETTINGS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")
_FOLDERS = ("/var/lib/kubelet", "/var/lib/cni", "/var/lib/containerd", "/run/containerd", "/run/node", "/var/log/pods")

Snapshot = dict[str, frozenset[str]]


def snapshot() -> Snapshot:
    """All of it, as lines that can be compared."""
    return {
        "mount": frozenset(Path("/proc/self/mounts").read_text().splitlines()),
        "link": frozenset(path.name for path in Path("/sys/class/net").iterdir()),
        "route": frozenset(_printed("ip", "route", "show", "table", "all")),
        "control group": frozenset(map(str, cgroups.of_ended_runs())),
        "rule": frozenset(_printed("iptables-save")),
        "setting": frozenset(f"{name}={(Path('/proc/sys') / name).read_text().strip()}" for name in _SETTINGS),
        "folder": frozenset(name for name in _FOLDERS if Path(name).exists()),
        "process": frozenset(_processes()),
    }


def since(before: Snapshot) -> str:
    """What is there now and was not, one a line; empty when nothing is."""
    now = snapshot()
    return "\n".join(f"  {kind}: {line}" for kind in before for line in sorted(now[kind] - before[kind]))


def _printed(*command: str) -> list[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    return [line.strip() for line in done.stdout.splitlines() if not line.startswith(("#", ":"))]


def _processes() -> list[str]:
    """Those that a run started which is over; other runs may go on beside it."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdigit():
                continue
            variables = (entry / "environ").read_bytes().split(b"\0")
            outer = [v.partition(b"=")[2] for v in variables if v.startswith(OUTER.encode() + b"=")]
            if outer and (int(outer[0]) == os.getpid() or not alive(int(outer[0]))):
                found.append(f"{(entry / 'comm').read_text().strip()} {entry.name}")
        except OSError:
            continue
    return found
