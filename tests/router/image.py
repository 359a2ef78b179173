"""The router as a container image of the test cluster."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.cluster.build import haproxy_binary
from tests.cluster.images import ImageStore

_SOURCE = Path(__file__).parents[2] / "operator"


def add_router_image(store: ImageStore, build: str = "1") -> str:
    """Store the image and return its reference; builds differ in digest and in nothing else."""
    environment = {"PYTHONPATH": str(_SOURCE), "HAPROXY_BINARY": str(haproxy_binary()), "BUILD": build}
    return store.add("router", [sys.executable, "-m", "strategyrollout.router"], env=environment)
