"""etcd, API server, controller manager and scheduler: the real programs, with the flags tests need.

Why these flags: no fsync (the data does not outlive the run), generous request limits (load tests ask for more than a
default server lets through), an API server certificate of its own making that is valid for the address everyone uses.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import ssl
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.cluster import network
from tests.cluster.build import binary
from tests.cluster.processes import ClusterError, Program, until

SERVER = f"https://{network.API_ADDRESS}:{network.API_PORT}"
ETCD = "http://127.0.0.1:2379"
# People for tests of who may do what. The server reads its token file only once, so they exist from the start.
USERS = ("alice", "bob", "carol", "dave", "erin", "mallory")
ADMIN_TOKEN = "admin-token"  # of a server nobody outside the namespace can reach
# What operators under an account of their own ask for, one line a request; nothing of anybody else.
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts:strategy-rollouts"]}, {"level": "None"}],
}


def user_token(user: str) -> str:
    """The bearer token of one of the prepared people."""
    if user not in USERS:
        raise ClusterError(f"no such person: {user}; there are {', '.join(USERS)}")
    return f"{user}-token"


def kubeconfig_of(server: str, ca_file: Path | None, token: str, namespace: str = "default") -> str:
    """A kubeconfig with a token (JSON, which is YAML too)."""
    cluster = {"server": server, **({"certificate-authority": str(ca_file)} if ca_file else {})}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        "current-context": "test",
    }
    return json.dumps(config, indent=1)


@dataclass(frozen=True)
class Variant:
    """How one kind of cluster differs from another. Flags are without their dashes."""

    server: str
    apiserver: Mapping[str, str]
    manager: Mapping[str, str]
    tokens: tuple[str, ...] = ()
    """More lines of the token file: token,user,uid,groups."""
    data: Path | None = None
    """Where etcd keeps its data; the cluster's folder unless given."""


# Everything at the first address of the service range, which is local: no kube-proxy is needed to reach it.
PROCESS = Variant(
    server=SERVER,
    apiserver={
        "bind-address": network.API_ADDRESS,
        "advertise-address": network.API_ADDRESS,
        "secure-port": str(network.API_PORT),
        "authorization-mode": "RBAC",
        "endpoint-reconciler-type": "none",
    },
    manager={"node-monitor-grace-period": "5m"},
)


class ControlPlane:
    """The four programs in one folder."""

    def __init__(self, folder: Path, variant: Variant = PROCESS) -> None:
        self.folder = folder
        self._variant = variant
        self._data = (variant.data or folder) / "etcd"
        self.kubeconfig = folder / "kubeconfig"
        self.ca_file = folder / "certs" / "apiserver.crt"
        self.etcd = Program(folder, "etcd")
        self.apiserver = Program(folder, "kube-apiserver")
        self.controller_manager = Program(folder, "kube-controller-manager")
        self.scheduler = Program(folder, "kube-scheduler")

    async def start(self) -> None:
        """Start everything and return when pods can be created."""
        self._write_secrets()
        self.etcd.start(self._etcd_command())
        self.start_apiserver()
        await self.apiserver_ready()
        self._write_kubeconfig()
        self.start_controllers()
        await until("the default ServiceAccount exists", self._has_default_account, 60)

    def start_apiserver(self) -> None:
        """Start the API server alone; for tests of its absence."""
        self.apiserver.start(self._apiserver_command())

    def start_controllers(self) -> None:
        """Start controller manager and scheduler."""
        common = ["--kubeconfig", str(self.kubeconfig), "--leader-elect=false", "--secure-port", "0"]
        rate = ["--kube-api-qps", "1000", "--kube-api-burst", "2000"]
        self.controller_manager.start([str(binary("kube-controller-manager")), *common, *rate, *self._manager_flags()])
        self.scheduler.start([str(binary("kube-scheduler")), *common, *rate])

    async def apiserver_ready(self) -> None:
        """Wait until the API server says it is ready."""

        async def check() -> bool:
            if self.apiserver.pid is None or self.etcd.pid is None:
                raise ClusterError(f"the API server ended\n{self.etcd.last_words()}\n{self.apiserver.last_words()}")
            return self.ca_file.exists() and await self._status("/readyz") == 200

        await until("the API server is ready", check, 90)

    async def stop(self) -> None:
        """Stop all four, the store last."""
        for program in (self.scheduler, self.controller_manager, self.apiserver):
            if program.pid is not None:
                # Nothing of the run is needed afterwards; a graceful end would only cost seconds.
                program.signal(signal.SIGKILL)
            await program.stop()
        await self.etcd.stop(grace=0.0)
        await asyncio.to_thread(shutil.rmtree, self._data, ignore_errors=True)

    async def _has_default_account(self) -> bool:
        return await self._status("/api/v1/namespaces/default/serviceaccounts/default") == 200

    async def _status(self, path: str) -> int:
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file))
            headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
            timeout = aiohttp.ClientTimeout(total=5)
            async with (
                aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
                session.get(self._variant.server + path, ssl=context) as response,
            ):
                return response.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0

    def _write_secrets(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        key = self.folder / "sa.key"
        if not key.exists():
            subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        people = [f"{user_token(user)},{user},{user}" for user in USERS]
        lines = [f'{ADMIN_TOKEN},admin,admin,"system:masters"', *people, *self._variant.tokens]
        (self.folder / "token.csv").write_text("\n".join(lines) + "\n")
        (self.folder / "audit-policy.json").write_text(json.dumps(AUDIT))

    def _write_kubeconfig(self) -> None:
        self.write_kubeconfig(self.kubeconfig, ADMIN_TOKEN)

    def write_kubeconfig(self, path: Path, token: str, namespace: str = "default") -> Path:
        """A kubeconfig for that token."""
        path.write_text(kubeconfig_of(self._variant.server, self.ca_file, token, namespace))
        return path

    def _etcd_command(self) -> list[str]:
        urls = ["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]
        peers = ["--listen-peer-urls", "http://127.0.0.1:0"]
        options = ["--unsafe-no-fsync", "--log-level", "warn", "--quota-backend-bytes", str(4 << 30)]
        return [str(binary("etcd")), "--data-dir", str(self._data), *urls, *peers, *options]

    def _apiserver_command(self) -> list[str]:
        key = str(self.folder / "sa.key")
        flags = {
            "etcd-servers": ETCD,
            "cert-dir": str(self.folder / "certs"),
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-signing-key-file": key,
            "service-account-key-file": key,
            "token-auth-file": str(self.folder / "token.csv"),
            "service-cluster-ip-range": network.SERVICE_RANGE,
            "allow-privileged": "true",
            "max-requests-inflight": "3000",
            "max-mutating-requests-inflight": "2000",
            "watch-cache": "true",
            # Many clusters have it; it makes the owner's permission on finalizers count.
            "enable-admission-plugins": "OwnerReferencesPermissionEnforcement",
            "audit-policy-file": str(self.folder / "audit-policy.json"),
            "audit-log-path": str(self.folder / "audit.log"),
            **self._variant.apiserver,
        }
        return [str(binary("kube-apiserver")), *(f"--{name}={value}" for name, value in flags.items())]

    def _manager_flags(self) -> list[str]:
        flags = {
            "service-account-private-key-file": str(self.folder / "sa.key"),
            "root-ca-file": str(self.ca_file),
            "use-service-account-credentials": "true",
            **self._variant.manager,
        }
        return [f"--{name}={value}" for name, value in flags.items()]
