"""The agent: its tasks and their order, from a first start to the end of the pod.

Nothing is served before the Lease is open and a consistent read that followed has been put into force. Each task
minds one thing, so that a slow write never delays a read, and none of them ends while the pod lives.
"""

import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections.abc import Coroutine

from strategyrollout.router.consumer import Closed, ConsumerLease, Gone
from strategyrollout.router.enforcement import Enforcement
from strategyrollout.router.following import AssignmentReader, EndpointFollower
from strategyrollout.router.kube import Kube
from strategyrollout.router.settings import DRAINED, MissingSetting, Settings

log = logging.getLogger("router")

_EMPTY_CHECK = 0.02


class Agent:
    """One pod's agent."""

    def __init__(self, settings: Settings) -> None:
        self._drained = settings.run_dir / DRAINED
        self._kube = Kube(settings.api_server, settings.token_file, settings.ca_file)
        self._enforcement = Enforcement(settings.run_dir)
        self._lease = ConsumerLease(self._kube, settings)
        self._reader = AssignmentReader(self._kube, settings, self._enforcement.confirm, self._enforcement.learn)
        self._endpoints = EndpointFollower(self._kube, settings, self._enforcement.endpoints)
        self._ending = asyncio.Event()

    async def run(self) -> int:
        """Until SIGTERM and everything it asks for is done, or the Lease is found closed. Exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        self._drained.unlink(missing_ok=True)
        code = 0
        try:
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(self._serve())
                others = [tasks.create_task(task) for task in self._besides()]
                await self._ending.wait()
                serving.cancel()
                await asyncio.wait([serving])
                await self._end()
                for task in others:
                    task.cancel()
        except* Closed:
            code = 1
        finally:
            await self._kube.close()
        return code

    def _besides(self) -> list[Coroutine[None, None, None]]:
        disk = self._enforcement.disk
        return [self._enforcement.keep_connected(), self._endpoints.follow(), self._look(), disk.keep_synced()]

    async def _serve(self) -> None:
        """Open the Lease, then read and acknowledge; once more from the start if somebody deletes the Lease."""
        while True:
            try:
                await self._lease.open()
                await self._endpoints.known.wait()
                await self._enforcement.met.wait()
                async with asyncio.TaskGroup() as tasks:
                    for task in (self._reader.read(), self._reader.watch(), self._acknowledge(), self._lease.keep()):
                        tasks.create_task(task)
            except* Gone:
                log.error("the lease of this router was deleted; refusing everything until it is open again")
                await self._enforcement.refuse()
                await self._enforcement.start_over()
            except* Closed:
                log.error("the lease of this router is closed, so it may not serve again; delete the pod to replace it")
                await self._enforcement.refuse()
                raise

    async def _acknowledge(self) -> None:
        """Only what is in force is acknowledged."""
        enforcement = self._enforcement
        while True:
            await enforcement.changed.wait()
            enforcement.changed.clear()
            if enforcement.in_force.is_set() and enforcement.table:
                self._lease.ack(enforcement.table.epoch, empty=enforcement.empty)

    async def _look(self) -> None:
        while True:
            wait = await self._enforcement.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._enforcement.moved.wait()

    async def _end(self) -> None:
        """Refuse everything, wait until nothing is in flight or may be, close the Lease."""
        log.info("ending: refusing everything")
        await self._enforcement.refuse()
        limit = self._enforcement.table.limit / 1000 if self._enforcement.table else 0.0
        deadline = time.monotonic() + limit
        while not await self._enforcement.idle():
            if time.monotonic() >= deadline:
                await self._enforcement.cut_all()
            await asyncio.sleep(_EMPTY_CHECK)
        await self._lease.close()
        log.info("nothing is in flight; the lease is closed")
        self._drained.touch()


def main() -> int:
    """Entry of the agent container."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = Settings.read()
    except MissingSetting as error:
        sys.exit(str(error))
    return asyncio.run(Agent(settings).run())
