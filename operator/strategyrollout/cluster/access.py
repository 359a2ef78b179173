"""Where the API server is and who we are to it: a kubeconfig, or the ServiceAccount of the pod.

A kubeconfig with a token or a certificate in it is read here: the official loader takes 0.4 s to import, and somebody
waits for it, on call or for a restart. Whatever needs more than reading (plugins, providers, proxies) is left to it.
"""

import atexit
import base64
import os
import shutil
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PLAIN_USER = {"token", "tokenFile", "client-certificate", "client-certificate-data", "client-key", "client-key-data"}
_PLAIN_CLUSTER = {
    *("server", "certificate-authority", "certificate-authority-data"),
    *("insecure-skip-tls-verify", "tls-server-name"),
}


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
    return in_cluster(host, port) if host and not os.environ.get("KUBECONFIG") else from_kubeconfig()


def in_cluster(host: str, port: str) -> Access:
    """The pod's own ServiceAccount; `host` and `port` are the environment's KUBERNETES_SERVICE_*. May raise OSError."""
    token = (_ACCOUNT / "token").read_text().strip()
    joined = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Access(f"https://{joined}", ca=_ACCOUNT / "ca.crt", token=token)


def from_kubeconfig(path: str | None = None) -> Access:
    """The current context of a kubeconfig (default: $KUBECONFIG, then ~/.kube/config). Raises the loader's errors."""
    files = [Path(path)] if path is not None else kubeconfig_files()
    if not files:
        named = os.environ.get("KUBECONFIG")
        nowhere = "neither KUBERNETES_SERVICE_HOST nor KUBECONFIG is set, and there is no ~/.kube/config"
        raise OSError(f"KUBECONFIG={named} names no file that is there" if named else nowhere)
    return Kubeconfig(files).access()


def kubeconfig_files() -> list[Path]:
    """Those of $KUBECONFIG that exist, else ~/.kube/config if it exists."""
    named = [part for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return [found for part in named or ["~/.kube/config"] if (found := Path(part).expanduser()).exists()]


class NoSuchContext(OSError):
    """The kubeconfig has no context of that name. `known` are those that it has."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"the kubeconfig has no context {name!r}")
        self.known = known


class Kubeconfig:
    """A context of the files, the current one without a name, with its cluster and its user."""

    def __init__(self, files: Sequence[Path], context: str | None = None) -> None:
        """Raises OSError, NoSuchContext too, and whatever YAML that is none raises."""
        import yaml  # noqa: PLC0415  # not needed inside a pod

        self._files = files
        loaded = [(file.parent, yaml.safe_load(file.read_text()) or {}) for file in files]
        self.context = context or next((c["current-context"] for _, c in loaded if c.get("current-context")), "")
        known = dict(_named(loaded, "contexts", "context"))
        if self.context not in known:
            raise NoSuchContext(self.context, list(known))
        chosen = known[self.context][1]
        self.namespace = str(chosen.get("namespace") or "default")
        self._folder, self._cluster = dict(_named(loaded, "clusters", "cluster")).get(chosen["cluster"], (Path(), {}))
        self._home, self._user = dict(_named(loaded, "users", "user")).get(chosen.get("user", ""), (Path(), {}))

    def access(self) -> Access:
        """By reading, or by the official loader where it takes more. Raises the loader's errors."""
        user, cluster = self._user, self._cluster
        if set(user) - _PLAIN_USER or set(cluster) - _PLAIN_CLUSTER or not cluster.get("server"):
            return _loaded(os.pathsep.join(map(str, self._files)), self.context)
        token = user.get("token") or ""
        if user.get("tokenFile"):
            token = (self._home / user["tokenFile"]).read_text().strip()
        return Access(
            host=str(cluster["server"]).rstrip("/"),
            ca=_file(cluster, "certificate-authority", self._folder),
            token=str(token),
            certificate=_file(user, "client-certificate", self._home),
            key=_file(user, "client-key", self._home),
            verify=not cluster.get("insecure-skip-tls-verify"),
            server_name=cluster.get("tls-server-name"),
        )


def _named(loaded: list[tuple[Path, Any]], plural: str, word: str) -> Iterator[tuple[str, tuple[Path, Any]]]:
    for folder, config in reversed(loaded):  # of the same name the first one counts
        for entry in config.get(plural) or []:
            yield entry["name"], (folder, entry.get(word) or {})


def _file(part: dict[str, Any], field: str, folder: Path) -> Path | None:
    """A file that is named, or one that only we may read with what is written in the kubeconfig itself."""
    if data := part.get(f"{field}-data"):
        return _private(str(data))
    return folder / part[field] if part.get(field) else None


@cache  # credentials are read again every few minutes, and the same need no other file
def _private(data: str) -> Path:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "credentials"
    path.write_bytes(base64.b64decode(data))
    return path


def _loaded(path: str, context: str) -> Access:
    # Imported here: it takes half a second and 40 MiB, which most need not spend.
    try:
        from kubernetes import client, config  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise OSError(
            f"the kubeconfig's context {context!r} needs the Python package `kubernetes`, because it has more than a"
            " token or a certificate in it; the operator's image leaves that package out"
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
