"""The operator as its users run it: a process of its own beside a cluster, to be killed, ended and started again.

async with Operator(cluster, folder, prometheus=cluster.prometheus_url).running() as operator:
    await operator.kill()
    await operator.start()
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.cluster.processes import until

FAST = {"RESYNC": "5s", "CHECK": "500ms", "LIVE_NUMBERS": "2s"}
_ROOT = Path(__file__).parents[1]


class Operator:
    """Keyword arguments are settings without their prefix, in lower case: `router_image="..."`, `resync="1s"`."""

    def __init__(self, cluster: Cluster, folder: Path, kubeconfig: Path | None = None, **settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "operator.log"
        self.evidence = folder / "evidence.jsonl"
        self.port = _free_port()
        self.sources = _ROOT / "operator"
        self.shadows: Path | None = None
        """A folder with modules that come before installed ones of their name."""
        self._kubeconfig = kubeconfig or cluster.kubeconfig
        given = {name.upper(): value for name, value in settings.items()}
        self._settings = {**FAST, "EVIDENCE": str(self.evidence), "LOG_FORMAT": "text", **given}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None, "the operator is not running"
        return self._process.pid

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Operator]:
        """Started and ready inside, ended by SIGTERM at the end; its log follows an error."""
        try:
            await self.start()
            yield self
        except asyncio.CancelledError:
            raise  # by Control-C: nothing went wrong
        except BaseException:
            sys.stderr.write(f"--- last words of the operator ({self.log})\n{self.last_words()}\n")
            raise
        finally:
            if self._process is not None:
                await self.stop()

    async def start(self, *, ready: bool = True) -> None:
        """Starts the process and waits until `/readyz` says so."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("STRATEGYROLLOUT_")}
        environment |= {f"STRATEGYROLLOUT_{name}": value for name, value in self._settings.items()}
        environment |= {
            "KUBECONFIG": str(self._kubeconfig),
            "PYTHONPATH": os.pathsep.join(str(path) for path in (self.shadows, self.sources) if path is not None),
            "STRATEGYROLLOUT_HTTP_ADDRESS": "127.0.0.1",
            "STRATEGYROLLOUT_HTTP_PORT": str(self.port),
        }
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "strategyrollout", env=environment, stdout=log, stderr=log, cwd=_ROOT
            )
        if ready:
            await until("the operator is ready", self._is_ready, 60)

    def configure(self, name: str, value: str) -> None:
        """A setting of the next process, as in the arguments."""
        self._settings[name.upper()] = value

    async def kill(self) -> None:
        """kill -9: nothing is tidied up."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        return await self._end(signal.SIGTERM)

    async def restart(self) -> None:
        """SIGTERM, then a new process."""
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """The process stands still until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """The process goes on."""
        os.kill(self.pid, signal.SIGCONT)

    async def ended(self, seconds: float) -> int:
        """Waits for the process to end by itself; returns the exit status."""
        assert self._process is not None
        status = await asyncio.wait_for(self._process.wait(), seconds)
        self._process = None
        return status

    async def page(self, path: str) -> tuple[int, str]:
        """Status and text of `/metrics`, `/readyz` or `/livez`; status 0 when nobody answers."""
        return await asyncio.to_thread(fetch, f"http://127.0.0.1:{self.port}{path}")

    async def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's values over all series that have these labels."""
        _, text = await self.page("/metrics")
        return sum(
            value for series, value in _series(text, name) if all(f'{k}="{v}"' in series for k, v in labels.items())
        )

    def last_words(self, lines: int = 60) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    async def _is_ready(self) -> bool:
        if self._process is not None and self._process.returncode is not None:
            raise AssertionError(f"the operator ended with status {self._process.returncode}\n{self.last_words()}")
        return (await self.page("/readyz"))[0] == 200

    async def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        assert process is not None, "the operator is not running"
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
        try:
            return await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise


def _series(text: str, name: str) -> Iterator[tuple[str, float]]:
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        if series == name or series.startswith(name + "{"):
            yield series, float(value)


def fetch(url: str) -> tuple[int, str]:
    """Status and text of a page; status 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
