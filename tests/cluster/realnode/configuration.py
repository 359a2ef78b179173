"""What the programs of the node are told. JSON is YAML too; containerd alone wants TOML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cluster import network
from tests.cluster.control_plane import Variant
from tests.cluster.realnode.place import ADDRESS, DATA, NAME, POD_RANGE, PODS_OF_NODE

Object = dict[str, Any]
REGISTRY = "localhost:5000"
SOCKET = "unix:///run/containerd/containerd.sock"
DNS_ADDRESS = "10.96.0.10"
API_PORT = 6443
_CNI = DATA / "cni"


def variant(certificates: Path) -> Variant:
    """The control plane: on the node's own address; pods reach it by its Service, through kube-proxy."""
    return Variant(
        server=f"https://{ADDRESS}:{API_PORT}",
        apiserver={
            # Not one address alone: kubectl of a person inside may say localhost.
            "bind-address": "0.0.0.0",
            "advertise-address": ADDRESS,
            "secure-port": str(API_PORT),
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "kubelet-client-certificate": str(certificates / "to-kubelet.crt"),
            "kubelet-client-key": str(certificates / "to-kubelet.key"),
            "kubelet-preferred-address-types": "InternalIP",
        },
        manager={
            "cluster-cidr": POD_RANGE,
            "allocate-node-cidrs": "true",
            "service-cluster-ip-range": network.SERVICE_RANGE,
            # Short, so that a test need not wait long for a node to be taken for lost.
            "node-monitor-grace-period": "12s",
        },
        tokens=(f'kubelet-token,system:node:{NAME},kubelet,"system:nodes"', "proxy-token,system:kube-proxy,proxy"),
        data=DATA,
    )


def kubelet(folder: Path, cgroup: str) -> Object:
    """KubeletConfiguration."""
    certificate = {"clientCAFile": str(folder / "certs" / "node" / "ca.crt")}
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "failSwapOn": False,
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": certificate},
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": SOCKET,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(DATA / "resolv.conf"),
        # On disk: what containers have said is wanted after everything else is gone.
        "podLogsDir": str(folder / "pods"),
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "kubeAPIQPS": 500,
        "kubeAPIBurst": 1000,
        "nodeStatusUpdateFrequency": "2s",
        "nodeLeaseDurationSeconds": 8,
        # A test that lets a container crash should not have to wait for minutes.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "10s"},
        "featureGates": {"KubeletCrashLoopBackOffMax": True},
    }


def proxy(kubeconfig: Path) -> Object:
    """KubeProxyConfiguration. The four zeros: limits of the machine that a network namespace may not change."""
    untouched = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": NAME,
        "clusterCIDR": POD_RANGE,
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "conntrack": untouched,
        "iptables": {"syncPeriod": "30s", "minSyncPeriod": "100ms"},
    }


def cni() -> Object:
    """A bridge for all pods. Nothing here enforces NetworkPolicies."""
    bridge: Object = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True}
    routes = [{"dst": "0.0.0.0/0"}]
    bridge["ipam"] = {
        "type": "host-local",
        "dataDir": "/run/cni",
        "ranges": [[{"subnet": PODS_OF_NODE}]],
        "routes": routes,
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}


def registry() -> Object:
    """Plain HTTP on the node's loopback; images are pushed from here and pulled by containerd."""
    return {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(DATA / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:5000"},
    }


def containerd(pause: str) -> str:
    """`restrict_oom_score_adj`: root without CAP_SYS_RESOURCE cannot start a sandbox otherwise."""
    return f"""
version = 2
root = "{DATA}/containerd"
state = "/run/containerd"
[plugins."io.containerd.internal.v1.opt"]
  path = "{DATA}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{_CNI}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""


def cni_folder() -> Path:
    """Where containerd looks for the network's configuration."""
    return _CNI
