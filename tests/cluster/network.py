"""The addresses of the private network and the few `ip` commands that make it.

Why real interfaces and not many addresses on `lo`: with a network namespace per pod a strategy can bind 0.0.0.0 as in
production, and one pod can be cut off from the API server while everyone else still reaches it.
"""

from __future__ import annotations

import os
import subprocess

# The first address of the service range: the API server's own certificate is valid for it.
API_ADDRESS = "10.96.0.1"
API_PORT = 443
SERVICE_RANGE = "10.96.0.0/16"
HOST_ADDRESS = "10.244.0.1"
POD_PREFIX = 16
_BRIDGE = "pods"
_BRIDGE_MAC = "02:00:00:00:00:02"
_DEAD_END = "deadend"
_DEAD_MAC = "02:00:00:00:00:01"


def search_path() -> str:
    """PATH with the folders where `ip` lives, which ordinary users often lack."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def pod_address(node_index: int, number: int) -> str:
    """The address of the number-th pod of a node: 4096 per node, so that none is used again soon."""
    value = (node_index << 12) + 2 + number % 4090
    return f"10.244.{value >> 8}.{value & 255}"


def ip_batch(lines: list[str], namespace_of: int | None = None) -> None:
    """These `ip` commands, in the network of that process if one is named."""
    prefix = [] if namespace_of is None else ["nsenter", "-t", str(namespace_of), "-n"]
    command = [*prefix, "ip", "-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"network set-up failed ({'; '.join(lines)}): {done.stderr.strip()}")


def set_up() -> None:
    """Make the host side: loopback, the API server's address, and the bridge all pods hang on."""
    ip_batch(
        [
            "link set lo up",
            f"addr add {API_ADDRESS}/32 dev lo",
            # Without an address of its own a bridge goes by the lowest of its ports; pods that have learned it reach
            # nobody for half a minute once the pod of that port is gone.
            f"link add {_BRIDGE} address {_BRIDGE_MAC} type bridge forward_delay 0",
            f"addr add {HOST_ADDRESS}/{POD_PREFIX} dev {_BRIDGE}",
            f"link set {_BRIDGE} up",
        ]
    )


def connect_pod(pause_pid: int, link: str, address: str) -> None:
    """Give the pod whose network namespace that process holds an `eth0` with its address, on the bridge."""
    ip_batch(
        [
            f"link add {link} type veth peer name eth0 netns {pause_pid}",
            f"link set {link} master {_BRIDGE} up",
        ]
    )
    ip_batch(
        [
            "link set lo up",
            f"addr add {address}/{POD_PREFIX} dev eth0",
            "link set eth0 up",
            f"route add default via {HOST_ADDRESS}",
        ],
        pause_pid,
    )


def cut_off(pause_pid: int) -> None:
    """Make the API server unreachable for one pod, silently and in both directions, open connections included.

    Outgoing packets are routed onto a bridge without ports, where they vanish. Incoming ones are dropped because they
    come from an interface that the strict reverse path check does not expect.
    """
    ip_batch(
        [
            f"link add {_DEAD_END} type bridge",
            f"link set {_DEAD_END} up",
            f"neigh replace {API_ADDRESS} lladdr {_DEAD_MAC} dev {_DEAD_END} nud permanent",
            f"route replace {API_ADDRESS}/32 dev {_DEAD_END}",
        ],
        pause_pid,
    )
    _set_reverse_path_check(pause_pid, 1)


def heal(pause_pid: int) -> None:
    """Undo `cut_off`."""
    _set_reverse_path_check(pause_pid, 0)
    ip_batch([f"link delete {_DEAD_END}"], pause_pid)


def _set_reverse_path_check(pause_pid: int, value: int) -> None:
    # Network settings under /proc/sys belong to the namespace of the process that opens them.
    script = f"echo {value} > /proc/sys/net/ipv4/conf/eth0/rp_filter"
    subprocess.run(["nsenter", "-t", str(pause_pid), "-n", "sh", "-c", script], check=True)
