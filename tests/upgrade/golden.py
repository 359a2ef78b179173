"""What each version of the operator made of one rollout, as files: `python -m tests.upgrade.golden` writes today's.

A folder is the word of one version and is not changed any more once that version is released: rollouts in the field
were made by it. A version that renders something else gets a folder of its own.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import yaml

from strategyrollout.api.rollout import Traffic
from strategyrollout.core.build import Owner, children, routers_snapshot
from strategyrollout.core.revision import Content, identified
from strategyrollout.traffic import haproxy, providers

Body = dict[str, Any]

FOLDER = Path(__file__).parent / "golden"
OWNER = Owner("desk-a", "momentum", "1b4e28ba-2fa1-11d2-883f-0016d3cca427")
CONTENT = Content(
    "2.4.0+b.1",
    {
        "metadata": {"labels": {"team": "equities"}, "annotations": {"note": "x"}},
        "spec": {
            "containers": [
                {
                    "name": "strategy",
                    "image": "registry.example/momentum@sha256:" + "4b" * 32,
                    "envFrom": [{"configMapRef": {"name": "params"}}],
                    "ports": [{"name": "orders", "containerPort": 8080}],
                }
            ]
        },
    },
    {"params": {"data": {"SIZE": "10"}}},
)
TRAFFIC = Traffic.model_validate(
    {"unit": {"header": "X-Account-Id"}, "port": "orders", "drain": "250ms", "haproxy": {"replicas": 2}}
)
IMAGE = "registry.example/router@sha256:" + "0" * 64
SALT = OWNER.uid


def version() -> str:
    """Of the sources."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    return str(tomllib.loads(text)["project"]["version"])


def rendered() -> dict[str, Any]:
    """File name -> what today's sources make."""
    built = children(OWNER, identified(CONTENT), CONTENT, port="orders", replicas=2)
    kept = providers.next_routers(OWNER, TRAFFIC, SALT, IMAGE)
    (config,) = (body for body in kept if body["kind"] == "ConfigMap")
    return {
        "revision.yaml": [built.record, *built.copies, built.service, built.deployment],
        "routers.yaml": routers_snapshot(OWNER, kept),
        "permissions.yaml": haproxy.identity(OWNER),
        "haproxy.cfg": config["data"]["haproxy.cfg"],
    }


def as_text(what: Any) -> str:
    """As it stands in the file."""
    if isinstance(what, str):
        return what
    return yaml.safe_dump(json.loads(json.dumps(what)), sort_keys=True, width=120)  # a copy has no aliases


def main() -> None:
    """Writes the files of today's version."""
    folder = FOLDER / version()
    folder.mkdir(parents=True, exist_ok=True)
    for name, what in rendered().items():
        (folder / name).write_text(as_text(what))


if __name__ == "__main__":
    main()
