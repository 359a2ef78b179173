"""One container of a pod: pull, start, probe, restart with growing pauses, stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.cluster.images import Image, ImageStore, UnknownImageError
from tests.cluster.node import probes
from tests.cluster.node.environment import Contents, NotYetError, environment_of, expand
from tests.cluster.node.volumes import Volumes

Object = dict[str, Any]
_SANDBOX = Path(__file__).with_name("sandbox.py")
_FIRST_PAUSE, _LONGEST_PAUSE, _LONG_RUN = 1.0, 30.0, 60.0
_RETRY_SECONDS = 0.5


def timestamp() -> str:
    """Now, as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Surroundings:
    """What the containers of a pod share."""

    fields: dict[str, Any]
    contents: Contents
    images: ImageStore
    volumes: Volumes
    folder: Path
    logs: Path
    hostname: str
    pause_pid: int
    base_environment: dict[str, str]
    name_files: list[Object]
    changed: Callable[[], None]

    @property
    def address(self) -> str:
        """The pod's address."""
        return str(self.fields["address"])


class Container:
    """Runs one container until it is stopped or need not start again; `state` is what the pod's status shows."""

    def __init__(self, spec: Object, around: Surroundings, restart_policy: str) -> None:
        self.spec = spec
        self.name: str = spec["name"]
        self.state: Object = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: Object = {}
        self.restarts = 0
        self.started = False
        self.answers_ready = False
        self.finished = False
        self._around = around
        self._policy = restart_policy
        self._folder: Path = around.folder / "containers" / self.name
        self._process: asyncio.subprocess.Process | None = None
        self._environment: dict[str, str] = {}
        self._started_at = ""
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether the pod may be sent traffic as far as this container is concerned."""
        return "running" in self.state and self.started and self.answers_ready

    def start(self) -> asyncio.Task[None]:
        """Begin; the task ends when the container will not run again."""
        self._task = asyncio.create_task(self._run())
        return self._task

    async def stop(self, grace: float) -> None:
        """End it: SIGTERM, and SIGKILL after the grace period."""
        self._stopping = True
        process = self._process
        if process is not None:
            await self._end_process(process, grace)
        elif self._task is not None:
            self._task.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _set(self, state: Object) -> None:
        self.state = state
        self._around.changed()

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            image = await self._pull()
            spec_file = await self._prepare(image)
            began = time.monotonic()
            code = await self._run_once(spec_file)
            ended: Object = {
                "exitCode": code,
                "reason": "Completed" if code == 0 else "Error",
                "startedAt": self._started_at,
                "finishedAt": timestamp(),
            }
            again = self._policy == "Always" or (self._policy == "OnFailure" and code != 0)
            self.finished = self._stopping or not again
            self._set({"terminated": ended})
            if self.finished:
                return
            if time.monotonic() - began > _LONG_RUN:
                pause = _FIRST_PAUSE
            self.last_state = self.state
            message = f"back-off {pause:g}s restarting failed container={self.name}"
            self._set({"waiting": {"reason": "CrashLoopBackOff", "message": message}})
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            self.restarts += 1

    async def _pull(self) -> Image:
        reason = "ErrImagePull"
        while True:
            try:
                return await asyncio.to_thread(self._around.images.get, self.spec["image"])
            except UnknownImageError as error:
                self._set({"waiting": {"reason": reason, "message": f"failed to pull image: {error}"}})
            await asyncio.sleep(_RETRY_SECONDS)
            reason = "ImagePullBackOff"

    async def _prepare(self, image: Image) -> Path:
        """Write what the sandbox needs to know, as soon as everything the container refers to exists."""
        around = self._around
        base = {**image.environment, **around.base_environment}
        while True:
            try:
                self._environment = environment_of(self.spec, base, around.fields, around.contents)
                mounts = around.volumes.mounts(self.spec)
                break
            except NotYetError as error:
                self._set({"waiting": {"reason": "CreateContainerConfigError", "message": str(error)}})
            await asyncio.sleep(_RETRY_SECONDS)
        entrypoint = [expand(part, self._environment) for part in self.spec.get("command") or []]
        arguments = [expand(part, self._environment) for part in self.spec.get("args") or []]
        if not arguments and not entrypoint:
            arguments = list(image.arguments)
        root = self._folder / "root"
        root.mkdir(parents=True, exist_ok=True)
        sandbox = {
            "command": [*(entrypoint or image.entrypoint), *arguments],
            "environment": self._environment,
            "workingDir": self.spec.get("workingDir") or image.working_directory,
            "files": {path: str(content) for path, content in image.files.items()},
            "mounts": [*mounts, *around.name_files],
            "hostname": around.hostname,
            "root": str(root),
            "pidFile": str(self._pid_file),
        }
        spec_file = self._folder / "spec.json"
        spec_file.write_text(json.dumps(sandbox))
        return spec_file

    @property
    def _pid_file(self) -> Path:
        return self._folder / "pid"

    async def _run_once(self, spec_file: Path) -> int:
        around = self._around
        around.logs.mkdir(parents=True, exist_ok=True)
        with (around.logs / f"{self.name}.{self.restarts}.log").open("ab") as log:
            process = self._process = await asyncio.create_subprocess_exec(
                *["nsenter", "-t", str(around.pause_pid), "--net"],
                *[sys.executable, "-I", "-S", str(_SANDBOX), str(spec_file)],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._started_at = timestamp()
        self.started = "startupProbe" not in self.spec
        self.answers_ready = "readinessProbe" not in self.spec
        self._set({"running": {"startedAt": self._started_at}})
        probing = asyncio.create_task(self._probe(process))
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            process.kill()
            raise
        finally:
            probing.cancel()
            self._process = None
            self._pid_file.unlink(missing_ok=True)
            self.started = self.answers_ready = False
        return code if code >= 0 else 128 - code

    @property
    def pid(self) -> int | None:
        """The container's own first process, once it is set up."""
        try:
            return int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    async def _end_process(self, process: asyncio.subprocess.Process, grace: float) -> None:
        for _ in range(100):
            if self.pid is not None or process.returncode is not None:
                break
            await asyncio.sleep(0.02)
        if self.pid is not None and grace > 0:
            _signal(self.pid, signal.SIGTERM)
            waiting = asyncio.create_task(process.wait())
            done, _ = await asyncio.wait([waiting], timeout=grace)
            if done:
                return
            waiting.cancel()
        if self.pid is not None:
            # Killing the first process of a process namespace ends all of it.
            _signal(self.pid, signal.SIGKILL)
        elif process.returncode is None:
            process.kill()

    async def _probe(self, process: asyncio.subprocess.Process) -> None:
        startup = self.spec.get("startupProbe")
        async with asyncio.TaskGroup() as group:
            if startup:
                up = asyncio.Event()
                task = group.create_task(
                    probes.repeat(startup, self._check(startup), lambda ok: up.set() if ok else self._failed(process))
                )
                await up.wait()
                task.cancel()
                self.started = True
                self._around.changed()
            if probe := self.spec.get("livenessProbe"):
                group.create_task(
                    probes.repeat(probe, self._check(probe), lambda ok: None if ok else self._failed(process))
                )
            if probe := self.spec.get("readinessProbe"):
                group.create_task(probes.repeat(probe, self._check(probe), self._answered, eager=True))

    def _check(self, probe: Object) -> probes.Check:
        async def check() -> bool:
            pid = self.pid
            return pid is not None and await probes.ask(probe, self.spec, self._around.address, pid, self._environment)

        return check

    def _answered(self, ready: bool) -> None:
        if ready != self.answers_ready:
            self.answers_ready = ready
            self._around.changed()

    def _failed(self, process: asyncio.subprocess.Process) -> None:
        """A startup or liveness probe gave up: end this run; the loop starts the next one."""
        pod = self._around.fields["pod"]
        grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
        if not self._stopping:
            self._killing = asyncio.create_task(self._end_process(process, grace))


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
