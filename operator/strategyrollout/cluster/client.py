"""The one way to the API server: dict bodies over aiohttp, a time-out on every call, errors by what they mean.

Why not the official client for requests: it costs three to four times the CPU a request, and its time-outs cover less
(`docs/decisions`). Its configuration loader is used, because kubeconfigs may run plugins.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Any

import aiohttp
import orjson
from yarl import URL

from strategyrollout.cluster.access import Access
from strategyrollout.ports import Unavailable

Body = dict[str, Any]

TIMEOUT = 5.0
CONNECTIONS = 64
_BUFFER = 4 << 20  # bytes; lists are large, and a reader that is full stops and starts the connection every time
_CREDENTIALS_AGE = 60.0
_NO_SCHEMA = "failed to create typed patch object"
_JSON = "application/json"
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class ApiError(Exception):
    """The API server answered, and not with success. `message` is its own sentence, for people."""

    def __init__(self, status: int, reason: str, message: str, field: str = "") -> None:
        """`field` is the path the server blames, when it names one."""
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.field = field


class Fenced(Unavailable):
    """The write was not sent, because this process may not write at the moment."""


class NotFound(ApiError):
    """There is no such object, or no such kind."""


class Conflict(ApiError):
    """It exists already, or is not the version or the UID that was named."""


class Invalid(ApiError):
    """What was sent can never be accepted as it is."""


class Forbidden(ApiError):
    """Authentication, RBAC, quota or an admission policy says no."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    413: Invalid,
    415: Invalid,
    422: Invalid,
}


def resource_path(
    api_version: str, plural: str, namespace: str | None = None, name: str | None = None, subresource: str | None = None
) -> str:
    """The URL path of a collection, an object or its subresource."""
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    scope = f"/namespaces/{namespace}" if namespace else ""
    return root + scope + f"/{plural}" + "".join(f"/{part}" for part in (name, subresource) if part)


def _resource_of(path: str) -> str:
    """`deployments` or `strategyrollouts/status`: the resource a path is about, for the request counters."""
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        rest = rest[2:]
    return "/".join(part for index, part in enumerate(rest) if index in {0, 2}) or "other"


class Api:
    """A session with one API server. Open with `async with`, or call `close` at the end.

    Every method raises `ApiError` (by subclass) when the server refuses and `Unavailable` when it cannot answer in
    `timeout` seconds, its own 429 and 5xx included. After `Unavailable` a write may or may not have happened.
    """

    def __init__(
        self,
        access: Access,
        *,
        reload: Callable[[], Access] | None = None,
        timeout: float = TIMEOUT,
        user_agent: str = "",
        may_write: Callable[[], bool] | None = None,
    ) -> None:
        """`reload` is a blocking function that returns a fresh `Access`; called in a thread, at most every minute.

        `may_write` is asked before each request that is no read is sent; when it says no, that raises `Fenced`.
        """
        self._access = access
        self._reload = reload
        self._may_write = may_write
        self._timeout = timeout
        self._agent = user_agent or "strategyrollout"
        self._session: aiohttp.ClientSession | None = None
        # First come, first served, before the clock runs: waiting for a connection in aiohttp's pool is neither fair
        # nor told from waiting for an answer.
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._tls = access.tls()
        self._token = access.token
        self._token_at = monotonic()
        self._refreshing = asyncio.Lock()
        self.requests_total: Counter[tuple[str, str, str]] = Counter()
        """(verb, resource, status) -> requests; status `timeout` or `error` without an answer, `fenced` if not sent."""

    async def __aenter__(self) -> "Api":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections. Harmless when repeated."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str, **query: str) -> Body:
        """One object, or whatever is at `path`; consistent (never from the server's cache of an older state)."""
        return await self._request("GET", path, query)

    async def list(
        self,
        path: str,
        *,
        labels: str = "",
        fields: str = "",
        metadata_only: bool = False,
        timeout: float | None = None,
    ) -> Body:
        """A whole collection, consistent: no `resourceVersion`, no paging. `metadata_only` leaves out all else.

        `labels` and `fields` are selectors.
        """
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        query = {name: selector for name, selector in selectors.items() if selector}
        accept = _METADATA if metadata_only else _JSON
        return await self._request("GET", path, query, verb="LIST", accept=accept, timeout=timeout)

    async def create(self, path: str, body: Body, *, dry_run: bool = False, strict: bool = False) -> Body:
        """POST; `path` is the collection's."""
        query = {"dryRun": "All"} if dry_run else {}
        if strict:
            query["fieldValidation"] = "Strict"
        return await self._request("POST", path, query, body)

    async def replace(self, path: str, body: Body) -> Body:
        """PUT; a compare-and-swap when `body.metadata.resourceVersion` is set: `Conflict` when it is not current."""
        return await self._request("PUT", path, {}, body)

    async def apply(self, path: str, body: Body, *, manager: str, dry_run: bool = False, strict: bool = True) -> Body:
        """Server-side apply as field manager `manager`, taking fields over from others."""
        query = {"fieldManager": manager, "force": "true"}
        if strict:
            query["fieldValidation"] = "Strict"
        if dry_run:
            query["dryRun"] = "All"
        return await self._request("PATCH", path, query, body, content="application/apply-patch+yaml", verb="APPLY")

    async def merge(self, path: str, body: Body) -> Body:
        """JSON merge patch."""
        return await self._request("PATCH", path, {}, body, content="application/merge-patch+json")

    async def delete(self, path: str, *, uid: str | None = None, grace: int | None = None) -> None:
        """Deletes in the background; with `uid` only that very object (`Conflict` otherwise). `grace` in seconds."""
        options: Body = {"propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        await self._request("DELETE", path, {}, options)

    async def _request(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: Body | None = None,
        *,
        content: str = _JSON,
        accept: str = _JSON,
        verb: str = "",
        timeout: float | None = None,
    ) -> Body:
        timeout = timeout or self._timeout
        verb, resource = verb or method, _resource_of(path)
        status = "error"
        try:
            async with self._slots, asyncio.timeout(timeout):
                code, raw = await self._send(method, path, query, body, content=content, accept=accept)
            status = str(code)
        except Fenced:
            status = "fenced"
            raise
        except TimeoutError as error:
            status = "timeout"
            raise Unavailable(f"{verb} {path}: no answer within {timeout:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{verb} {path}: {error or type(error).__name__}") from error
        finally:
            self.requests_total[verb, resource, status] += 1
        return _answer(code, raw, f"{verb} {path}")

    async def _send(
        self, method: str, path: str, query: dict[str, str], body: Body | None, *, content: str, accept: str
    ) -> tuple[int, bytes]:
        """Follows the server's wish to wait (429) and a token that ran out (401), within the caller's time-out."""
        url = URL(self._access.host + path, encoded=True).with_query(query)
        data = None if body is None else orjson.dumps(body)
        reloaded = False
        while True:
            # Uncompressed: on the way inside a cluster gzip takes longer than the bytes it saves.
            headers = {"Accept": accept, "Accept-Encoding": "identity", "User-Agent": self._agent}
            if token := await self._fresh_token(force=False):
                headers["Authorization"] = f"Bearer {token}"
            if data is not None:
                headers["Content-Type"] = content
            if method != "GET" and self._may_write is not None and not self._may_write():
                raise Fenced(f"{method} {path}: this replica does not lead")
            async with self._open().request(
                method,
                url,
                data=data,
                headers=headers,
                ssl=self._tls,
                server_hostname=self._access.server_name,
                allow_redirects=False,
            ) as response:
                raw = await response.read()
            if response.status == 401 and self._reload and not reloaded:
                reloaded = True
                await self._fresh_token(force=True)
            elif response.status == 429 and "Retry-After" in response.headers:
                await asyncio.sleep(_seconds(response.headers["Retry-After"]))
            else:
                return response.status, raw

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # trust_env stays off: a proxy of the environment must never stand between us and the API server.
            connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=60)
            timeout = aiohttp.ClientTimeout(connect=3)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=_BUFFER)
        return self._session

    async def _fresh_token(self, *, force: bool) -> str:
        age = 1.0 if force else _CREDENTIALS_AGE
        if self._reload is None or monotonic() - self._token_at < age:
            return self._token
        async with self._refreshing:
            if monotonic() - self._token_at >= age:
                self._token_at = monotonic()
                try:
                    self._token = (await asyncio.to_thread(self._reload)).token
                except Exception as error:  # a loader may run any plugin; the token at hand may still be good
                    self.requests_total["RELOAD", "credentials", type(error).__name__] += 1
        return self._token


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdigit() else 1.0


def _answer(code: int, raw: bytes, what: str) -> Body:
    try:
        body = orjson.loads(raw) if raw else {}
    except ValueError:
        body = {"message": raw[:512].decode(errors="replace")}
    if not isinstance(body, dict):
        body = {"message": str(body)[:512]}
    if code < 300:
        return body
    message, reason = str(body.get("message") or "no message"), str(body.get("reason") or code)
    # The server reports an apply of unknown or repeated fields as its own failure; it is the body that is wrong.
    if code == 500 and _NO_SCHEMA in message:
        raise Invalid(400, "Invalid", message)
    if code == 429 or code >= 500:
        raise Unavailable(f"{what}: {code} {reason}: {message}")
    raise _BY_STATUS.get(code, ApiError)(code, reason, message, _blamed(body))


def _blamed(body: Body) -> str:
    details = body.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    first = causes[0] if isinstance(causes, list) and causes else None
    return str(first.get("field") or "") if isinstance(first, dict) else ""
