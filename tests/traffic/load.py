"""Orders as fast as routers answer them, in a process of its own, and one row for each of them.

Why beside `tests.orders`: a gateway avoids a router that refuses; here every router is asked all the time, also one
that is cut off, and a test's event loop must not slow the load down or be slowed down by it.

    async with running(folder, addresses, accounts) as load:
        ...
        answers = await load.stop()
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.orders.connection import Address, Connection, Unanswered, Unsent

_ROOT = Path(__file__).parents[2]
_PAUSE_AFTER_FAILURE = 0.05
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One order that was sent. Times in milliseconds since 1970."""

    router: str
    account: str
    status: int
    """0: none came."""
    revision: str
    sent_at: float
    answered_at: float

    @property
    def lost(self) -> bool:
        """Nobody knows whether it was executed."""
        return self.status in (0, 502, 504)


@dataclass(frozen=True)
class Shape:
    """What is sent: so many connections to each router, a pause (s) after each answer, some orders slow (ms)."""

    connections: int = 8
    pause: float = 0.02
    slow_share: float = 0.02
    slow_most: int = 0


class Load:
    """A running load."""

    def __init__(self, process: asyncio.subprocess.Process, rows: Path) -> None:
        self._process = process
        self._rows = rows
        self._answers: list[Answer] | None = None

    async def stop(self) -> list[Answer]:
        """Sends no more, waits for what is still due, and returns everything. May be called again."""
        if self._answers is None:
            self._process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(self._process.wait(), _TIMEOUT + 10) == 0
            self._answers = await asyncio.to_thread(lambda: list(_read(self._rows)))
        return self._answers


def _read(path: Path) -> Iterator[Answer]:
    with path.open() as lines:
        for line in lines:
            yield Answer(*json.loads(line))


@contextlib.asynccontextmanager
async def running(
    folder: Path, routers: Sequence[str], accounts: Sequence[str], shape: Shape | None = None
) -> AsyncIterator[Load]:
    """A load on these addresses, ended with the block."""
    shape = shape or Shape()
    rows = folder / f"answers-{time.time_ns()}.jsonl"
    options = {
        "routers": ",".join(routers),
        "accounts": ",".join(accounts),
        "connections": shape.connections,
        "pause": shape.pause,
        "slow-share": shape.slow_share,
        "slow-most": shape.slow_most,
        "rows": rows,
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.traffic.load", *arguments, cwd=_ROOT)
    try:
        yield Load(process, rows)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class _Sender:
    def __init__(self, accounts: Sequence[str], shape: Shape) -> None:
        self._accounts = random.sample(accounts, len(accounts))
        self._next = 0
        self._shape = shape
        self.rows: list[tuple[str, str, int, str, float, float]] = []
        self.ending = False

    def _order(self) -> tuple[str, bytes]:
        account = self._accounts[self._next]
        self._next = (self._next + 1) % len(self._accounts)
        slow = ""
        if self._shape.slow_most and random.random() < self._shape.slow_share:
            slow = f"X-Order-Millis: {random.randint(1, self._shape.slow_most)}\r\n"
        head = (
            f"POST /orders HTTP/1.1\r\nHost: orders\r\nX-Account-Id: {account}\r\n{slow}Content-Length: 2\r\n\r\n{{}}"
        )
        return account, head.encode()

    async def use(self, address: Address) -> None:
        """One connection after another to one router, one order after another on each."""
        while not self.ending:
            try:
                connection = await Connection.to(address, 2.0)
            except Unsent:
                await asyncio.sleep(_PAUSE_AFTER_FAILURE)
                continue
            while connection.open and not self.ending:
                await self._send(address[0], connection)
                await asyncio.sleep(self._shape.pause)
            connection.close()

    async def _send(self, router: str, connection: Connection) -> None:
        account, request = self._order()
        sent_at, status, revision = time.time() * 1000, 0, ""
        try:
            answer = await connection.ask(request, _TIMEOUT)
            status, revision = answer.status, answer.headers.get("x-strategy-revision", "")
        except Unanswered:
            pass
        except Unsent:
            return
        self.rows.append((router, account, status, revision, sent_at, time.time() * 1000))


async def _main(options: argparse.Namespace) -> None:
    shape = Shape(options.connections, options.pause, options.slow_share, options.slow_most)
    sender = _Sender(options.accounts.split(","), shape)

    def end() -> None:
        sender.ending = True

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    addresses = [(router, 8080) for router in options.routers.split(",")]
    await asyncio.gather(*(sender.use(address) for address in addresses for _ in range(shape.connections)))
    with options.rows.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in sender.rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name, kind in {"routers": str, "accounts": str, "connections": int, "slow-most": int, "rows": Path}.items():
        parser.add_argument(f"--{name}", type=kind)
    for name in ("pause", "slow-share"):
        parser.add_argument(f"--{name}", type=float)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_main(_options()))
