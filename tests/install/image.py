"""The operator as a container image of the local cluster, for releases whose pods really run there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.cluster.images import ImageStore

_SOURCE = Path(__file__).parents[2] / "operator"


def add_operator_image(store: ImageStore, build: str) -> str:
    """Store the image and return its reference; builds differ in digest and in nothing else."""
    environment = {"PYTHONPATH": str(_SOURCE), "BUILD": build}
    return store.add("operator", [sys.executable, "-m", "strategyrollout"], env=environment)


def as_values(reference: str) -> dict[str, Any]:
    """An image, pinned by digest, as the chart wants it."""
    repository, _, digest = reference.partition("@")
    return {"repository": repository, "digest": digest}
