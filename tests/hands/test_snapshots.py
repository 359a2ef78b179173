"""What cannot be kept is named, with what the API server has against it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from strategyrollout.cluster.access import Access
from strategyrollout.cluster.background import Background
from strategyrollout.cluster.cache import Cache
from strategyrollout.cluster.client import Api
from strategyrollout.cluster.snapshots import Snapshots
from strategyrollout.core.build import Owner, gate_snapshot
from strategyrollout.ports import Key

KEY, OWNER = Key("desk", "momentum"), Owner("desk", "momentum", "u-1")
SNAPSHOT = gate_snapshot(OWNER, {"gates": []})
NAME = SNAPSHOT["metadata"]["name"]
QUOTA = {"reason": "Forbidden", "message": "exceeded quota: objects, used: 9, limited: 9"}


class Server:
    """Answers as it is told."""

    def __init__(self) -> None:
        self.status, self.answer = 403, dict[str, Any](QUOTA)
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        return web.json_response(self.answer, status=self.status)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    told, app = Server(), web.Application()
    app.router.add_route("*", "/{path:.*}", told.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    told.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield told
    await runner.cleanup()


async def test_a_refusal_is_named_until_it_is_stored(server: Server) -> None:
    woken, background = asyncio.Event(), Background()
    async with Api(Access(server.url)) as api:
        cache = Cache(lambda body: [], lambda kind, old, new: None)
        snapshots = Snapshots(api, cache, background, wake=lambda key: woken.set(), now=lambda: 0)
        assert not snapshots.stored(KEY, SNAPSHOT)
        assert snapshots.refused(KEY) is None
        await asyncio.wait_for(woken.wait(), 5)
        problem = snapshots.refused(KEY)
        assert problem is not None
        told = f"the API server refuses ControllerRevision {NAME}: {QUOTA['message']}"
        assert problem.message == f"{told}; until it is kept no new version starts"
        assert not problem.lasting
        server.status = 201
        server.answer = {**SNAPSHOT, "metadata": {**SNAPSHOT["metadata"], "uid": "s", "resourceVersion": "1"}}
        woken.clear()
        assert not snapshots.stored(KEY, SNAPSHOT)
        await asyncio.wait_for(woken.wait(), 5)
        assert snapshots.stored(KEY, SNAPSHOT)
        assert snapshots.refused(KEY) is None
    await background.close()


@pytest.mark.parametrize(("status", "named"), [(403, True), (422, True), (500, False)])
async def test_only_a_no_is_named_and_not_for_longer_than_the_rollout_is_there(
    server: Server, status: int, named: bool
) -> None:
    server.status = status
    woken, background = asyncio.Event(), Background()
    async with Api(Access(server.url)) as api:
        cache = Cache(lambda body: [], lambda kind, old, new: None)
        snapshots = Snapshots(api, cache, background, wake=lambda key: woken.set(), now=lambda: 0)
        snapshots.stored(KEY, SNAPSHOT)
        await asyncio.wait_for(woken.wait(), 5)
        assert (snapshots.refused(KEY) is not None) is named
        snapshots.forget(KEY)
        assert snapshots.refused(KEY) is None
    await background.close()
