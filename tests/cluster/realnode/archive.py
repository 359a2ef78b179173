"""An image from a few files, as an OCI archive, without any image tool: the programs of the node that run as pods.

The same files give the same digest: times, owners and order are fixed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_TYPE = "application/vnd.oci.image."


class _Blobs:
    def __init__(self) -> None:
        self.by_digest: dict[str, bytes] = {}

    def add(self, content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        self.by_digest[digest] = content
        return {"mediaType": _TYPE + kind, "digest": f"sha256:{digest}", "size": len(content)}


def write(archive: Path, files: Mapping[str, Path], command: Sequence[str]) -> None:
    """An image with these programs (path inside -> file) that runs the command as nobody in particular."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as layer:
        for inside, file in sorted(files.items()):
            entry = tarfile.TarInfo(inside.lstrip("/"))
            entry.size, entry.mode = file.stat().st_size, 0o755
            with file.open("rb") as program:
                layer.addfile(entry, program)
    raw = buffer.getvalue()
    blobs = _Blobs()
    packed = blobs.add(gzip.compress(raw, 1, mtime=0), "layer.v1.tar+gzip")
    start = {"Entrypoint": list(command), "User": "65532:65532", "Env": ["PATH=/"]}
    layers = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(raw).hexdigest()}"]}
    config = {"architecture": "amd64", "os": "linux", "config": start, "rootfs": layers}
    described = blobs.add(json.dumps(config).encode(), "config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": f"{_TYPE}manifest.v1+json", "config": described, "layers": [packed]}
    index = {"schemaVersion": 2, "manifests": [blobs.add(json.dumps(manifest).encode(), "manifest.v1+json")]}
    contents = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode()}
    contents |= {f"blobs/sha256/{digest}": content for digest, content in sorted(blobs.by_digest.items())}
    with tarfile.open(archive, "w") as out:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))
