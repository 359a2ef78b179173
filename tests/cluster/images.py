"""A local content store in place of a registry: an image is a manifest whose SHA-256 is its digest.

Why: rollouts pin images by digest, so tests need images that have real digests, differ when their content differs and
are refused when unknown, without a registry or a container engine.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class UnknownImageError(LookupError):
    """No image of that digest in the store, or its content is not what the digest says."""


@dataclass(frozen=True)
class Image:
    """What a container of this image starts with; `files` maps absolute paths to stored content."""

    reference: str
    entrypoint: tuple[str, ...]
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    working_directory: str
    files: Mapping[str, Path]


class ImageStore:
    """Images in a folder, found by digest and verified whenever they are used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        name: str,
        entrypoint: Sequence[str],
        files: Mapping[str, str | bytes] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        working_dir: str = "/",
    ) -> str:
        """Store an image and return its reference, `registry.example/NAME@sha256:...`.

        `files` are absolute paths and their contents. Everything else a container sees is the machine's own.
        """
        stored = {path: self._store(_bytes(content)) for path, content in (files or {}).items()}
        manifest = {
            "name": name,
            "entrypoint": list(entrypoint),
            "args": list(args),
            "env": dict(env or {}),
            "workingDir": working_dir,
            "files": stored,
        }
        digest = self._store(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())
        return f"registry.example/{name}@sha256:{digest}"

    def get(self, reference: str) -> Image:
        """The image of a reference, by its digest alone."""
        _, separator, digest = reference.partition("@sha256:")
        if not separator:
            raise UnknownImageError(f"{reference} has no digest")
        manifest = json.loads(self._load(digest, reference).read_bytes())
        return Image(
            reference=reference,
            entrypoint=tuple(manifest["entrypoint"]),
            arguments=tuple(manifest["args"]),
            environment=manifest["env"],
            working_directory=manifest["workingDir"],
            files={path: self._load(content, reference) for path, content in manifest["files"].items()},
        )

    def _store(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        path = self._folder / digest
        if not path.exists():
            # Several test workers may store the same content at once.
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_bytes(content)
            temporary.replace(path)
        return digest

    def _load(self, digest: str, reference: str) -> Path:
        path = self._folder / digest
        if len(digest) != 64 or not digest.isalnum() or not path.is_file():
            raise UnknownImageError(f"{reference}: not found")
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise UnknownImageError(f"{reference}: content does not match its digest")
        return path


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
