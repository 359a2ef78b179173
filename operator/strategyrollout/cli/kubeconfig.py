"""Which API server a command goes to, who we are to it, and which namespace is meant."""

import os
from dataclasses import dataclass
from pathlib import Path

from strategyrollout.cli.failure import WRONG_USE, Failed
from strategyrollout.cluster.access import Access, Kubeconfig, NoSuchContext, in_cluster, kubeconfig_files

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Where:
    """One API server, one identity, one namespace."""

    access: Access
    namespace: str


def find(path: str | None, context: str | None, namespace: str | None) -> Where:
    """Where commands go. Raises `Failed` with what is wrong with the kubeconfig."""
    if path is not None and not Path(path).exists():
        raise Failed(f"there is no kubeconfig {path}", code=WRONG_USE)
    files = [Path(path)] if path is not None else kubeconfig_files()
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    if not files and host:
        own = _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else "default"
        return Where(in_cluster(host, os.environ.get("KUBERNETES_SERVICE_PORT", "443")), namespace or own)
    if not files:
        raise Failed("there is no kubeconfig", "set KUBECONFIG or say --kubeconfig FILE", WRONG_USE)
    try:
        chosen = Kubeconfig(files, context)
        return Where(chosen.access(), namespace or chosen.namespace)
    except NoSuchContext as error:
        hint = f"say --context; there are {', '.join(error.known) or 'none'}"
        raise Failed(str(error), hint, WRONG_USE) from error
    except Exception as error:  # a loader may run any plugin
        raise Failed(f"the kubeconfig {files[0]} cannot be used: {error}", code=WRONG_USE) from error
