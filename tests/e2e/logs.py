"""What strategies say about their orders, read out of their pods by `kubectl logs --follow`, line by line.

A pod's own word is the evidence for who was served by whom: neither routers nor the operator have a hand in it. A
stream that breaks (a dead kubelet, a restarted API server) is begun anew, without what was read before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from strategyrollout.api.meta import LABEL_ROLE, ROLE_STRATEGY
from tests.cluster.node.api import Api, ApiError
from tests.cluster.providers import Provider

Object = dict[str, Any]
_CONTAINER = "strategy"


class OrderLogs:
    """All strategies of one namespace; their lines go into one file."""

    def __init__(self, namespace: str, file: Path) -> None:
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._file = file
        self._reading: dict[str, asyncio.Task[None]] = {}
        self.count = 0
        """Orders read so far."""

    async def _look(self, api: Api) -> None:
        async for change, item in api.follow(self._pods):
            for pod in item["items"] if change == "SYNC" else [item]:
                if change != "DELETED" and (pod["metadata"].get("labels") or {}).get(LABEL_ROLE) == ROLE_STRATEGY:
                    self._see(api, pod)

    def _see(self, api: Api, pod: Object) -> None:
        for status in (pod.get("status") or {}).get("containerStatuses") or []:
            started = {"running", "terminated"} & status["state"].keys()
            container = str(status.get("containerID") or "")
            if status["name"] == _CONTAINER and started and container and container not in self._reading:
                name = pod["metadata"]["name"]
                self._reading[container] = asyncio.create_task(self._read(api, name, container))

    async def _read(self, api: Api, pod: str, container: str) -> None:
        """One run of the container, from its first line to its last."""
        path, taken = f"{self._pods}/{pod}/log?container={_CONTAINER}&follow=true", 0
        while True:
            seen = 0
            try:
                async for line in api.lines(path):
                    seen += 1
                    if seen > taken:
                        taken = seen
                        self._take(line)
            except (aiohttp.ClientError, TimeoutError, OSError, ApiError):
                pass
            if not await self._runs(api, pod, container):
                return
            await asyncio.sleep(0.3)

    async def _runs(self, api: Api, pod: str, container: str) -> bool:
        """Whether it may still say something; asked until somebody answers."""
        try:
            found = await api.insist("GET", f"{self._pods}/{pod}")
        except ApiError:
            return False
        statuses = (found.get("status") or {}).get("containerStatuses") or []
        return any(s.get("containerID") == container and "running" in s["state"] for s in statuses)

    def _take(self, line: bytes) -> None:
        if line.startswith(b"{"):  # the first line says who it is
            self.count += 1
            with self._file.open("ab") as file:
                file.write(line.rstrip(b"\n") + b"\n")

    @contextlib.asynccontextmanager
    async def read(self, cluster: Provider) -> AsyncIterator[OrderLogs]:
        """Reading within."""
        self._file.touch()
        api = cluster.api()
        looking = asyncio.create_task(self._look(api))
        try:
            yield self
        finally:
            tasks = [looking, *self._reading.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await api.close()
