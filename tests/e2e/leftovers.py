"""What a machine has that a node could have left on it: mounts, links, routes, groups, folders, settings, processes."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SETTINGS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")
_FOLDERS = ("/var/lib/kubelet", "/var/lib/cni", "/var/lib/containerd", "/run/containerd", "/run/node", "/var/log/pods")
_PROGRAMS = ("kubelet", "containerd", "containerd-shim", "kube-apiserver", "kube-proxy", "etcd", "docker-registry")

Snapshot = dict[str, frozenset[str]]


def snapshot() -> Snapshot:
    """All of it, as lines that can be compared."""
    return {
        "mount": frozenset(Path("/proc/self/mounts").read_text().splitlines()),
        "link": frozenset(path.name for path in Path("/sys/class/net").iterdir()),
        "route": frozenset(_printed("ip", "route", "show", "table", "all")),
        "control group": frozenset(map(str, Path("/sys/fs/cgroup").glob("*/strategyrollout-*"))),
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
    found = []
    for entry in Path("/proc").iterdir():
        try:
            name = (entry / "comm").read_text().strip() if entry.name.isdigit() else ""
        except OSError:
            continue
        if name.startswith(_PROGRAMS):
            found.append(f"{name} {entry.name}")
    return found
