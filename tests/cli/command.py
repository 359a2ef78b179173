"""The command as its users start it: a process of its own, with a kubeconfig and arguments."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Said:
    """What came of it."""

    code: int
    out: str
    err: str
    seconds: float = 0.0

    @property
    def json(self) -> dict[str, Any]:
        """Standard output as the one JSON object that `-o json` promises."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    def __str__(self) -> str:
        return f"exit {self.code}\n{self.out}{self.err}"


class Command:
    """A command under way."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._began = time.monotonic()

    @classmethod
    async def start(cls, kubeconfig: Path | None, *arguments: str, **environment: str) -> Command:
        """Starts it and does not wait."""
        variables = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"} | environment
        variables |= {"PYTHONPATH": str(_ROOT / "operator"), "PYTHONUNBUFFERED": "1"}
        if kubeconfig is not None:
            variables["KUBECONFIG"] = str(kubeconfig)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "strategyrollout.cli", *arguments), env=variables, stdout=pipe, stderr=pipe
        )
        return cls(process)

    async def said(self, seconds: float = 60) -> Said:
        """Waits for its end."""
        out, err = await asyncio.wait_for(self._process.communicate(), seconds)
        return Said(self._process.returncode or 0, out.decode(), err.decode(), time.monotonic() - self._began)

    async def kill(self) -> None:
        """kill -9: nothing is tidied up."""
        self._process.send_signal(signal.SIGKILL)
        await self._process.communicate()


async def run(kubeconfig: Path | None, *arguments: str, seconds: float = 60, **environment: str) -> Said:
    """From start to end."""
    command = await Command.start(kubeconfig, *arguments, **environment)
    return await command.said(seconds)
