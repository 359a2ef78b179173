"""Debian packages that tests on a real node and builds of images need, installed when that is possible.

Why: buildah, containerd and their like come from the distribution, not from a package of ours. A machine that is
missing them should either get them or say in one sentence what a person must type.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from tests.cluster.build import cache_root

_LOCK_WAIT_SECONDS = 600


class PackagesMissing(RuntimeError):
    """Packages that are not there and cannot be installed by this user; the message says how to get them."""


def missing(names: Sequence[str]) -> list[str]:
    """Those of the Debian packages that are not installed on this machine."""
    if shutil.which("dpkg-query") is None:
        return list(names)
    command = ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *names]
    # It ends with 1 when it does not know a name, which is just what we ask.
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    installed = {line.split()[0] for line in answer if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def ensure(names: Sequence[str]) -> None:
    """Make sure that these Debian packages are installed. Raises PackagesMissing."""
    if not (wanted := missing(names)):
        return
    by_hand = f"apt-get install --no-install-recommends {' '.join(wanted)}"
    if shutil.which("apt-get") is None:
        raise PackagesMissing(f"these Debian packages are missing, and there is no apt-get: {' '.join(wanted)}")
    if os.geteuid() != 0:
        raise PackagesMissing(f"Debian packages are missing; as root: {by_hand}")
    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / "packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be installing the same ones
        if wanted := missing(names):
            _install(wanted)


def _install(names: Sequence[str]) -> None:
    print(f"[packages] installing {' '.join(names)}", file=sys.stderr, flush=True)
    _apt("update", "-qq")
    _apt("install", "-qq", "--yes", "--no-install-recommends", *names)


def _apt(*arguments: str) -> None:
    command = ["apt-get", "-o", f"DPkg::Lock::Timeout={_LOCK_WAIT_SECONDS}", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PackagesMissing(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}")


if __name__ == "__main__":
    try:
        ensure(sys.argv[1:])
    except PackagesMissing as error:
        sys.exit(f"packages: {error}")
