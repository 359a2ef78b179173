"""Volumes of a pod as folders: written when the pod starts, rewritten when a ConfigMap, Secret or token changes.

Files are published the way a kubelet does it, behind one symbolic link that is swapped, so that a reader never sees
half of a change.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.cluster.node.environment import Contents, NotYetError, Object, field


def publish(folder: Path, files: dict[str, bytes], mode: int = 0o644) -> None:
    """Make the folder hold exactly these files, in one step; does nothing when it does already."""
    folder.mkdir(parents=True, exist_ok=True)
    current = folder / "..data"
    if current.exists() and _read(current) == files:
        return
    fresh = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    fresh.chmod(0o755)
    for name, content in files.items():
        path = fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    old = current.resolve() if current.exists() else None
    link = folder / "..data_tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(fresh.name)
    link.replace(current)
    tops = {Path(name).parts[0] for name in files}
    for entry in folder.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in tops:
            entry.unlink()
    for top in tops:
        if not (folder / top).is_symlink():
            (folder / top).symlink_to(Path("..data") / top)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _read(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _selected(data: dict[str, bytes], items: list[Object] | None) -> dict[str, bytes]:
    if not items:
        return data
    missing = [item["key"] for item in items if item["key"] not in data]
    if missing:
        raise NotYetError(f"references non-existent config key: {missing[0]}")
    return {item["path"]: data[item["key"]] for item in items}


def token_requests(pod: Object) -> list[Object]:
    """The projections of service account tokens a pod asks for; the caller fetches them."""
    return [
        source["serviceAccountToken"]
        for volume in pod["spec"].get("volumes") or []
        for source in (volume.get("projected") or {}).get("sources") or []
        if "serviceAccountToken" in source
    ]


def token_key(request: Object) -> str:
    """Under which key the caller keeps the token of such a projection."""
    return f"{request.get('audience', '')}/{request['path']}"


class Volumes:
    """The volumes of one pod below one folder."""

    def __init__(self, folder: Path, contents: Contents, fields: dict[str, Any]) -> None:
        self._folder = folder
        self._contents = contents
        self._fields = fields
        self._pod: Object = fields["pod"]

    def write(self, tokens: dict[str, str]) -> None:
        """Write everything as it should be now; raises NotYetError when something required is missing."""
        for volume in self._pod["spec"].get("volumes") or []:
            folder = self._folder / volume["name"]
            if "emptyDir" in volume:
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(0o777)
            elif "hostPath" not in volume:
                publish(folder, self._files(volume, tokens))

    def _files(self, volume: Object, tokens: dict[str, str]) -> dict[str, bytes]:
        if "projected" not in volume:
            return self._source(volume, tokens)
        files: dict[str, bytes] = {}
        for source in volume["projected"].get("sources") or []:
            files |= self._source(source, tokens)
        return files

    def _source(self, source: Object, tokens: dict[str, str]) -> dict[str, bytes]:
        namespace = self._pod["metadata"]["namespace"]
        if "serviceAccountToken" in source:
            request = source["serviceAccountToken"]
            return {request["path"]: tokens[token_key(request)].encode()}
        if "downwardAPI" in source:
            items = source["downwardAPI"].get("items") or []
            return {item["path"]: field(path=item["fieldRef"]["fieldPath"], **self._fields).encode() for item in items}
        for kind, read in (("configMap", self._contents.config_map), ("secret", self._contents.secret)):
            if kind in source:
                reference = source[kind]
                name = reference.get("name") or reference.get("secretName")
                data = read(namespace, name)
                if data is None and not reference.get("optional"):
                    raise NotYetError(f'{kind.lower()} "{name}" not found')
                return _selected(data or {}, reference.get("items") if data is not None else None)
        kinds = ", ".join(key for key in source if key != "name")
        raise NotYetError(f"volumes of kind {kinds} are not supported by the test node")

    def mounts(self, container: Object) -> list[Object]:
        """The bindings of a container, for the sandbox."""
        volumes = {volume["name"]: volume for volume in self._pod["spec"].get("volumes") or []}
        result = []
        for mount in container.get("volumeMounts") or []:
            volume = volumes[mount["name"]]
            host_path = (volume.get("hostPath") or {}).get("path")
            source = Path(host_path) if host_path else self._folder / mount["name"]
            if mount.get("subPath"):
                source = source / mount["subPath"]
                if not source.exists() and "emptyDir" in volume:
                    source.mkdir(parents=True)
            result.append(
                {
                    "source": os.path.realpath(source),
                    "target": mount["mountPath"],
                    "readOnly": bool(mount.get("readOnly")),
                }
            )
        return result
