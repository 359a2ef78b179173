"""The few calls a router makes to the API server, each with its own time-out, without a client library.

A router must be small: every rollout has several. Tokens and the certificate authority are read again because both
are rotated under a running pod.
"""

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from yarl import URL

Body = dict[str, Any]

CALL_TIMEOUT = 2.0
_WATCH_SECONDS = 300
_WATCH_SILENCE = 90.0  # bookmarks come about every minute; longer silence is a dead connection


class ApiError(Exception):
    """The API server said no. `status` is its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Unreachable(Exception):
    """No answer, or none in time."""


class Kube:
    """One API server, one identity."""

    def __init__(self, server: str, token_file: Path, ca_file: Path | None) -> None:
        self._server = server
        self._token_file = token_file
        self._ca_file = ca_file
        self._tls: tuple[float, ssl.SSLContext] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End all connections."""
        if self._session:
            await self._session.close()

    async def get(self, path: str, query: Mapping[str, str] | None = None, timeout: float = CALL_TIMEOUT) -> Body:
        """A consistent read: no resourceVersion, so the answer is not older than the question."""
        return await self._call("GET", path, query=query, timeout=timeout)

    async def create(self, path: str, body: Body) -> Body:
        """POST."""
        return await self._call("POST", path, body=body)

    async def update(self, path: str, body: Body) -> Body:
        """PUT; with the resourceVersion in `body`, a compare-and-swap."""
        return await self._call("PUT", path, body=body)

    async def watch(self, path: str, query: Mapping[str, str], since: str) -> AsyncIterator[Body]:
        """Events after resourceVersion `since`, bookmarks left out, until the server ends it."""
        query = {
            **query,
            "watch": "1",
            "resourceVersion": since,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        timeout = aiohttp.ClientTimeout(total=None, connect=CALL_TIMEOUT, sock_read=_WATCH_SILENCE)
        try:
            async with self._request("GET", path, query, timeout=timeout) as response:
                await _raise_for(response)
                async for event in _events(response):
                    if event["type"] == "ERROR":
                        raise ApiError(int(event["object"].get("code", 0)), str(event["object"].get("message", "")))
                    if event["type"] != "BOOKMARK":
                        yield event
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(f"watch {path}: {type(error).__name__} {error}") from error

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Body | None = None,
        timeout: float = CALL_TIMEOUT,
    ) -> Body:
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with self._request(method, path, query or {}, body=body, timeout=limit) as response:
                await _raise_for(response)
                answer: Body = await response.json(content_type=None)
                return answer
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(f"{method} {path}: {type(error).__name__} {error}") from error

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        timeout: aiohttp.ClientTimeout,
        body: Body | None = None,
    ) -> "aiohttp.client._RequestContextManager":
        if self._session is None:
            self._session = aiohttp.ClientSession()
        text = f"{self._server}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if token := self._token():
            headers["Authorization"] = f"Bearer {token}"
        return self._session.request(
            method,
            URL(text, encoded=True),
            data=json.dumps(body) if body is not None else None,
            headers=headers,
            timeout=timeout,
            ssl=self._trust() or True,
        )

    def _token(self) -> str:
        return self._token_file.read_text().strip() if self._token_file.exists() else ""

    def _trust(self) -> ssl.SSLContext | None:
        if self._ca_file is None:
            return None
        written = self._ca_file.stat().st_mtime
        if self._tls is None or self._tls[0] != written:
            self._tls = (written, ssl.create_default_context(cafile=str(self._ca_file)))
        return self._tls[1]


async def _raise_for(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:
        return
    text = await response.text()
    try:
        message = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        message = text[:200]
    raise ApiError(response.status, message)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[Body]:
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield json.loads(line)


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures: 50 ms, doubling, at most 1 s."""
    return min(0.05 * 2.0 ** min(failures, 5), 1.0)
