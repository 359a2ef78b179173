"""The first program of every container: lays out its file system, then becomes the container's own program.

It runs as `python -I -S sandbox.py SPEC`, makes mount, process and host name namespaces, and uses the standard
library only, so that it starts in milliseconds and needs nothing of the tree. (`unshare` would do, but version 2.38
reports a killed child as exit code 1.) The new root is a small memory file
system on which everything of the machine's root is bound again, except where the container mounts something: there,
and along the way there, the folders are made anew. Volumes so appear at their real paths without touching the machine.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 1 << 14, 1 << 18
_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWPID = 0x20000, 0x4000000, 0x20000000
_PR_SET_PDEATHSIG = 1
_MNT_DETACH = 2
# The C library has no wrapper for this one; its number differs between machines.
_PIVOT_ROOT = 155 if os.uname().machine == "x86_64" else 41
_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: str, kind: str = "", flags: int = 0) -> None:
    if _libc.mount(source.encode(), target.encode(), kind.encode(), flags, None):
        raise OSError(ctypes.get_errno(), f"cannot mount {source} on {target}")


def _bind(source: str, target: Path) -> None:
    _mount(source, str(target), flags=_MS_BIND | _MS_REC)


def _lay_out(folder: Path, root: Path, anew: set[Path]) -> None:
    """Fill one folder of the new root: bind what stays, descend into what is made anew."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        path, target = Path(entry.path), root / entry.path.lstrip("/")
        try:
            if entry.is_symlink():
                target.symlink_to(Path(entry.path).readlink())
            elif entry.is_dir():
                target.mkdir()
                if path in anew:
                    _lay_out(path, root, anew)
                elif path not in (Path("/run"), Path("/proc")):
                    _bind(entry.path, target)
            else:
                target.touch()
                _bind(entry.path, target)
        except OSError:
            continue  # vanished meanwhile, or not ours to see


def _real(target: str) -> Path:
    """The path without symbolic links (/var/run is one), whether or not it exists."""
    return Path(os.path.realpath(target))


def _build_root(root: Path, spec: dict[str, Any]) -> None:
    targets = [_real(mount["target"]) for mount in spec["mounts"]]
    # What exists is simply covered; only for what does not must there be folders that can be written to.
    missing = [target for target in targets if not target.exists() or Path("/run") in target.parents]
    missing += [_real(path) for path in spec["files"]]
    anew = {parent for target in missing for parent in target.parents} | {Path("/")}
    # /run is always empty and the container's own; only what is mounted below it is made.
    anew.discard(Path("/run"))
    _mount("root", str(root), "tmpfs")
    _lay_out(Path("/"), root, anew)
    for path, content in spec["files"].items():
        inside = root / str(_real(path)).lstrip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.unlink(missing_ok=True)
        inside.write_bytes(Path(content).read_bytes())
        inside.chmod(0o755)
    for mount in sorted(spec["mounts"], key=lambda mount: len(mount["target"])):
        inside = root / str(_real(mount["target"])).lstrip("/")
        if Path(mount["source"]).is_dir():
            inside.mkdir(parents=True, exist_ok=True)
        elif not inside.exists():
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.touch()
        _bind(mount["source"], inside)
        if mount["readOnly"]:
            # Refused without root where the folder's own mount has flags that must not be dropped; it does no harm.
            with contextlib.suppress(OSError):
                _mount("", str(inside), flags=_MS_BIND | _MS_REMOUNT | _MS_RDONLY)
    _mount("proc", str(root / "proc"), "proc")


def _enter_root(root: Path) -> None:
    os.chdir(root)
    if _libc.syscall(_PIVOT_ROOT, b".", b"."):
        raise OSError(ctypes.get_errno(), "pivot_root")
    if _libc.umount2(b".", _MNT_DETACH):
        raise OSError(ctypes.get_errno(), "umount")
    os.chdir("/")


def _become(spec: dict[str, Any], pid_file: Path) -> None:
    """The first process of the container: die with the one that holds it, lay out the root, become the program."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Read before /proc is mounted anew: this is our number as the agent sees it.
    number = str(Path("/proc/self").readlink())
    root = Path(spec["root"])
    _build_root(root, spec)
    _enter_root(root)
    socket.sethostname(spec["hostname"])
    os.chdir(spec["workingDir"])
    # Only from now on is there a process that may be signalled as the container's own.
    temporary = pid_file.with_suffix(".tmp")
    temporary.write_text(number)
    temporary.replace(pid_file)
    os.execvpe(spec["command"][0], spec["command"], spec["environment"])


def main() -> None:
    """Start the container's first process in namespaces of its own, wait for it and end as it ended."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    if _libc.unshare(_CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWPID):
        raise OSError(ctypes.get_errno(), "unshare")
    # Nothing that is mounted from here on may be seen outside.
    _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    child = os.fork()
    if child == 0:
        try:
            _become(spec, Path(spec["pidFile"]))
        except OSError as error:
            print(f"cannot start {spec['command']}: {error}", file=sys.stderr, flush=True)
        os._exit(127)
    # A shell's convention for a child that was ended by a signal is also a kubelet's.
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
