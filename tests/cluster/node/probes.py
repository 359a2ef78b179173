"""Startup, readiness and liveness probes: questions asked of a running container again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

Object = dict[str, Any]
Check = Callable[[], Awaitable[bool]]
_EAGER_SECONDS = 0.2


def _port(container: Object, port: int | str) -> int:
    if isinstance(port, int):
        return port
    for entry in container.get("ports") or []:
        if entry.get("name") == port:
            return int(entry["containerPort"])
    return int(port)


async def _http(probe: Object, container: Object, address: str) -> bool:
    get = probe["httpGet"]
    scheme = get.get("scheme", "HTTP").lower()
    host = get.get("host") or address
    url = f"{scheme}://{host}:{_port(container, get['port'])}{get.get('path', '/')}"
    headers = {header["name"]: header["value"] for header in get.get("httpHeaders") or []}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(url, ssl=False, allow_redirects=False) as response,
    ):
        return 200 <= response.status < 400


async def _tcp(probe: Object, container: Object, address: str) -> bool:
    socket = probe["tcpSocket"]
    _, writer = await asyncio.open_connection(socket.get("host") or address, _port(container, socket["port"]))
    writer.close()
    return True


async def _exec(probe: Object, pid: int, environment: dict[str, str]) -> bool:
    enter = ["nsenter", "-t", str(pid), "--mount", "--net", "--uts", "--pid", "--root", "--wd"]
    process = await asyncio.create_subprocess_exec(
        *enter,
        *probe["exec"]["command"],
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        return await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()


async def ask(probe: Object, container: Object, address: str, pid: int, environment: dict[str, str]) -> bool:
    """One answer, within the probe's timeout; any trouble is a no."""
    try:
        async with asyncio.timeout(probe.get("timeoutSeconds", 1)):
            if "httpGet" in probe:
                return await _http(probe, container, address)
            if "tcpSocket" in probe:
                return await _tcp(probe, container, address)
            if "exec" in probe:
                return await _exec(probe, pid, environment)
    except (OSError, aiohttp.ClientError, TimeoutError, ValueError):
        return False
    return False


async def repeat(probe: Object, check: Check, report: Callable[[bool], None], eager: bool = False) -> None:
    """Ask for ever; reports whenever a threshold is reached.

    An eager one asks more often until the first yes, so that a pod is not unready for longer than it must be.
    """
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    period = probe.get("periodSeconds", 10)
    successes = failures = 0
    clock = asyncio.get_running_loop()
    while True:
        began = clock.time()
        good = await check()
        successes, failures = (successes + 1, 0) if good else (0, failures + 1)
        if good and successes >= probe.get("successThreshold", 1):
            eager = False
            report(True)
        elif not good and failures >= probe.get("failureThreshold", 3):
            report(False)
        # A slow answer does not make the next question later.
        wait = min(_EAGER_SECONDS, period) if eager else period
        await asyncio.sleep(max(0.0, began + wait - clock.time()))
