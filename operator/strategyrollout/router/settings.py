"""Environment of the two containers, read once, with errors that name the variable."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
DRAINED = "drained"
"""File in the shared folder by which the agent tells the proxy container that it may stop."""
SOCKET = "admin.sock"
MAP = "table.map"


class MissingSetting(ValueError):
    """A variable that has no default is not set."""


def _needed(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise MissingSetting(f"environment variable {name} is not set; the routers' StatefulSet sets it")
    return value


def run_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder both containers see."""
    return Path(environment.get("RUN_DIR") or "/run/router")


@dataclass(frozen=True)
class Settings:
    """What the agent is told from outside."""

    rollout: str
    namespace: str
    rollout_uid: str
    pod_name: str
    pod_uid: str
    port_name: str
    run_dir: Path
    api_server: str
    token_file: Path
    ca_file: Path | None

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Raises MissingSetting."""
        server = environment.get("API_SERVER")
        if not server:
            host = _needed(environment, "KUBERNETES_SERVICE_HOST")
            port = environment.get("KUBERNETES_SERVICE_PORT") or "443"
            server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        ca_file = Path(environment.get("CA_FILE") or f"{_ACCOUNT}/ca.crt")
        return cls(
            rollout=_needed(environment, "ROLLOUT"),
            namespace=_needed(environment, "NAMESPACE"),
            rollout_uid=_needed(environment, "ROLLOUT_UID"),
            pod_name=_needed(environment, "POD_NAME"),
            pod_uid=_needed(environment, "POD_UID"),
            port_name=_needed(environment, "PORT_NAME"),
            run_dir=run_dir(environment),
            api_server=server.rstrip("/"),
            token_file=Path(environment.get("TOKEN_FILE") or f"{_ACCOUNT}/token"),
            ca_file=ca_file if server.startswith("https:") else None,
        )
