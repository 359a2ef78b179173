"""Sends orders as a desk's gateway would, and keeps what became of each of them.

    async with OrderSender(accounts, find=router_pods(cluster, "desk-a", "momentum")) as sender:
        sender.start(rate=500)
        ...
        await sender.stop()
        assert not sender.report().lost
        assert set((await sender.ask_everyone()).values()) == {stable}

An order answered 423 or 503 was not executed; it is sent again after `Retry-After`, as long as `patience` allows. An
order that was sent and never answered, or answered 502 or 504, is lost: nobody knows what became of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.orders.connection import Address, Answer, Unanswered, Unsent
from tests.orders.pool import Pool
from tests.orders.report import Order, Refusal, Report

FindRouters = Callable[[], Awaitable[Sequence[Address]]]
_LOOK_EVERY = 0.3
_TICK = 0.005
_NOT_EXECUTED = (423, 503)
_UNKNOWN = (502, 504)
_MOST_ASKED_AT_ONCE = 64


@dataclass(frozen=True)
class Slow:
    """A share of the orders that take long at the strategy."""

    share: float
    milliseconds: int


class OrderSender:
    """A gateway with many accounts. Made for one event loop; counts since it was made."""

    def __init__(
        self,
        accounts: Sequence[str],
        *,
        find: FindRouters | None = None,
        routers: Sequence[Address] = (),
        header: str = "X-Account-Id",
        slow: Slow | None = None,
        timeout: float = 30.0,
        patience: float = 30.0,
    ) -> None:
        """Routers are given, or found again and again by `find`. Times are in seconds, for one order."""
        self.accounts = tuple(accounts)
        self._find = find
        self._header = header
        self._slow = slow
        self._timeout = timeout
        self._patience = patience
        self._pool = Pool()
        self._pool.use(routers)
        self._looking: asyncio.Task[None] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._flying: set[asyncio.Task[Order]] = set()
        self._orders: list[Order] = []
        self._accounts_in_turn = itertools.cycle(self.accounts)

    async def __aenter__(self) -> OrderSender:
        """Look for routers once, then keep looking."""
        if self._find is not None:
            await self.look()
            self._looking = asyncio.create_task(self._keep_looking())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop sending, without waiting for orders under way."""
        for task in (self._looking, self._sending, *self._flying):
            if task is not None:
                task.cancel()
        self._pool.close()
        await asyncio.sleep(0)

    async def look(self) -> int:
        """Look for routers now; returns how many are ready. Raises OSError."""
        if self._find is not None:
            self._pool.use(await self._find())
        return self._pool.size

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            with contextlib.suppress(OSError):
                await self.look()

    def start(self, rate: float) -> None:
        """Send so many orders a second, whatever becomes of them, one account after the other."""
        if self._sending is not None:
            self._sending.cancel()
        self._sending = asyncio.create_task(self._send(rate))

    async def stop(self) -> Report:
        """Send no more, wait for the answers that are still due, and report."""
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        if self._flying:
            await asyncio.wait(self._flying)
        return self.report()

    def report(self, since: float = 0.0) -> Report:
        """What became of the orders that were first sent after `since` (seconds since 1970) and are decided."""
        return Report(tuple(order for order in self._orders if order.sent_at >= since))

    @property
    def orders(self) -> Sequence[Order]:
        """All that are decided, in the order in which they were."""
        return self._orders

    async def ask_everyone(self, accounts: Iterable[str] | None = None) -> dict[str, str | None]:
        """One order for every account: account -> revision that took it, None where nobody did."""
        gate = asyncio.Semaphore(_MOST_ASKED_AT_ONCE)

        async def ask(account: str) -> tuple[str, str | None]:
            async with gate:
                order = await self.send(account)
            return account, order.revision

        return dict(await asyncio.gather(*map(ask, self.accounts if accounts is None else accounts)))

    async def send(self, account: str, milliseconds: int | None = None) -> Order:
        """Send one order to its end."""
        order = await self._to_the_end(account, milliseconds)
        self._orders.append(order)
        return order

    async def _send(self, rate: float) -> None:
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), 0
        while True:
            due = int((loop.time() - began) * rate) - sent
            for _ in range(due):
                slow = self._slow is not None and random.random() < self._slow.share
                milliseconds = self._slow.milliseconds if slow and self._slow is not None else None
                task = asyncio.create_task(self.send(next(self._accounts_in_turn), milliseconds))
                self._flying.add(task)
                task.add_done_callback(self._flying.discard)
            sent += due
            await asyncio.sleep(_TICK)

    def _request(self, account: str, milliseconds: int | None) -> bytes:
        slow = "" if milliseconds is None else f"X-Order-Millis: {milliseconds}\r\n"
        return (
            f"POST /orders HTTP/1.1\r\nHost: orders\r\n{self._header}: {account}\r\n{slow}Content-Length: 2\r\n\r\n{{}}"
        ).encode()

    async def _to_the_end(self, account: str, milliseconds: int | None) -> Order:
        request = self._request(account, milliseconds)
        sent_at = time.time()
        refusals: list[Refusal] = []
        router: Address | None = None
        while True:
            status, answer, problem = 0, None, ""
            try:
                router, answer = await self._once(request, avoid=router)
                status = answer.status
            except Unsent as error:
                status, problem = 503, str(error)
            except Unanswered as error:
                problem = str(error)
            if status not in _NOT_EXECUTED:
                break
            pause = _pause(answer)
            refusals.append(Refusal(time.time(), status, router))
            if time.time() + pause > sent_at + self._patience:
                break
            await asyncio.sleep(pause)
        body = _json(answer)
        return Order(
            account=account,
            sent_at=sent_at,
            answered_at=time.time(),
            status=status,
            outcome=str(body.get("outcome", "")),
            revision=_revision(answer),
            version=str(body.get("version", "")) or None,
            router=router,
            lost=status == 0 or status in _UNKNOWN,
            refusals=tuple(refusals),
            problem=problem,
        )

    async def _once(self, request: bytes, avoid: Address | None) -> tuple[Address, Answer]:
        address, connection = await self._pool.take(avoid)
        try:
            return address, await connection.ask(request, self._timeout)
        finally:
            self._pool.give_back(address, connection)


def _pause(answer: Answer | None) -> float:
    """Seconds until the next try: what the router asks for, spread, so that nobody comes back all at once."""
    asked = float(answer.headers.get("retry-after") or 0.05) if answer is not None else 0.05
    return asked * random.uniform(0.5, 1.0)


def _json(answer: Answer | None) -> dict[str, object]:
    if answer is None or not answer.headers.get("content-type", "").startswith("application/json"):
        return {}
    try:
        body = json.loads(answer.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _revision(answer: Answer | None) -> str | None:
    """The strategy's own word about itself; nobody else took the order."""
    return str(_json(answer).get("revision") or "") or None
