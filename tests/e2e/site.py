"""The cluster with the product in it: made for a run, or kept beside several runs of a few tests each."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.providers import Provider, provided
from tests.cluster.realnode.cluster import NodeCluster
from tests.e2e import setting
from tests.e2e.product import Product
from tests.images import Image, relabelled

_KEPT = "kept.json"
_PARTS = ("operator", "router")


@dataclass
class Site:
    """Shared by all tests of a run."""

    cluster: Provider
    product: Product
    strategy: Image
    _versions: dict[str, str] = field(default_factory=dict)

    async def image_of(self, version: str) -> str:
        """The image of a version of the strategy: the same files, another label, and so another digest."""
        if version not in self._versions:
            image = await asyncio.to_thread(relabelled, self.strategy, {"version": version})
            self._versions[version] = await self.cluster.put_image(image.archive, image.name)
        return self._versions[version]


@contextlib.asynccontextmanager
async def made(name: str, folder: Path) -> AsyncIterator[Site]:
    """A new cluster, with the product installed as a user would."""
    images = setting.images()
    async with provided(name, folder, images["pause"].archive) as cluster:
        yield await installed(cluster, images)


async def installed(cluster: Provider, images: Mapping[str, Image], values: Mapping[str, Any] | None = None) -> Site:
    """The product in a cluster that has nothing of it yet. `values` instead of those that make tests quick."""
    references = {part: await cluster.put_image(images[part].archive, images[part].name) for part in _PARTS}
    product = Product(cluster, references) if values is None else Product(cluster, references, values)
    await product.install()
    return Site(cluster, product, images["example-strategy"])


def keep(site: Site) -> None:
    """Let other runs find it."""
    (site.cluster.folder / _KEPT).write_text(json.dumps(site.product.images))


def kept(folder: Path) -> Site:
    """The real node that `--keep` keeps in that folder."""
    cluster = NodeCluster(folder)
    return Site(
        cluster, Product(cluster, json.loads((folder / _KEPT).read_text())), setting.images()["example-strategy"]
    )


def is_kept(folder: Path) -> bool:
    """Whether somebody keeps one there."""
    return (folder / _KEPT).exists()
