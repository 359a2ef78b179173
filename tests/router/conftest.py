"""Fixtures of a router with two revisions behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.router.fake_api import FakeApi
from tests.router.router import CANDIDATE, STABLE, Router, Strategy, address


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    await fake.start(address())
    yield fake
    await fake.stop()


@pytest_asyncio.fixture
async def stable(api: FakeApi) -> AsyncIterator[Strategy]:
    async with Strategy(STABLE).running() as strategy:
        api.put_pods(STABLE, {strategy.host: True}, strategy.port)
        yield strategy


@pytest_asyncio.fixture
async def candidate(api: FakeApi) -> AsyncIterator[Strategy]:
    async with Strategy(CANDIDATE).running() as strategy:
        api.put_pods(CANDIDATE, {strategy.host: True}, strategy.port)
        yield strategy


@pytest_asyncio.fixture
async def router(api: FakeApi, stable: Strategy, candidate: Strategy, tmp_path: Path) -> AsyncIterator[Router]:
    pod = Router(tmp_path, api)
    await pod.start()
    yield pod
    await pod.stop()
