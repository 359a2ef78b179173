"""An image as a restricted pod would run it: user 65532, read-only root, no capabilities, by runc and nothing else.

Why not only on the node: that the image itself needs no more than this, and what it costs under a CPU limit, is a
property of the image; a whole node is not needed to see it.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.images.archive import Image

_PERIOD = 100_000
_CAPABILITIES = ("bounding", "effective", "permitted", "inheritable", "ambient")
_FILE_SYSTEMS: dict[str, tuple[str, list[str]]] = {
    "/proc": ("proc", []),
    "/dev": ("tmpfs", ["nosuid", "mode=755", "size=65536k"]),
    "/dev/shm": ("tmpfs", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    "/sys": ("sysfs", ["nosuid", "noexec", "nodev", "ro"]),
}


def unpack(image: Image, root: Path) -> Path:
    """The image's files in a folder; needs root, because owners are kept."""
    for layer in image.layers():
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer))) as files:
            files.extractall(root, filter="fully_trusted")
    return root


class Container:
    """One container. It shares the network of whoever starts it; `mounts` maps paths inside to folders outside."""

    def __init__(
        self,
        image: Image,
        root: Path,
        folder: Path,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        mounts: Mapping[str, Path] | None = None,
        cores: float | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        self._folder = folder
        self._id = f"image-{os.getpid()}-{abs(hash(folder)):x}"
        self._runc = ["runc", "--root", str(folder / "state")]
        self._process: subprocess.Popen[bytes] | None = None
        settings = image.config()["config"]
        variables = [*settings["Env"], *(f"{name}={value}" for name, value in (environment or {}).items())]
        uid, gid = map(int, settings["User"].split(":"))
        limit = {"cpu": {"quota": int(cores * _PERIOD), "period": _PERIOD}} if cores else {}
        bundle = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": uid, "gid": gid},
                "args": [*settings["Entrypoint"], *arguments],
                "env": variables,
                "cwd": "/",
                "capabilities": {kind: [] for kind in _CAPABILITIES},
                "noNewPrivileges": True,
            },
            "root": {"path": str(root), "readonly": True},
            "mounts": _mounts(mounts or {}),
            "linux": {
                "cgroupsPath": f"/{self._id}",
                "resources": limit,
                "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
            },
        }
        (folder / "config.json").write_text(json.dumps(bundle))

    def start(self) -> None:
        """Its output goes to `log`."""
        with self.log.open("ab") as log:
            command = [*self._runc, "run", "--bundle", str(self._folder), self._id]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait(self, seconds: float) -> int:
        """Until it ended; exit code of its program."""
        assert self._process is not None, "not started"
        return self._process.wait(seconds)

    def run(self, seconds: float = 30) -> tuple[int, str]:
        """Start it and wait; exit code and what it said."""
        self.start()
        try:
            return self.wait(seconds), self.log.read_text()
        finally:
            self.stop()

    def stop(self) -> None:
        """Kill it; leaves nothing behind but its folder."""
        subprocess.run([*self._runc, "delete", "--force", self._id], capture_output=True, check=False)
        if self._process is not None:
            self._process.wait()

    def pids(self) -> list[int]:
        """The processes in it, as seen from here."""
        asked = subprocess.run([*self._runc, "ps", "-f", "json", self._id], capture_output=True, text=True, check=True)
        return list(json.loads(asked.stdout))

    def resident(self) -> dict[str, float]:
        """MiB of each process by its name. Pages that processes share are counted in every one of them."""
        found: dict[str, float] = {}
        for pid in self.pids():
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            found[status["Name"]] = found.get(status["Name"], 0) + int(status["VmRSS"].split()[0]) / 1024
        return found


def _mounts(given: Mapping[str, Path]) -> list[dict[str, Any]]:
    systems = [
        {"destination": path, "type": kind, "source": kind, "options": options}
        for path, (kind, options) in _FILE_SYSTEMS.items()
    ]
    folders = [
        {"destination": inside, "type": "bind", "source": str(outside), "options": ["rbind", "rw", "nosuid", "nodev"]}
        for inside, outside in given.items()
    ]
    return systems + folders
