"""Long-running programs of the cluster, each known by a pid file and a log in the cluster's folder.

Why files: a second process (a test worker, a shell beside a kept demo) can then attach to a running cluster and stop,
freeze or restart its parts without having started them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path


class ClusterError(RuntimeError):
    """A part of the cluster did not do what it should; the message shows its last words."""


def alive(pid: int) -> bool:
    """Whether that process still runs; one that ended but was not collected yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


async def until(what: str, check: Callable[[], Awaitable[bool]], timeout: float, every: float = 0.05) -> None:
    """Wait until the check holds; raises with `what` when it does not in time."""
    deadline = time.monotonic() + timeout
    while not await check():
        if time.monotonic() > deadline:
            raise ClusterError(f"not so after {timeout:g} s: {what}")
        await asyncio.sleep(every)


class Program:
    """One program by name: start, freeze, continue, stop."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.log = folder / "logs" / f"{name}.log"
        self._pid_file = folder / "pids" / name

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if alive(pid) else None

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start it; its output is appended to its log."""
        if self.pid is not None:
            raise ClusterError(f"{self.name} is already running")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._pid_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=None if environment is None else dict(environment),
                # Control-C is for the tests; the parts of the cluster are stopped by them in order.
                start_new_session=True,
            )
        # Known by its pid from here on; the object would warn about a child still running when it is collected.
        process.returncode = 0
        temporary = self._pid_file.with_suffix(".tmp")
        temporary.write_text(str(process.pid))
        temporary.replace(self._pid_file)

    def signal(self, number: int) -> None:
        """Send it a signal, for example SIGSTOP to freeze it and SIGCONT to let it go on."""
        pid = self.pid
        if pid is None:
            raise ClusterError(f"{self.name} is not running\n{self.last_words()}")
        os.kill(pid, number)

    async def stop(self, grace: float = 10.0) -> None:
        """Stop it if it runs: politely, then not."""
        pid = self.pid
        if pid is None:
            self._collect()
            return
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)

        async def ended() -> bool:
            return not alive(pid)

        try:
            await until(f"{self.name} ended", ended, grace, 0.01)
        except ClusterError:
            os.kill(pid, signal.SIGKILL)
            await until(f"{self.name} ended", ended, 10, 0.01)
        self._collect()

    def _collect(self) -> None:
        try:
            os.waitpid(int(self._pid_file.read_text()), os.WNOHANG)
        except (OSError, ValueError):
            return  # someone else's child, collected by process 1
        finally:
            self._pid_file.unlink(missing_ok=True)

    def last_words(self, characters: int = 2000) -> str:
        """The end of its log, for error messages."""
        try:
            return f"--- {self.log}\n{self.log.read_text(errors='replace')[-characters:]}"
        except FileNotFoundError:
            return ""
