"""Proves the sender's judgement: answered, refused, lost; against the example strategy itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.orders.sender import OrderSender, Slow
from tests.strategy.process import REVISION, Running, running

ACCOUNTS = [f"ACC-{number}" for number in range(20)]


@pytest_asyncio.fixture
async def strategy(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as started:
        yield started


async def test_every_account_gets_an_answer_and_a_line_in_the_log(strategy: Running) -> None:
    async with OrderSender(ACCOUNTS, routers=[strategy.router]) as sender:
        answers = await sender.ask_everyone()
    assert answers == dict.fromkeys(ACCOUNTS, REVISION)
    assert sorted(str(line["account"]) for line in strategy.lines()) == sorted(ACCOUNTS)


async def test_a_rate_is_kept_while_some_orders_are_slow(strategy: Running) -> None:
    async with OrderSender(ACCOUNTS, routers=[strategy.router], slow=Slow(0.1, 300)) as sender:
        sender.start(rate=200)
        await asyncio.sleep(1.0)
        report = await sender.stop()
    assert len(report.orders) == pytest.approx(200, abs=40)
    assert not report.lost
    assert not report.gave_up
    assert report.seconds(0.5) < 0.1
    assert report.seconds(0.99) >= 0.3


async def test_an_order_whose_strategy_dies_is_lost_and_one_that_was_never_sent_is_not(strategy: Running) -> None:
    async with OrderSender(ACCOUNTS, routers=[strategy.router], patience=0.2) as sender:
        working = asyncio.create_task(sender.send(ACCOUNTS[0], milliseconds=5_000))
        await asyncio.sleep(0.3)
        strategy.process.kill()
        await strategy.process.wait()
        assert (await working).lost
        after = await sender.send(ACCOUNTS[1])
    assert (after.lost, after.gave_up) == (False, True)
    assert [order.account for order in sender.report().lost] == [ACCOUNTS[0]]


def _server(answers: list[bytes]) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while answers and await reader.readuntil(b"\r\n\r\n{}"):
            writer.write(answers.pop(0))
        writer.close()

    return serve


CASES: list[tuple[str, list[bytes], tuple[int, bool, bool, int]]] = [
    (
        "moving, then served",
        [
            b"HTTP/1.1 423 Locked\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ],
        (200, False, False, 1),
    ),
    ("cut off by the router", [b"HTTP/1.1 504 Gateway Time-out\r\ncontent-length: 0\r\n\r\n"], (504, True, False, 0)),
    ("no whole answer", [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"], (0, True, False, 0)),
]


@pytest.mark.parametrize(("answers", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
async def test_an_order_is_judged_by_its_answer(answers: list[bytes], expected: tuple[int, bool, bool, int]) -> None:
    server = await asyncio.start_server(_server(list(answers)), "127.0.0.1", 0)
    async with server, OrderSender(ACCOUNTS, routers=[server.sockets[0].getsockname()[:2]], timeout=2) as sender:
        order = await sender.send(ACCOUNTS[0])
    assert (order.status, order.lost, order.gave_up, len(order.refusals)) == expected
