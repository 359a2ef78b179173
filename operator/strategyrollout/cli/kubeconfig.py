"""Which API server, who we are to it, and which namespace is meant.

A kubeconfig with a token or a certificate in it is read here: the official loader takes 0.4 s to import, and an on-call
person waits for it. Whatever needs more than reading (plugins, providers, proxies) is left to that loader.
"""

import atexit
import base64
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strategyrollout.cli.failure import WRONG_USE, Failed
from strategyrollout.cluster.access import Access, from_kubeconfig, in_cluster

_PLAIN_USER = {"token", "tokenFile", "client-certificate", "client-certificate-data", "client-key", "client-key-data"}
_PLAIN_CLUSTER = {
    *("server", "certificate-authority", "certificate-authority-data"),
    *("insecure-skip-tls-verify", "tls-server-name"),
}
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Where:
    """One API server, one identity, one namespace."""

    access: Access
    namespace: str


def find(path: str | None, context: str | None, namespace: str | None) -> Where:
    """Where commands go. Raises `Failed` with what is wrong with the kubeconfig."""
    files = _files(path)
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    if not files and host:
        own = _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else "default"
        return Where(in_cluster(host, os.environ.get("KUBERNETES_SERVICE_PORT", "443")), namespace or own)
    if not files:
        raise Failed("there is no kubeconfig", "set KUBECONFIG or say --kubeconfig FILE", WRONG_USE)
    try:
        chosen = _Chosen(files, context)
        access = chosen.access() or from_kubeconfig(os.pathsep.join(map(str, files)), chosen.context)
    except Failed:
        raise
    except Exception as error:  # a loader may run any plugin
        raise Failed(f"the kubeconfig {files[0]} cannot be used: {error}", code=WRONG_USE) from error
    return Where(access, namespace or chosen.namespace)


def _files(path: str | None) -> list[Path]:
    if path is not None:
        if not Path(path).exists():
            raise Failed(f"there is no kubeconfig {path}", code=WRONG_USE)
        return [Path(path)]
    named = [part for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return [found for part in named or ["~/.kube/config"] if (found := Path(part).expanduser()).exists()]


class _Chosen:
    """A context of the files with its cluster and its user."""

    def __init__(self, files: list[Path], context: str | None) -> None:
        import yaml  # noqa: PLC0415  # not needed inside a pod

        loaded = [(file.parent, yaml.safe_load(file.read_text()) or {}) for file in files]
        self.context = context or next((c["current-context"] for _, c in loaded if c.get("current-context")), "")
        known = dict(_named(loaded, "contexts", "context"))
        if self.context not in known:
            hint = f"say --context; there are {', '.join(known) or 'none'}"
            raise Failed(f"the kubeconfig has no context {self.context!r}", hint, WRONG_USE)
        chosen = known[self.context][1]
        self.namespace = str(chosen.get("namespace") or "default")
        self._folder, self._cluster = dict(_named(loaded, "clusters", "cluster")).get(chosen["cluster"], (Path(), {}))
        self._home, self._user = dict(_named(loaded, "users", "user")).get(chosen.get("user", ""), (Path(), {}))

    def access(self) -> Access | None:
        """What can be had by reading; None when it takes more."""
        user, cluster = self._user, self._cluster
        if set(user) - _PLAIN_USER or set(cluster) - _PLAIN_CLUSTER or not cluster.get("server"):
            return None
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
        private = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, private, ignore_errors=True)
        path = Path(private) / field
        path.write_bytes(base64.b64decode(data))
        return path
    return folder / part[field] if part.get(field) else None
