"""The namespaces as a node needs them: its own folders, one address without an uplink, and harmless kernel settings.

Why no uplink: a packet for a pod or a ClusterIP that no rule knows yet must not leave by a real interface. Why its own
folders: kubelet and CNI have paths built in; here they lie in memory and are gone with the namespaces.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

from tests.cluster.network import SERVICE_RANGE, ip_batch

# The distribution's, because they belong to its kernel and tools; skopeo puts archives into the registry.
PACKAGES = (
    "containerd",
    "runc",
    "containernetworking-plugins",
    "docker-registry",
    "iptables",
    "skopeo",
)
NAME = "node-1"
ADDRESS = "172.30.0.1"
POD_RANGE = "10.244.0.0/16"
PODS_OF_NODE = "10.244.0.0/24"
# Everything large or temporary; in memory, because overlay file systems and etcd are quick there and leave nothing.
DATA = Path("/run/node")
KUBELET = DATA / "kubelet"
"""What the kubelet keeps, volumes of pods included."""
_LIMIT = "8g"
# The kubelet sets these for the whole machine. It may write; nobody hears it.
_DECOYS = {"vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1"}


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"mount {' '.join(arguments)}: {done.stderr.strip()}")


def _set(name: str, value: str) -> None:
    Path(f"/proc/sys/{name}").write_text(value)


def set_up() -> None:
    """Make all of it; to be called by the first process inside."""
    _folders()
    socket.sethostname(NAME)
    ip_batch(
        [
            "link set lo up",
            # The kernel may lack the dummy driver; a pair of ends is an interface as well.
            "link add node0 type veth peer name node0p",
            f"addr add {ADDRESS}/24 dev node0",
            "link set node0 up",
            "link set node0p up",
            # Without a route a connection to a ClusterIP fails before kube-proxy's rules can turn it round.
            f"route add {SERVICE_RANGE} dev node0",
        ]
    )
    _set("net/ipv4/ip_forward", "1")
    bridge = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not bridge.exists():
        subprocess.run(["modprobe", "br_netfilter"], capture_output=True, check=False)
    if bridge.exists():
        bridge.write_text("1")


def keep_volumes_in(folder: Path) -> None:
    """On a disk from now on, as users have it: what waits for a disk does not wait for memory."""
    shutil.rmtree(folder, ignore_errors=True)  # a kubelet would take up the pods of an earlier run
    for path in (folder, KUBELET):
        path.mkdir(parents=True)
    _mount("--bind", str(folder), str(KUBELET))


def _folders() -> None:
    _mount("--make-rshared", "/")  # containerd hands mounts on to its containers
    _mount("-t", "tmpfs", "-o", f"mode=755,size={_LIMIT}", "tmpfs", "/run")
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/var/log")
    upper, work = DATA / "lib", DATA / "lib-work"
    for folder in (Path("/run/netns"), upper, work):
        folder.mkdir(parents=True)
    _mount("-t", "overlay", "-o", f"lowerdir=/var/lib,upperdir={upper},workdir={work}", "overlay", "/var/lib")
    for name, value in _DECOYS.items():
        decoy = DATA / "decoys" / Path(name).name
        decoy.parent.mkdir(exist_ok=True)
        decoy.write_text(f"{value}\n")
        _mount("--bind", str(decoy), f"/proc/sys/{name}")
