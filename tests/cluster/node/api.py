"""The agent's access to the API server: JSON requests and a watch that survives the server's absence."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

Object = dict[str, Any]
_STRATEGIC_MERGE = "application/strategic-merge-patch+json"


class ApiError(RuntimeError):
    """The server answered, but not what was hoped for."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """One session for the whole agent."""

    def __init__(self, server: str, ca_file: str | None, token: str) -> None:
        self._server = server
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ca_file), limit=0)
        self._session = aiohttp.ClientSession(headers=headers, connector=connector)

    async def close(self) -> None:
        """Close the session."""
        await self._session.close()

    async def request(self, method: str, path: str, body: Object | None = None) -> Object:
        """One request; raises ApiError for an answer of 400 and above, aiohttp errors when there is none."""
        content_type = _STRATEGIC_MERGE if method == "PATCH" else "application/json"
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        timeout = aiohttp.ClientTimeout(total=20)
        async with self._session.request(
            method, self._server + path, data=data, headers=headers, timeout=timeout
        ) as response:
            answer: Object = await response.json()
            if response.status >= 400:
                raise ApiError(response.status, str(answer.get("message", answer)))
            return answer

    async def insist(self, method: str, path: str, body: Object | None = None) -> Object:
        """A request that is repeated until the server answers it; its refusals are raised."""
        while True:
            try:
                return await self.request(method, path, body)
            except ApiError as error:
                if error.status < 500 and error.status != 429:
                    raise
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(0.2)

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        """Lines of an answer that is text and may never end, such as a log that is followed."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with self._session.get(self._server + path, timeout=timeout, read_bufsize=2**22) as response:
            if response.status >= 400:
                raise ApiError(response.status, await response.text())
            async for line in response.content:
                yield line

    async def follow(self, path: str, selector: str = "") -> AsyncIterator[tuple[str, Object]]:
        """List and watch for ever: yields ("SYNC", list), then (type, object) changes, and again after a break."""
        query = f"fieldSelector={selector}" if selector else ""
        while True:
            try:
                listed = await self.insist("GET", f"{path}?{query}")
                yield "SYNC", listed
                version = listed["metadata"]["resourceVersion"]
                watch = f"{path}?watch=1&allowWatchBookmarks=true&resourceVersion={version}&{query}"
                timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
                async with self._session.get(self._server + watch, timeout=timeout, read_bufsize=2**22) as response:
                    async for line in response.content:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        if event["type"] != "BOOKMARK":
                            yield event["type"], event["object"]
            except (aiohttp.ClientError, TimeoutError, OSError, ApiError, ValueError):
                pass
            await asyncio.sleep(0.2)
