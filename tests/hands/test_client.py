"""The client against the real API server, and against failures that a real one cannot be asked for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from strategyrollout.cluster.access import Access, from_kubeconfig
from strategyrollout.cluster.client import Api, ApiError, Conflict, Forbidden, Invalid, NotFound, resource_path
from strategyrollout.cluster.kinds import CONFIGMAPS, ROLLOUTS
from strategyrollout.ports import Unavailable
from tests.cluster.cluster import Cluster
from tests.hands.conftest import World, pod_template, rollout

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def configmap(namespace: str, **data: str) -> dict[str, object]:
    meta = {"name": "params", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


@pytest.mark.cluster
async def test_an_object_is_created_read_replaced_merged_listed_and_deleted(world: World) -> None:
    api, collection = world.api, CONFIGMAPS.path(world.namespace)
    path = f"{collection}/params"
    made = await api.create(collection, configmap(world.namespace, a="1"))
    assert (await api.get(path))["metadata"]["uid"] == made["metadata"]["uid"]
    with pytest.raises(Conflict):
        await api.create(collection, configmap(world.namespace, a="2"))
    changed = await api.replace(path, {**made, "data": {"a": "2"}})
    with pytest.raises(Conflict):
        await api.replace(path, {**made, "data": {"a": "3"}})
    merged = await api.merge(path, {"data": {"b": "ü"}, "metadata": {"labels": {"x": "y"}}})
    assert merged["data"] == {"a": "2", "b": "ü"}
    assert changed["metadata"]["resourceVersion"] != merged["metadata"]["resourceVersion"]
    assert [b["metadata"]["name"] for b in (await api.list(collection, labels="x=y"))["items"]] == ["params"]
    with pytest.raises(Conflict):
        await api.delete(path, uid="00000000-0000-0000-0000-000000000000")
    await api.delete(path, uid=made["metadata"]["uid"])
    with pytest.raises(NotFound):
        await api.get(path)


@pytest.mark.cluster
async def test_an_apply_of_an_unknown_field_is_the_bodys_fault(world: World) -> None:
    body = {**configmap(world.namespace, a="1"), "dada": {}}
    for strict in (True, False):
        with pytest.raises(Invalid, match="dada"):
            await world.api.apply(CONFIGMAPS.path(world.namespace, "params"), body, manager="test", strict=strict)


@pytest.mark.cluster
async def test_what_the_schema_refuses_names_the_field(world: World) -> None:
    body = rollout("momentum", world.namespace, pod_template())
    body["spec"]["version"] = "latest"
    with pytest.raises(Invalid) as refused:
        await world.api.create(ROLLOUTS.path(world.namespace), body)
    assert refused.value.field == "spec.version"


@pytest.mark.cluster
async def test_someone_without_rights_is_forbidden(cluster: Cluster, world: World) -> None:
    async with Api(from_kubeconfig(str(cluster.client_kubeconfig("mallory")))) as stranger:
        with pytest.raises(Forbidden):
            await stranger.list(CONFIGMAPS.path(world.namespace))


@pytest.mark.cluster
async def test_a_dry_run_makes_nothing(world: World) -> None:
    collection = CONFIGMAPS.path(world.namespace)
    await world.api.create(collection, configmap(world.namespace), dry_run=True)
    await world.api.apply(f"{collection}/params", configmap(world.namespace), manager="test", dry_run=True)
    assert not await world.exists(CONFIGMAPS, "params")


class Faulty:
    """A server that fails as it is told; a real one cannot be asked to."""

    def __init__(self) -> None:
        self.answers: list[Handler] = []
        self.seen: list[web.Request] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        return await self.answers.pop(0)(request)


@pytest_asyncio.fixture
async def faulty() -> AsyncIterator[Faulty]:
    server = Faulty()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


def answering(status: int, body: object = None, **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.json_response(
            body or {}, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    return handler


async def hanging(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


async def half(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"kind":')
    assert request.transport is not None
    request.transport.close()
    return response


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Invalid),
        (401, Forbidden),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, NotFound),
        (418, ApiError),
        (422, Invalid),
        (429, Unavailable),
        (302, ApiError),
        (500, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
    ],
)
async def test_an_error_is_named_by_what_it_means(faulty: Faulty, status: int, error: type[Exception]) -> None:
    faulty.answers = [answering(status, {"message": "no", "reason": "Because"}, Location="http://127.0.0.1:1/")]
    async with Api(Access(faulty.url)) as api:
        with pytest.raises(error, match="no"):
            await api.get("/api/v1/pods")
        assert api.requests_total == {("GET", "pods", str(status)): 1}


async def test_a_hanging_server_costs_the_time_out_and_no_more(faulty: Faulty) -> None:
    faulty.answers = [hanging]
    async with Api(Access(faulty.url), timeout=0.2) as api:
        with pytest.raises(Unavailable, match="no answer within"):
            await asyncio.wait_for(api.merge("/api/v1/pods", {}), 2)
        assert api.requests_total == {("PATCH", "pods", "timeout"): 1}


async def test_half_an_answer_and_no_json_are_no_crash(faulty: Faulty) -> None:
    faulty.answers = [half, answering(200, ["x"]), answering(502, None)]
    async with Api(Access(faulty.url)) as api:
        with pytest.raises(Unavailable):
            await api.create("/api/v1/pods", {})
        assert "message" in await api.get("/api/v1/pods")
        with pytest.raises(Unavailable):
            await api.get("/api/v1/pods")


async def test_nobody_there_is_unavailable() -> None:
    async with Api(Access("http://127.0.0.1:1")) as api:
        with pytest.raises(Unavailable):
            await api.get("/api/v1/pods")


async def test_a_server_that_asks_to_wait_is_asked_again(faulty: Faulty) -> None:
    faulty.answers = [answering(429, Retry_After="0"), answering(200, {"ok": True})]
    async with Api(Access(faulty.url)) as api:
        assert await api.get("/api/v1/pods") == {"ok": True}


async def test_a_server_that_asks_to_wait_too_long_is_unavailable(faulty: Faulty) -> None:
    faulty.answers = [answering(429, Retry_After="60")]
    async with Api(Access(faulty.url), timeout=0.2) as api:
        with pytest.raises(Unavailable):
            await api.get("/api/v1/pods")


async def test_an_expired_token_is_loaded_anew(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr("strategyrollout.cluster.client.monotonic", lambda: next(clock))
    faulty.answers = [answering(401), answering(200, {"ok": True})]
    async with Api(Access(faulty.url, token="old"), reload=lambda: Access(faulty.url, token="new")) as api:
        assert await api.get("/api/v1/pods") == {"ok": True}
    assert [r.headers["Authorization"] for r in faulty.seen] == ["Bearer old", "Bearer new"]


async def test_proxies_of_the_environment_are_ignored(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    faulty.answers = [answering(200, {"ok": True})]
    async with Api(Access(faulty.url)) as api:
        assert await api.get("/api/v1/pods") == {"ok": True}


def test_paths_are_built_as_the_api_wants_them() -> None:
    assert resource_path("v1", "services", "a", "b") == "/api/v1/namespaces/a/services/b"
    assert resource_path("apps/v1", "deployments") == "/apis/apps/v1/deployments"
    assert resource_path("x/v1", "ys", "a", "b", "status") == "/apis/x/v1/namespaces/a/ys/b/status"


async def test_requests_are_counted_by_resource(faulty: Faulty) -> None:
    paths = {
        "/api/v1/namespaces/a": "namespaces",
        "/api/v1/namespaces/a/services/b": "services",
        "/apis/x/v1/namespaces/a/ys/b/status": "ys/status",
        "/readyz": "other",
    }
    faulty.answers = [answering(200) for _ in paths]
    async with Api(Access(faulty.url)) as api:
        for path in paths:
            await api.get(path)
        assert [resource for _, resource, _ in api.requests_total] == list(paths.values())


def test_a_kubeconfig_is_read(tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(
        "{apiVersion: v1, kind: Config, current-context: x, contexts: [{name: x, context: {cluster: c, user: u}}],"
        " clusters: [{name: c, cluster: {server: 'http://127.0.0.1:7/'}}], users: [{name: u, user: {token: t}}]}"
    )
    access = from_kubeconfig(str(config))
    assert (access.host, access.token) == ("http://127.0.0.1:7", "t")
