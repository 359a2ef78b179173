"""What the run's outer process tells the tests inside, by the environment: which cluster, which images, which folder.

Why not found again inside: there is no way out from there to build anything, and nobody may change files in between.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from tests.images import Image

CLUSTER = "STRATEGYROLLOUT_E2E"
_IMAGES = "STRATEGYROLLOUT_E2E_IMAGES"
_FOLDER = "STRATEGYROLLOUT_E2E_FOLDER"
NAMES = (CLUSTER, _IMAGES, _FOLDER)


def told(cluster: str, images: Mapping[str, Image], folder: Path) -> dict[str, str]:
    """Variables for the tests."""
    rows = {part: [image.name, image.digest, str(image.archive)] for part, image in images.items()}
    return {CLUSTER: cluster, _IMAGES: json.dumps(rows), _FOLDER: str(folder)}


def elsewhere(folder: Path) -> dict[str, str]:
    """Variables for another cluster of the same run."""
    return {_FOLDER: str(folder)}


def images() -> dict[str, Image]:
    """`operator`, `router`, `example-strategy`, `pause`."""
    rows = json.loads(os.environ[_IMAGES])
    return {part: Image(name, digest, Path(archive)) for part, (name, digest, archive) in rows.items()}


def folder() -> Path | None:
    """Where the cluster keeps its logs."""
    return Path(where) if (where := os.environ.get(_FOLDER)) else None
