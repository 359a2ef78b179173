"""`/metrics`, `/readyz` and `/livez`."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Sentences = Callable[[], list[str]]


async def serve(
    address: str, port: int, *, ready: Sentences, alive: Sentences, role: Callable[[], str]
) -> web.AppRunner:
    """Serves until `cleanup()` of what is returned. `ready` and `alive` name what is in the way; empty is well.

    `role` is said by one that is ready; empty when there is but one.
    """

    def answer(in_the_way: Sentences, well: str) -> web.Response:
        lines = in_the_way()
        return web.Response(text="\n".join(lines or filter(None, ["ok", well])) + "\n", status=503 if lines else 200)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def readyz(_: web.Request) -> web.Response:
        return answer(ready, role())

    async def livez(_: web.Request) -> web.Response:
        return answer(alive, "")

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/readyz", readyz), web.get("/livez", livez)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, address, port).start()
    return runner
