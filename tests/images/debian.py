"""A base for the images out of Debian's own packages: unpacked, not installed.

Why: machines of ours reach package registries, but no registry of images. apt resolves what Python needs from an empty
state of its own (the machine's is not touched), and the packages' files are laid on each other. No script of a
package runs, so the same packages give the same files, and there is neither a shell nor a package manager inside.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.images.archive import ImageError

PYTHON = ("python3-minimal", "libpython3-stdlib")
"""An interpreter with the standard library; 3.11 in Debian 12."""
PIP = ("python3-pip", "python3-distutils")
_CERTIFICATES = "ca-certificates"
"""Taken without what it depends on, which only its scripts need."""
_NEVER_RUN = ("dpkg", "tar")
"""Packages that only the scripts of others need; apt is told that they are there."""
_LEFT_OUT = ("./usr/share/doc*", "./usr/share/man*", "./usr/share/locale*", "./usr/share/lintian*")
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"


def assemble(root: Path, work: Path, packages: Sequence[str]) -> list[str]:
    """Put these packages, and what they depend on, into `root`. Returns `name version` of each, sorted.

    `work` may be used for several roots; what apt knows is fetched once.
    """
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / folder).mkdir(parents=True)
        (root / folder).symlink_to(f"usr/{folder}")  # before unpacking, or packages make folders of them
    for folder in ("tmp", "run", "etc/ssl/certs", "var/lib/dpkg"):
        (root / folder).mkdir(parents=True)
    archives = _download(work, packages)
    for archive in archives:
        _unpack(archive, root)
    _trust(root)
    stanzas = [_run("dpkg-deb", "--field", str(archive)).strip() for archive in archives]
    # What scanners and the list of contents read; Debian's own tools would write the same.
    status = "\n\n".join(f"{stanza}\nStatus: install ok installed" for stanza in stanzas)
    (root / "var/lib/dpkg/status").write_text(status + "\n")
    return sorted(archive.name.removesuffix(".deb").rpartition("_")[0].replace("_", " ") for archive in archives)


def pack(root: Path, archive: Path) -> None:
    """A tar file that depends on the contents alone."""
    options = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=posix"]
    # Without this, the posix format records when each file was read.
    times = "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"
    _run("tar", *options, times, "-cf", str(archive), "-C", str(root), ".")


def _download(work: Path, packages: Sequence[str]) -> list[Path]:
    """The .deb files, found by a state of apt that knows of nothing installed. Works for any user."""
    state = work / "state"
    (state / "lists/partial").mkdir(parents=True, exist_ok=True)
    cache = Path(tempfile.mkdtemp(dir=work))
    (cache / "partial").mkdir()
    there = [f"Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: 999\n" for name in _NEVER_RUN]
    (state / "status").write_text("\n".join(there))
    options = [
        f"Dir::State={state}",
        f"Dir::State::status={state / 'status'}",
        f"Dir::Cache={work}",
        f"Dir::Cache::archives={cache}",
        "Debug::NoLocking=1",
        "APT::Sandbox::User=root",
        "APT::Install-Recommends=0",
        "Acquire::Languages=none",
    ]
    apt = ["apt-get", "-qq", "--yes", *(word for option in options for word in ("-o", option))]
    if not any((state / "lists").glob("*_Packages*")):
        _run(*apt, "update")
    _run(*apt, "--download-only", "install", *packages)
    if not any(cache.glob(f"{_CERTIFICATES}_*")):
        _run(*apt, "download", _CERTIFICATES, folder=cache)
    return sorted(cache.glob("*.deb"))


def _unpack(archive: Path, root: Path) -> None:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as unpacked:
        left_out = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
        options = ["--keep-directory-symlink", "--no-same-owner", *left_out]
        done = subprocess.run(["tar", "-x", "-C", root, *options], stdin=unpacked.stdout, check=False)
    if done.returncode or unpacked.returncode:
        raise ImageError(f"cannot unpack {archive}")


def _trust(root: Path) -> None:
    """The certificate authorities in one file, as the package's script would have done."""
    found = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    (root / _BUNDLE).write_text("".join(path.read_text() for path in found))


def _run(*command: str, folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout
