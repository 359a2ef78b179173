"""Proves that the example strategy shows what it does, and misbehaves in each of its ways when it is told to."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.orders.report import Report
from tests.orders.sender import OrderSender
from tests.strategy.process import Running, running

ACCOUNTS = [f"ACC-{number}" for number in range(40)]
Series = dict[str, float]


async def _orders(strategy: Running) -> Report:
    async with OrderSender(ACCOUNTS, routers=[strategy.router], patience=0.1) as sender:
        await sender.ask_everyone()
        return sender.report()


def _drawdown(series: Series) -> float:
    return 1 - series["strategy_equity"] / series["strategy_equity_high_water"]


async def test_every_series_is_there_before_the_first_order(tmp_path: Path) -> None:
    async with running(tmp_path) as strategy:
        _, series = await strategy.metrics()
    for outcome in ("accepted", "filled", "rejected"):
        assert series[f'strategy_orders_total{{outcome="{outcome}"}}'] == 0
    assert time.time() - series["strategy_market_data_timestamp_seconds"] < 1
    assert series["strategy_order_seconds_count"] == 0


async def test_a_well_behaved_strategy_rejects_nothing_and_counts_what_it_does(tmp_path: Path) -> None:
    async with running(tmp_path) as strategy:
        await _orders(strategy)
        _, series = await strategy.metrics()
    assert series['strategy_orders_total{outcome="rejected"}'] == 0
    assert series['strategy_orders_total{outcome="accepted"}'] == len(ACCOUNTS)
    assert series['strategy_order_seconds_bucket{le="+Inf"}'] == len(ACCOUNTS)
    assert _drawdown(series) < 0.01


async def test_orders_are_told_on_standard_output_where_there_is_no_file_to_share(tmp_path: Path) -> None:
    async with running(tmp_path, ORDER_LOG="-") as strategy:
        await _orders(strategy)
        assert strategy.process.stdout is not None
        lines = [json.loads(await strategy.process.stdout.readline()) for _ in ACCOUNTS]
    assert {line["account"] for line in lines} == set(ACCOUNTS)
    assert {line["outcome"] for line in lines} <= {"accepted", "filled"}


MISBEHAVIOURS: list[tuple[str, Callable[[Report, Series], bool]]] = [
    ("rejects", lambda report, _: report.by_outcome["rejected"] > 10),
    ("drawdown", lambda _, series: _drawdown(series) > 0.03),
    ("slow", lambda report, _: report.seconds(0.5) >= 0.2),
    ("crash", lambda report, _: len(report.gave_up) + len(report.lost) == len(ACCOUNTS)),
    ("silent-metrics", lambda report, series: not series and not report.lost),
]


@pytest.mark.parametrize("told", ["by environment", "while it runs"])
@pytest.mark.parametrize(("kind", "shows"), MISBEHAVIOURS, ids=[kind for kind, _ in MISBEHAVIOURS])
async def test_it_misbehaves_as_told(
    tmp_path: Path, kind: str, shows: Callable[[Report, Series], bool], told: str
) -> None:
    environment = {"MISBEHAVE": kind} if told == "by environment" else {}
    async with running(tmp_path, **environment) as strategy:
        if not environment:
            assert await strategy.misbehave({"kind": kind}) == 200
        if kind == "crash":
            await asyncio.wait_for(strategy.process.wait(), 5)
        report = await _orders(strategy)
        series = {} if kind == "crash" else (await strategy.metrics())[1]
    assert shows(report, series)


async def test_misbehaviour_begins_when_it_should_and_ends_when_told(tmp_path: Path) -> None:
    async with running(tmp_path) as strategy:
        assert await strategy.misbehave({"kind": "rejects", "since": time.time() + 60}) == 200
        assert not (await _orders(strategy)).by_outcome["rejected"]
        assert await strategy.misbehave({"kind": "rejects"}) == 200
        assert (await _orders(strategy)).by_outcome["rejected"]
        assert await strategy.misbehave({"kind": "none"}) == 200
        assert not (await _orders(strategy)).by_outcome["rejected"]
        assert await strategy.misbehave({"kind": "laughs"}) == 400


async def test_orders_under_way_are_finished_before_it_ends(tmp_path: Path) -> None:
    async with running(tmp_path, LINGER_SECONDS="0.1") as strategy:
        async with OrderSender(ACCOUNTS, routers=[strategy.router]) as sender:
            order = asyncio.create_task(sender.send(ACCOUNTS[0], milliseconds=600))
            await asyncio.sleep(0.2)
            strategy.process.send_signal(signal.SIGTERM)
            assert (await order).status in (200, 422)
        assert await asyncio.wait_for(strategy.process.wait(), 2) == 0


async def test_an_order_whose_client_goes_away_is_cancelled(tmp_path: Path) -> None:
    async with running(tmp_path) as strategy:
        _, writer = await asyncio.open_connection(*strategy.router)
        writer.write(b"POST /orders HTTP/1.1\r\nX-Account-Id: a\r\nX-Order-Millis: 60000\r\nContent-Length: 0\r\n\r\n")
        await asyncio.sleep(0.2)
        writer.close()
        await asyncio.sleep(0.2)
        assert [line["outcome"] for line in strategy.lines()] == ["cancelled"]
