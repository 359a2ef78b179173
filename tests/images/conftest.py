"""Fixtures of the built images; where they cannot be built, their tests are skipped and say why."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests import images
from tests.images.container import unpack


@pytest.fixture(scope="session")
def needed() -> None:
    """What a build needs is there, else the test is skipped."""
    if os.geteuid() != 0 or shutil.which("buildah") is None:
        pytest.skip("NOT ROOT, OR NO BUILDAH: images were not built, nothing about them was tested")


@pytest.fixture(scope="session")
def built(needed: None) -> dict[str, images.Image]:
    """All images by their short names."""
    return images.ensure()


@pytest.fixture(scope="session")
def roots(built: dict[str, images.Image], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The unpacked files of each."""
    folder = tmp_path_factory.mktemp("roots")
    return {name: unpack(image, folder / name) for name, image in built.items()}
