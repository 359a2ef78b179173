"""Where the API server is and who we are to it: a kubeconfig, or the ServiceAccount of the pod."""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Access:
    """Where the API server is and who we are to it."""

    host: str
    ca: Path | None = None
    token: str = ""
    certificate: Path | None = None
    key: Path | None = None
    verify: bool = True
    server_name: str | None = None

    def tls(self) -> ssl.SSLContext | bool:
        """What aiohttp takes as `ssl`."""
        if not self.host.startswith("https:"):
            return True
        context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            context.load_cert_chain(str(self.certificate), str(self.key) if self.key else None)
        return context


def find_access() -> Access:
    """`KUBECONFIG` if it is set, else the pod's own account, else the default kubeconfig. Blocks; raises OSError."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    kubeconfig = os.environ.get("KUBECONFIG")
    return in_cluster(host, port) if host and not kubeconfig else from_kubeconfig(kubeconfig)


def in_cluster(host: str, port: str) -> Access:
    """The pod's own ServiceAccount; `host` and `port` are the environment's KUBERNETES_SERVICE_*. May raise OSError."""
    token = (_ACCOUNT / "token").read_text().strip()
    joined = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Access(f"https://{joined}", ca=_ACCOUNT / "ca.crt", token=token)


def from_kubeconfig(path: str | None = None, context: str | None = None) -> Access:
    """The current context of a kubeconfig (default: $KUBECONFIG, then ~/.kube/config). Raises the loader's errors."""
    # Imported here: it takes half a second and 40 MiB, which an operator inside the cluster need not spend.
    try:
        from kubernetes import client, config  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise OSError(
            "there is no ServiceAccount of a pod to use (KUBERNETES_SERVICE_HOST is not set, or KUBECONFIG is), and to"
            " read the kubeconfig the Python package `kubernetes` is needed, which the operator's image leaves out"
        ) from error

    loaded = client.Configuration()
    config.load_kube_config(config_file=path, context=context, client_configuration=loaded)
    token = str(loaded.api_key.get("BearerToken", "")).removeprefix("Bearer ")
    return Access(
        host=str(loaded.host).rstrip("/"),
        ca=Path(loaded.ssl_ca_cert) if loaded.ssl_ca_cert else None,
        token=token,
        certificate=Path(loaded.cert_file) if loaded.cert_file else None,
        key=Path(loaded.key_file) if loaded.key_file else None,
        verify=bool(loaded.verify_ssl),
        server_name=loaded.tls_server_name,
    )
