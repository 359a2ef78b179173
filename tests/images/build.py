"""Builds the images with buildah, from a base of Debian packages, into a cache outside the tree.

Why not Docker: it is not everywhere, and needs a registry for its base. Why a cache: a build takes half a minute, and
tests of everything else must not wait for what did not change. Its key is a checksum of all that goes in.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import packages
from tests.cluster.build import cache_root
from tests.images import debian
from tests.images.archive import Image, ImageError, adopt

ROOT = Path(__file__).parents[2]
LOCKS = tuple(ROOT / f"images/{part}.lock" for part in ("operator", "router", "build"))
_INPUTS = ("Dockerfile", ".dockerignore", "images", "operator", "tests/strategy/program.py")
TARGETS = ("operator", "router", "example-strategy")
_PREFIX = "strategy-rollouts"
_KEPT_SECONDS = 86_400
_PAUSE = Path(__file__).parent / "pause"
_PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64", "manylinux_2_34_x86_64")
_BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Short of a registry, an image of the machine's own storage; nobody asks a network for `localhost/...`.
_BASE, _BUILD_BASE = "localhost/base:local", "localhost/build-base:local"


def folder() -> Path:
    """Where archives, bases and wheels are kept."""
    return cache_root() / "images"


def prepare() -> None:
    """Get what a build needs from elsewhere, so that the build itself works without a network. Raises ImageError."""
    with _locked():
        _need_tools()
        _bases()
        _wheels()


def ensure(source: Path | None = None) -> dict[str, Image]:
    """`operator`, `router`, `example-strategy` and `pause`, built where inputs changed. Raises ImageError.

    `source`: a snapshot; else one is made of the tree as it is.
    """
    with _locked(), tempfile.TemporaryDirectory(prefix="source-", dir=folder()) as copied:
        source = source or snapshot(Path(copied))
        tools = [
            path.read_bytes() for path in (Path(__file__), Path(__file__).with_name("archive.py"), _PAUSE / "main.go")
        ]
        inputs = [path.relative_to(source).as_posix().encode() + path.read_bytes() for path in _files(source)]
        record = folder() / f"images-{_checksum(*inputs, *tools, *(base.name.encode() for base in _bases()))}.json"
        if not record.exists() or not all(image.archive.exists() for image in _recorded(record).values()):
            built = build(folder(), source)
            record.write_text(json.dumps({target: [i.name, i.digest, i.archive.name] for target, i in built.items()}))
        images = _recorded(record)
        _forget({record, *(image.archive for image in images.values())})
        return images


def snapshot(target: Path) -> Path:
    """A copy of what the Dockerfile copies: somebody may be editing while a build goes on."""
    for path in _INPUTS:
        source = ROOT / path
        if source.is_dir():
            shutil.copytree(source, target / path, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / path)
    return target


def build(out: Path, source: Path) -> dict[str, Image]:
    """Build all of them anew from a snapshot into a folder, whatever the cache holds."""
    _need_tools()
    _wheels()
    with tempfile.TemporaryDirectory(prefix="build-", dir=folder()) as work, _Buildah(Path(work), source) as buildah:
        for name, base in zip((_BASE, _BUILD_BASE), _bases(), strict=True):
            buildah.base(name, base)
        images = {target: buildah.product(target, out) for target in TARGETS}
        return images | {"pause": buildah.pause(out)}


class _Buildah:
    """buildah with a storage of its own, which is gone afterwards; so are its mounts, in a namespace of their own."""

    def __init__(self, work: Path, source: Path) -> None:
        self._work, self._source = work, source

    def __enter__(self) -> _Buildah:
        storage = self._work / "storage"
        paths = f'driver = "overlay"\ngraphroot = "{storage}/graph"\nrunroot = "{storage}/run"\n'
        (self._work / "storage.conf").write_text(f"[storage]\n{paths}")
        # Neither asks a registry nor checks signatures: there is nothing but what we bring.
        (self._work / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        (self._work / "registries.conf").write_text("unqualified-search-registries = []\n")
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._work / "storage", ignore_errors=True)

    def base(self, name: str, archive: Path) -> None:
        """A folder packed as a tar file becomes an image."""
        context = self._context({"Dockerfile": f"FROM scratch\nADD base.tar /\nENV PATH={_BASE_PATH} LANG=C.UTF-8\n"})
        (context / "base.tar").hardlink_to(archive)
        self._build(name, context)

    def product(self, target: str, out: Path) -> Image:
        """One of the Dockerfile's targets."""
        wheels = folder() / "wheels"
        arguments = {"BASE": _BASE, "BUILD_BASE": _BUILD_BASE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
        given = [word for item in arguments.items() for word in ("--build-arg", "=".join(item))]
        self._build(f"localhost/{target}", self._source, "--target", target, *given, "--volume", f"{wheels}:/wheels:ro")
        return self._export(target, out)

    def pause(self, out: Path) -> Image:
        """What holds a pod's namespaces: a static program that waits."""
        context = self._context({"Dockerfile": 'FROM scratch\nCOPY pause /pause\nUSER 65535\nENTRYPOINT ["/pause"]\n'})
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
        command = ["go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", str(context / "pause"), "main.go"]
        _run(command, environment, _PAUSE)
        self._build("localhost/pause", context)
        return self._export("pause", out)

    def _context(self, files: dict[str, str]) -> Path:
        context = Path(tempfile.mkdtemp(dir=self._work))
        for name, text in files.items():
            (context / name).write_text(text)
        return context

    def _build(self, name: str, context: Path, *options: str) -> None:
        started = time.monotonic()
        # Layers are kept between the targets only: the storage is new each time.
        fixed = [
            "--isolation=chroot",
            "--layers",
            "--timestamp=0",
            "--format=oci",
            "--identity-label=false",
            "--pull-never",
        ]
        self._run("bud", *fixed, *options, "-t", name, str(context))
        _say(f"built {name.removeprefix('localhost/')} in {time.monotonic() - started:.1f} s")

    def _export(self, target: str, out: Path) -> Image:
        written = self._work / f"{target}.tar"
        self._run("push", "--quiet", f"localhost/{target}", f"oci-archive:{written}")
        return adopt(f"{_PREFIX}/{target}", written, out)

    def _run(self, command: str, *arguments: str) -> None:
        environment = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(self._work / "storage.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(self._work / "registries.conf"),
            "TMPDIR": str(self._work),
        }
        policy = ("--signature-policy", str(self._work / "policy.json"))
        _run(["unshare", "--mount", "buildah", command, *policy, *arguments], environment, ROOT)


def _need_tools() -> None:
    if os.geteuid() != 0:
        raise ImageError("building images needs root (or Docker: docs/images.md)")
    try:
        packages.ensure(["buildah"])
    except packages.PackagesMissing as error:
        raise ImageError(str(error)) from error
    if shutil.which("go") is None:
        raise ImageError("building the pause image needs Go on PATH")


def _bases() -> tuple[Path, Path]:
    """The base, and the same with pip. Kept until the recipe changes or somebody deletes them to get newer packages."""
    recipe = _checksum(Path(debian.__file__).read_bytes())
    record = folder() / f"bases-{recipe}.json"
    if not record.exists() or not all((folder() / name).exists() for name in json.loads(record.read_text())):
        _say("putting two bases together from Debian packages, usually ~30 s")
        with tempfile.TemporaryDirectory(prefix="bases-", dir=folder()) as work:
            bases = (
                _base("base", debian.PYTHON, Path(work)),
                _base("build-base", debian.PYTHON + debian.PIP, Path(work)),
            )
        record.write_text(json.dumps([base.name for base in bases]))
    plain, with_pip = json.loads(record.read_text())
    return folder() / plain, folder() / with_pip


def _base(name: str, wanted: tuple[str, ...], work: Path) -> Path:
    root, packed = work / name, work / f"{name}.tar"
    found = debian.assemble(root, work, wanted)
    debian.pack(root, packed)
    archive = folder() / f"{name}-{_checksum(packed.read_bytes())}.tar"
    packed.replace(archive)
    _say(f"{name}: {len(found)} packages, {archive.stat().st_size / 1e6:.0f} MB")
    return archive


def _wheels() -> None:
    """All wheels of the locks in one folder, so that the build itself needs no network."""
    kept = folder() / "wheels"
    done = kept / _checksum(*(lock.read_bytes() for lock in LOCKS))
    if done.exists():
        return
    _say("fetching the locked wheels")
    platforms = [word for platform in _PLATFORMS for word in ("--platform", platform)]
    options = [
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
        "--python-version=3.11",
        "--abi=cp311",
        *platforms,
    ]
    for lock in LOCKS:
        command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "--dest", str(kept), "-r", str(lock)]
        _run(command, dict(os.environ), ROOT)
    done.touch()


def _files(source: Path) -> list[Path]:
    return sorted(path for path in source.rglob("*") if path.is_file())


def _forget(used: set[Path]) -> None:
    """Remove what no run has used for a day: every change of the product makes images anew."""
    for path in used:
        path.touch()
    for path in [*folder().glob("images-*.json"), *folder().glob(f"{_PREFIX}-*.tar")]:
        if time.time() - path.stat().st_mtime > _KEPT_SECONDS:
            path.unlink(missing_ok=True)


def _recorded(record: Path) -> dict[str, Image]:
    entries = json.loads(record.read_text()).items()
    return {target: Image(name, digest, folder() / file) for target, (name, digest, file) in entries}


def _checksum(*contents: bytes) -> str:
    total = hashlib.sha256()
    for content in contents:
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()[:16]


def _run(command: list[str], environment: dict[str, str], where: Path) -> None:
    done = subprocess.run(command, env=environment, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}")


@contextmanager
def _locked() -> Iterator[None]:
    """One builder at a time for this user; the others wait and then find the work done."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _say(message: str) -> None:
    print(f"[images] {message}", file=sys.stderr, flush=True)
