"""Runs any command inside a network of its own: `python -m tests.cluster.enter -- CMD ARG...`.

`--join PID` enters the network of another one that still runs, to look around beside it. `--node` makes the place for a
real node (tests/cluster/realnode), for which one must be root.

Why: inside, the caller is root of a private network, process table and mount table without being root of the machine.
Every pod gets a real address, ports are always the same however many runs go on beside it, nothing can leave by a
real interface, and when the outer process ends, however it ends, the kernel ends everything within.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from tests import images
from tests.cluster import build, network, packages
from tests.cluster.realnode import cgroups, place

INSIDE = "STRATEGYROLLOUT_INSIDE"
OUTER = "STRATEGYROLLOUT_OUTER_PID"
OUTER_USER = "STRATEGYROLLOUT_OUTER_UID"
_GRACE_SECONDS = 15.0
_TERMINATE = b"T"


def inside() -> bool:
    """Whether this process runs in such a namespace."""
    return os.environ.get(INSIDE) == "1"


def by_root() -> bool:
    """Whether root of the machine is behind this; inside, everybody is called root."""
    return os.environ.get(OUTER_USER, str(os.geteuid())) == "0"


def cgroup() -> str:
    """The group under which a real node in this namespace keeps its pods."""
    return cgroups.name_of(int(os.environ[OUTER]))


def _unshare_command() -> list[str]:
    flags = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        flags = ["--user", "--map-root-user", *flags]
    return ["unshare", *flags]


def _check_possible() -> None:
    for program in ("unshare", "nsenter", "ip", "openssl"):
        if shutil.which(program, path=network.search_path()) is None:
            sys.exit(f"the test cluster needs `{program}` (util-linux, iproute2, openssl); it is not installed")
    command = [*_unshare_command(), "true"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode:
        sys.exit(
            "this machine does not let an ordinary user make namespaces, which the test cluster lives in:\n"
            f"  {' '.join(command)}\n  {tried.stderr.strip()}\n"
            "Allow it (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces>0, on Ubuntu "
            "kernel.apparmor_restrict_unprivileged_userns=0), or run the same command as root."
        )


def outer(command: list[str], *, node: bool = False) -> int:
    """Build what is missing (the inside has no network), then run the command inside and return its exit code."""
    _check_possible()
    if node and os.geteuid() != 0:
        sys.exit("a real node needs root: it mounts file systems and makes cgroups; run the same command as root")
    try:
        if node:
            packages.ensure(place.PACKAGES)
            images.prepare()
        build.ensure([tool.name for tool in (*build.CATALOGUE, *(build.NODE if node else ()))])
    except (build.BuildError, packages.PackagesMissing, images.ImageError) as error:
        sys.exit(f"[cluster] {error}")
    if node:
        cgroups.remove_left_over()
        cgroups.make(cgroups.name_of(os.getpid()))
    # The kernel clears "die with my parent" when a process changes its user namespace. A pipe does the same job: the
    # inner init sees its end when we are gone, even by SIGKILL.
    read_end, write_end = os.pipe()
    kind = "node" if node else "pods"
    inner_command = [sys.executable, "-m", "tests.cluster.enter", "--inside", str(read_end), kind, "--", *command]
    environment = {**os.environ, "PATH": network.search_path(), "PYTHONPATH": _python_path()}
    environment |= {OUTER: str(os.getpid()), OUTER_USER: str(os.geteuid())}
    if os.geteuid() != 0:
        # Inside everybody is called root, and pytest refuses a folder of that name which is somebody else's.
        own = Path(tempfile.gettempdir()) / f"sr-{os.getuid()}"  # short, because sockets are made in it
        own.mkdir(mode=0o700, exist_ok=True)
        environment.setdefault("PYTEST_DEBUG_TEMPROOT", str(own))
    process = subprocess.Popen([*_unshare_command(), *inner_command], pass_fds=[read_end], env=environment)
    os.close(read_end)

    def forward(_number: int, _frame: FrameType | None) -> None:
        os.write(write_end, _TERMINATE)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGHUP, forward)
    # A terminal's Control-C reaches the command too, which shares it; we only wait for it to finish tidily.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = process.wait()
    os.close(write_end)
    if node:
        cgroups.remove(cgroups.name_of(os.getpid()))  # gone already, unless process 1 inside was killed
    return code if code >= 0 else 128 - code


def _python_path() -> str:
    root = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)


def inner(lifeline: int, command: list[str], *, node: bool) -> int:
    """Be process 1: make the place, run the command; a real node's groups are removed once everybody has ended."""
    os.set_inheritable(lifeline, False)
    if not node:
        network.set_up()
        return _be_init(lifeline, command)
    try:
        place.set_up()
        return _be_init(lifeline, command)
    finally:
        _end_everybody()
        cgroups.remove(cgroup())


def _end_everybody() -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)  # all but process 1 itself
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _be_init(lifeline: int, command: list[str]) -> int:
    """Start the command, reap everyone's orphans, stop when the outer side is gone."""
    # A child ending must wake the select below.
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    process = subprocess.Popen(command, env={**os.environ, INSIDE: "1"})
    # Only now: an ignored signal stays ignored across exec, and the command itself must hear Control-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    deadline: float | None = None
    while True:
        code = _reap(process.pid)
        if code is not None:
            process.returncode = code
            return code if code >= 0 else 128 - code
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([lifeline, wake_read], [], [], left)
        if wake_read in ready:
            os.read(wake_read, 4096)
        if lifeline in ready and os.read(lifeline, 1) != _TERMINATE:
            return 137
        if lifeline in ready and deadline is None:
            deadline = time.monotonic() + _GRACE_SECONDS
            process.send_signal(signal.SIGTERM)
        elif deadline is not None and time.monotonic() >= deadline:
            return 143


def _reap(wanted: int) -> int | None:
    """Collect every ended child; returns the exit code of the wanted one if it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        if pid == wanted:
            return os.waitstatus_to_exitcode(status)


def join(outer_pid: int, command: list[str]) -> None:
    """Become the command inside the namespace of another, running `enter`, known by its process id outside."""
    pid = outer_pid
    for _ in ("unshare", "process 1 inside"):
        pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    flags = ["--net", "--mount", "--pid", "--wd=."]
    if Path(f"/proc/{pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink():
        flags += ["--user", "--preserve-credentials"]
    path = os.pathsep.join([str(build.binary("kubectl").parent), network.search_path()])
    environment = {**os.environ, INSIDE: "1", "PATH": path, "PYTHONPATH": _python_path()}
    os.execvpe("nsenter", ["nsenter", "-t", str(pid), *flags, *command], environment)


def main(arguments: list[str]) -> int:
    """Command line of both sides; users only ever see the outer one."""
    if arguments[:1] == ["--inside"]:
        return inner(int(arguments[1]), arguments[4:], node=arguments[2] == "node")
    if arguments[:1] == ["--join"]:
        join(int(arguments[1]), arguments[3:])
    node = arguments[:1] == ["--node"]
    arguments = arguments[1:] if node else arguments
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command:
        sys.exit("usage: python -m tests.cluster.enter [--node | --join PID] -- COMMAND [ARGUMENT...]")
    if inside():
        os.execvp(command[0], command)
    return outer(command, node=node)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
