"""The proxy container: keeps HAProxy running, and running long enough.

When a pod ends, both containers are told at once. HAProxy must outlive that: requests are in flight, and only the
agent knows when none is left. So this small supervisor, which imports next to nothing, takes the signal instead.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from strategyrollout.router.settings import DRAINED, MAP, run_dir

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
_LIVED = 1.0
_POLL = 0.05
_PAUSE = 0.2
# A request that meets a closing connection is lost to its sender. So whoever uses a kept connection is told to close
# it, by an answer, for this long; what rests longer is closed after that.
_TELLING = 1.0
_CLOSING = 2.0


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


class Proxy:
    """One HAProxy after another, in the foreground of the container."""

    def __init__(self, binary: str, config: Path, folder: Path, grace: float) -> None:
        self._command = [binary, "-db", "-f", str(config)]
        self._folder = folder
        self._grace = grace

    def run(self) -> int:
        """Until told to end; exit code. A HAProxy that dies is started again, one that cannot start is given up."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        # HAProxy insists on the file; without a table in it, it answers 503.
        (self._folder / MAP).touch()
        while True:
            started = time.monotonic()
            process = self._start()
            while process.poll() is None:
                if signal.sigwait(_SIGNALS) != signal.SIGCHLD:
                    return self._end(process)
            print(f"haproxy ended with {process.returncode}", file=sys.stderr, flush=True)
            if time.monotonic() - started >= _LIVED:
                continue
            if process.returncode >= 0:  # by itself and at once: the configuration, or the address
                return process.returncode or 1
            time.sleep(_PAUSE)

    def _start(self) -> "subprocess.Popen[bytes]":
        # Safe here: this process has no threads.
        return subprocess.Popen(self._command, preexec_fn=_unblock)  # noqa: PLW1509

    def _end(self, process: "subprocess.Popen[bytes]") -> int:
        deadline = time.monotonic() + self._grace
        drained = self._folder / DRAINED
        while process.poll() is None and not drained.exists() and time.monotonic() < deadline:
            time.sleep(_POLL)
        if drained.exists():
            time.sleep(_TELLING)
            process.send_signal(signal.SIGUSR1)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_CLOSING)
        process.terminate()
        process.wait()
        return 0


def main() -> int:
    """Entry of the proxy container."""
    binary = os.environ.get("HAPROXY_BINARY") or shutil.which("haproxy")
    if not binary:
        sys.exit("no haproxy found: put it on PATH or name it in HAPROXY_BINARY")
    config = Path(os.environ.get("HAPROXY_CONFIG") or "/etc/router/haproxy.cfg")
    return Proxy(binary, config, run_dir(), float(os.environ.get("GRACE_SECONDS") or "30")).run()
