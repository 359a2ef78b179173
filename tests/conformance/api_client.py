"""The API server as people and their tools reach it: apply, patch, delete, and a watch without gaps."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from strategyrollout.api.meta import API_VERSION
from strategyrollout.api.schema import KINDS
from tests.cluster.cluster import Cluster
from tests.cluster.control_plane import ADMIN_TOKEN

Object = dict[str, Any]
OURS = f"/apis/{API_VERSION}"
_PREFIXES = {"ConfigMap": "/api/v1", "Service": "/api/v1", "Pod": "/api/v1", "Deployment": "/apis/apps/v1"}

_NOT_YET, _AGAIN = 429, 0.1
"""What a server answers that has known a kind for a moment only; and seconds until it is asked again."""


class Refused(Exception):
    """The API server said no; the text is its message."""


def path_of(item: Object) -> str:
    """URL path of an object."""
    kind, meta = item["kind"], item["metadata"]
    ours = next((k for k in KINDS if k.name == kind), None)
    plural = ours.plural if ours else f"{kind.lower()}s"
    scope = f"/namespaces/{meta['namespace']}" if meta.get("namespace") else ""
    return f"{_PREFIXES.get(kind, OURS)}{scope}/{plural}/{meta['name']}"


class Api:
    """One session; dict bodies."""

    def __init__(self, cluster: Cluster) -> None:
        self._server = cluster.server
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}", "Accept": "application/json"},
            connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(cluster.ca_file)), limit=0),
            read_bufsize=1 << 23,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Object:
        """One request, again when the server says that it is not ready for it; raises Refused."""
        headers = {"Content-Type": kind}
        data = None if body is None else json.dumps(body)
        while True:
            async with self._session.request(method, self._server + path, data=data, headers=headers) as response:
                answer: Object = await response.json(content_type=None)
            if response.status == _NOT_YET:
                await asyncio.sleep(_AGAIN)
                continue
            if response.status >= 400:
                raise Refused(f"{response.status} {answer.get('message')}")
            return answer

    async def get(self, path: str) -> Object:
        """An object or a list."""
        return await self.call("GET", path)

    async def apply(self, item: Object) -> Object:
        """`kubectl apply --server-side`, strictly."""
        path = f"{path_of(item)}?fieldManager=person&force=true&fieldValidation=Strict"
        return await self.call("PATCH", path, item, "application/apply-patch+yaml")

    async def merge(self, path: str, body: Object) -> Object:
        """A merge patch."""
        return await self.call("PATCH", path, body, "application/merge-patch+json")

    async def delete(self, path: str) -> None:
        """Delete it if it is there."""
        try:
            await self.call("DELETE", path)
        except Refused as error:
            if not str(error).startswith("404"):
                raise

    async def watch(self, collection: str, selector: str) -> AsyncIterator[tuple[str, Object]]:
        """Every change from now on, in order; the present objects come first, as `ADDED`."""
        listed = await self.get(f"{collection}?{selector}")
        for item in listed["items"]:
            yield "ADDED", item
        version = listed["metadata"]["resourceVersion"]
        url = f"{self._server}{collection}?{selector}&watch=1&resourceVersion={version}"
        while True:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as response:
                if response.status != _NOT_YET:
                    response.raise_for_status()
                    async for line in response.content:
                        event = json.loads(line)
                        yield event["type"], event["object"]
                    return
            await asyncio.sleep(_AGAIN)
