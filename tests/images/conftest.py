"""Fixtures of the built images; where they cannot be built, their tests are skipped and say why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import images
from tests.cluster.enter import by_root
from tests.images.build import snapshot
from tests.images.container import unpack


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the images are built from: a copy, because somebody may be editing."""
    if not by_root() or shutil.which("buildah") is None:
        pytest.skip("NOT ROOT, OR NO BUILDAH: images were not built, nothing about them was tested")
    return snapshot(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="session")
def built(source: Path) -> dict[str, images.Image]:
    """All images by their short names."""
    return images.ensure(source)


@pytest.fixture(scope="session")
def roots(built: dict[str, images.Image], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The unpacked files of each."""
    folder = tmp_path_factory.mktemp("roots")
    return {name: unpack(image, folder / name) for name, image in built.items()}
