"""Who may write the commit record of traffic, and who is refused, in sentences that say what to do instead."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from strategyrollout.api.meta import API_VERSION
from tests.cluster.processes import until
from tests.security.conftest import ASSIGNMENTS, WORKER, Guarded
from tests.security.shipped import Object

pytestmark = pytest.mark.cluster


@pytest_asyncio.fixture
async def path(guarded: Guarded) -> AsyncIterator[str]:
    """Where `momentum`'s assignment is; there is one."""
    collection = ASSIGNMENTS.format(guarded.namespace)
    status, answer = await guarded.cluster.request("POST", collection, guarded.table())
    assert status == 201, answer
    yield f"{collection}/momentum"
    await guarded.cluster.request("DELETE", f"{collection}/momentum")


async def changed(guarded: Guarded, path: str, cause: str = "Step") -> Object:
    """The stored assignment with the next table in it."""
    stored = await guarded.stored(path)
    spec = guarded.table(cause=cause)["spec"]
    return {**stored, "spec": {**spec, "epoch": max(spec["epoch"], stored["spec"]["epoch"] + 1)}}


async def who(guarded: Guarded, name: str) -> str:
    """A token by what its holder is called in these tests."""
    if name in {"alice", "bob", "carol"}:
        return guarded.cluster.client_token(name)
    if name == "operator":
        return await guarded.operator.token()
    account = {"a strategy": "strategy", "a router": "momentum-router", "another router": "reversion-router"}[name]
    return await guarded.token(account, await guarded.pod(account))


async def test_the_operator_creates_and_updates_assignments(guarded: Guarded) -> None:
    token, collection = await guarded.operator.token(), ASSIGNMENTS.format(guarded.namespace)
    assert (await guarded.send("POST", collection, guarded.table(), token))[0] == 201
    body = await changed(guarded, f"{collection}/momentum")
    assert (await guarded.send("PUT", f"{collection}/momentum", body, token))[0] == 200
    assert (await guarded.cluster.request("DELETE", f"{collection}/momentum"))[0] == 200


@pytest.mark.parametrize("name", ["bob", "carol"])
async def test_who_may_override_writes_if_the_record_says_so(guarded: Guarded, path: str, name: str) -> None:
    token = guarded.cluster.client_token(name)
    status, message = await guarded.send("PUT", path, await changed(guarded, path), token)
    assert status == 403
    assert "set spec.cause.kind to Override and give the reason in spec.cause.message" in message
    assert (await guarded.send("PUT", path, await changed(guarded, path, "Override"), token))[0] == 200
    assert (await guarded.send("DELETE", path, None, token))[0] == 200
    collection = path.removesuffix("/momentum")
    assert (await guarded.send("POST", collection, guarded.table(cause="Override"), token))[0] == 201


async def test_a_right_to_override_one_rollout_is_none_for_another(guarded: Guarded) -> None:
    body = guarded.table("reversion", "Override")
    token = guarded.cluster.client_token("carol")
    status, message = await guarded.send("POST", ASSIGNMENTS.format(guarded.namespace), body, token)
    assert (status, "carol may not create TrafficAssignment reversion" in message) == (403, True)


@pytest.mark.parametrize("name", ["alice", "a strategy"])
async def test_wide_rights_are_not_enough_to_move_traffic(guarded: Guarded, path: str, name: str) -> None:
    token = await who(guarded, name)
    wishes = {
        "update": ("PUT", path, await changed(guarded, path)),
        "update as an override": ("PUT", path, await changed(guarded, path, "Override")),
        "annotate": ("PATCH", path, {"metadata": {"annotations": {"by": "hand"}}}),
        "delete": ("DELETE", path, None),
        "delete all": ("DELETE", path.removesuffix("/momentum"), None),
        "create": ("POST", path.removesuffix("/momentum"), guarded.table("other", "Override")),
    }
    for wish, (method, where, body) in wishes.items():
        status, message = await guarded.send(method, where, body, token)
        assert status == 403, wish
        for words in (
            *("may not", "only the operator moves traffic", "create a Rollback"),
            *("kubectl strategyrollout override", "RBAC verb override on trafficassignments.strategyrollout.io"),
        ):
            assert words in message, wish
    assert (await guarded.stored(path))["metadata"]["generation"] == 1


@pytest.mark.parametrize("name", ["a router", "another router"])
async def test_a_router_reads_its_own_table_and_writes_none(guarded: Guarded, path: str, name: str) -> None:
    token = await who(guarded, name)
    reads = 200 if name == "a router" else 403
    assert (await guarded.send("GET", path, None, token))[0] == reads
    status, message = await guarded.send("PUT", path, await changed(guarded, path, "Override"), token)
    assert (status, 'cannot update resource "trafficassignments"' in message) == (403, True)


async def test_an_assignment_goes_with_its_rollout(guarded: Guarded) -> None:
    await guarded.routed("short-lived")
    rollout = f"/apis/{API_VERSION}/namespaces/{guarded.namespace}/strategyrollouts/short-lived"
    path = await _owned(guarded, "short-lived")
    assert (await guarded.cluster.request("DELETE", rollout))[0] == 200
    await _gone(guarded, path)


async def test_an_assignment_may_be_orphaned_by_who_deletes_the_rollout(guarded: Guarded) -> None:
    await guarded.routed("left-alone")
    path = await _owned(guarded, "left-alone")
    await guarded.cluster.kubectl(
        *("delete", "sro", "left-alone", "-n", guarded.namespace, "--cascade=orphan", "--timeout=20s")
    )
    assert "ownerReferences" not in (await guarded.stored(path))["metadata"]


async def test_everything_goes_with_its_namespace(guarded: Guarded) -> None:
    doomed = Guarded(guarded.cluster, f"doomed-{WORKER}", guarded.operator)
    await doomed.routed("momentum")
    path = ASSIGNMENTS.format(doomed.namespace)
    assert (await guarded.cluster.request("POST", path, doomed.table()))[0] == 201
    pod = await doomed.pod("momentum-router")
    lease = doomed.lease(pod["metadata"]["uid"])
    token = await doomed.token("momentum-router", pod)
    assert (
        await doomed.send("POST", f"/apis/coordination.k8s.io/v1/namespaces/{doomed.namespace}/leases", lease, token)
    )[0] == 201
    await guarded.cluster.request("DELETE", f"/api/v1/namespaces/{doomed.namespace}")
    await _gone(guarded, f"/api/v1/namespaces/{doomed.namespace}")


async def _owned(guarded: Guarded, name: str) -> str:
    body = guarded.table(name)
    body["metadata"]["ownerReferences"] = [
        {"apiVersion": API_VERSION, "kind": "StrategyRollout", "name": name, "uid": guarded.owners[name].uid}
    ]
    collection = ASSIGNMENTS.format(guarded.namespace)
    status, message = await guarded.send("POST", collection, body, await guarded.operator.token())
    assert status == 201, message
    return f"{collection}/{name}"


async def _gone(guarded: Guarded, path: str) -> None:
    async def gone() -> bool:
        return (await guarded.cluster.request("GET", path))[0] == 404

    await until(f"{path} is gone", gone, 60)
