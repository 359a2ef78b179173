"""OCI archives: what containerd and skopeo import, one file an image.

Rewritten here after a build because the same image must always be the same file, and because a release is tried with
many versions of one strategy: a label more gives another digest in a few milliseconds, without a build.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REGISTRY = "registry.example"
"""A name that nobody can reach: what is not imported is not found."""
_TAG = "local"
_INDEX = "index.json"
_LAYOUT = ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')


class ImageError(RuntimeError):
    """An image could not be built; the message shows the last words of what failed."""


@dataclass(frozen=True)
class Image:
    """One image in a file; `name` without a registry, such as `strategy-rollouts/operator`."""

    name: str
    digest: str
    archive: Path

    @property
    def repository(self) -> str:
        """What `ctr images import --digests --base-name` wants."""
        return f"{REGISTRY}/{self.name}"

    @property
    def reference(self) -> str:
        """Pinned by digest, as rollouts want it."""
        return f"{self.repository}@{self.digest}"

    def config(self) -> dict[str, Any]:
        """The image's configuration: entry point, user, environment, labels."""
        blobs = _read(self.archive)
        config: dict[str, Any] = json.loads(blobs[_manifest(blobs)["config"]["digest"]])
        return config

    def layers(self) -> list[bytes]:
        """The compressed layers, lowest first."""
        blobs = _read(self.archive)
        return [blobs[layer["digest"]] for layer in _manifest(blobs)["layers"]]


def adopt(name: str, built: Path, folder: Path) -> Image:
    """Take an archive that a builder wrote into the folder, under a name that says its digest."""
    blobs = _read(built)
    return _write(name, _manifest(blobs), blobs, folder)


def relabelled(image: Image, labels: Mapping[str, str]) -> Image:
    """The same image with other labels, hence another digest; beside the first one."""
    blobs = _read(image.archive)
    manifest = _manifest(blobs)
    config = json.loads(blobs.pop(manifest["config"]["digest"]))
    config.setdefault("config", {})["Labels"] = dict(labels)
    content = _json(config)
    manifest["config"] |= {"digest": _digest(content), "size": len(content)}
    blobs[_digest(content)] = content
    return _write(image.name, manifest, blobs, image.archive.parent)


def _write(name: str, manifest: dict[str, Any], blobs: dict[str, bytes], folder: Path) -> Image:
    content = _json(manifest)
    digest = _digest(content)
    path = folder / f"{name.replace('/', '-')}-{digest.removeprefix('sha256:')[:16]}.tar"
    image = Image(name, digest, path)
    annotations = {
        "io.containerd.image.name": f"{image.repository}:{_TAG}",
        "org.opencontainers.image.ref.name": _TAG,
    }
    descriptor = {"mediaType": manifest["mediaType"], "digest": digest, "size": len(content)}
    index = {"schemaVersion": 2, "manifests": [descriptor | {"annotations": annotations}]}
    wanted = [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
    files = [_LAYOUT, (_INDEX, _json(index)), (_path(digest), content)]
    temporary = path.with_suffix(f".{os.getpid()}")
    with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
        for file, data in [*files, *((_path(blob), blobs[blob]) for blob in dict.fromkeys(wanted))]:
            entry = tarfile.TarInfo(file)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    temporary.replace(path)
    return image


def _read(path: Path) -> dict[str, bytes]:
    """All blobs by digest, and the index by its name."""
    blobs: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for entry in archive:
            file = archive.extractfile(entry)
            if file is not None and (entry.name == _INDEX or entry.name.startswith("blobs/sha256/")):
                blobs[entry.name.replace("blobs/sha256/", "sha256:")] = file.read()
    return blobs


def _manifest(blobs: Mapping[str, bytes]) -> dict[str, Any]:
    (described,) = json.loads(blobs[_INDEX])["manifests"]
    manifest: dict[str, Any] = json.loads(blobs[described["digest"]])
    manifest.setdefault("mediaType", described["mediaType"])
    return manifest


def _json(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
