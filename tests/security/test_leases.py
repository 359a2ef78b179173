"""Whose Lease it is: an acknowledgement moves traffic, so only the very pod that enforces the table gives it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import pytest_asyncio

from strategyrollout.api.meta import (
    ANNOTATION_ACKED,
    ANNOTATION_CONSUMER,
    CONSUMER_CLOSED,
    CONSUMER_OPEN,
    LABEL_ROLLOUT_UID,
)
from tests.security.conftest import LEASES, Guarded
from tests.security.shipped import Object

pytestmark = pytest.mark.cluster

ONLY_THE_ROUTER = "only the router whose pod has this UID acknowledges"
OPENS_ITS_OWN = "a router opens its own Lease, named by the UID of its pod, with the token of that pod"


@dataclass
class Router:
    """A router of `momentum` with its Lease open."""

    guarded: Guarded
    pod: Object
    token: str

    @property
    def path(self) -> str:
        """Of its Lease."""
        return f"{LEASES.format(self.guarded.namespace)}/{self.pod['metadata']['uid']}"

    async def says(self, token: str, **words: str) -> tuple[int, str]:
        """Somebody writes this into the Lease, as the agent does."""
        stored = await self.guarded.stored(self.path)
        annotations = {f"strategyrollout.io/{k.replace('_', '-')}": v for k, v in words.items()}
        metadata = {**stored["metadata"], "annotations": {**stored["metadata"]["annotations"], **annotations}}
        return await self.guarded.send("PUT", self.path, {**stored, "metadata": metadata}, token)


@pytest_asyncio.fixture
async def router(guarded: Guarded) -> Router:
    pod = await guarded.pod("momentum-router")
    token = await guarded.token("momentum-router", pod)
    body = guarded.lease(pod["metadata"]["uid"])
    status, message = await guarded.send("POST", LEASES.format(guarded.namespace), body, token)
    assert status == 201, message
    return Router(guarded, pod, token)


async def other(guarded: Guarded, name: str) -> str:
    """A token by what its holder is called in these tests."""
    if name in {"alice", "bob"}:
        return guarded.cluster.client_token(name)
    if name == "the operator":
        return await guarded.operator.token()
    account = {
        "another router of the rollout": "momentum-router",
        "a router of another rollout": "reversion-router",
        "a strategy": "strategy",
        "a pod somebody made with the router's account": "momentum-router",
        "the router's account without a pod": "momentum-router",
    }[name]
    pod = await guarded.pod(account) if "without a pod" not in name else None
    return await guarded.token(account, pod)


OTHERS = (
    "another router of the rollout",
    "a router of another rollout",
    "a strategy",
    "a pod somebody made with the router's account",
    "the router's account without a pod",
    "alice",
)


async def test_a_router_acknowledges_and_closes_its_own_lease(router: Router) -> None:
    assert (await router.says(router.token, acked_epoch="17"))[0] == 200
    assert (await router.says(router.token, consumer=CONSUMER_CLOSED))[0] == 200


async def test_a_closed_lease_is_not_reopened_even_by_its_router(router: Router) -> None:
    await router.says(router.token, consumer=CONSUMER_CLOSED)
    status, message = await router.says(router.token, consumer=CONSUMER_OPEN)
    assert (status, "is closed and is never reopened; delete the pod" in message) == (403, True)


@pytest.mark.parametrize("name", [*OTHERS, "bob", "the operator"])
async def test_nobody_acknowledges_for_a_router(guarded: Guarded, router: Router, name: str) -> None:
    status, message = await router.says(await other(guarded, name), acked_epoch="17")
    assert status == 403
    assert ONLY_THE_ROUTER in message
    assert "needs the RBAC verb override" in message
    stored = await guarded.stored(router.path)
    assert stored["metadata"]["annotations"][ANNOTATION_ACKED] == "0"


@pytest.mark.parametrize("name", OTHERS)
async def test_nobody_without_a_right_to_move_traffic_closes_it_for_a_router(
    guarded: Guarded, router: Router, name: str
) -> None:
    status, message = await router.says(await other(guarded, name), consumer=CONSUMER_CLOSED)
    assert (status, ONLY_THE_ROUTER in message) == (403, True)


@pytest.mark.parametrize("name", ["bob", "the operator"])
async def test_who_may_move_traffic_closes_and_deletes_the_lease_of_a_router_that_ended(
    guarded: Guarded, router: Router, name: str
) -> None:
    token = await other(guarded, name)
    words = {"metadata": {"annotations": {ANNOTATION_CONSUMER: CONSUMER_CLOSED}}}
    assert (await guarded.send("PATCH", router.path, words, token))[0] == 200
    assert (await guarded.send("DELETE", router.path, None, token))[0] == 200


async def test_wide_rights_are_not_enough_to_delete_a_lease(guarded: Guarded, router: Router) -> None:
    for name in ("alice", "a strategy"):
        for path in (router.path, LEASES.format(guarded.namespace)):
            status, message = await guarded.send("DELETE", path, None, await other(guarded, name))
            assert status == 403
            assert "traffic would no longer wait for this router" in message
    assert (await guarded.stored(router.path))["metadata"]["name"] == router.pod["metadata"]["uid"]


async def test_a_lease_is_opened_in_no_other_name(guarded: Guarded) -> None:
    victim = await guarded.pod("momentum-router")
    body = guarded.lease(victim["metadata"]["uid"])
    for name in (*OTHERS, "bob", "the operator"):
        token = await other(guarded, name)
        status, message = await guarded.send("POST", LEASES.format(guarded.namespace), body, token)
        assert (status, OPENS_ITS_OWN in message) == (403, True), name


@pytest.mark.parametrize("account", ["strategy", "reversion-router"])
async def test_a_pod_does_not_make_itself_a_router_of_a_rollout_it_does_not_serve(
    guarded: Guarded, account: str
) -> None:
    pod = await guarded.pod(account)
    body = guarded.lease(pod["metadata"]["uid"], "momentum")
    token = await guarded.token(account, pod)
    status, message = await guarded.send("POST", LEASES.format(guarded.namespace), body, token)
    assert (status, OPENS_ITS_OWN in message) == (403, True)


async def test_what_a_pod_with_a_routers_account_can_do_is_to_be_waited_for(guarded: Guarded, router: Router) -> None:
    """The limit of what admission can tell; docs/security.md says what follows from it."""
    forged = await guarded.pod("momentum-router")
    token = await guarded.token("momentum-router", forged)
    body = guarded.lease(forged["metadata"]["uid"])
    assert (await guarded.send("POST", LEASES.format(guarded.namespace), body, token))[0] == 201
    assert (await router.says(token, acked_epoch="17"))[0] == 403
    path = f"{LEASES.format(guarded.namespace)}/{forged['metadata']['uid']}"
    assert (await guarded.send("DELETE", path, None, await other(guarded, "bob")))[0] == 200


@pytest.mark.parametrize("uid", ["", "another"])
async def test_the_label_is_neither_removed_nor_changed(guarded: Guarded, router: Router, uid: str) -> None:
    words = {"metadata": {"labels": {LABEL_ROLLOUT_UID: uid or None}}}
    for token in (guarded.cluster.client_token("alice"), guarded.cluster.client_token("bob")):
        status, message = await guarded.send("PATCH", router.path, words, token)
        assert status == 403
        assert "cannot be added to Lease" in message
    stored = await guarded.stored(router.path)
    metadata = {**stored["metadata"], "labels": {LABEL_ROLLOUT_UID: uid} if uid else {}}
    status, _ = await guarded.send("PUT", router.path, {**stored, "metadata": metadata}, router.token)
    assert status == 403


async def test_a_lease_of_something_else_is_nobodys_business_and_never_becomes_a_routers(guarded: Guarded) -> None:
    pod = await guarded.pod("momentum-router")
    token, name = guarded.cluster.client_token("alice"), pod["metadata"]["uid"]
    plain = guarded.lease(name)
    label = plain["metadata"].pop("labels")[LABEL_ROLLOUT_UID]
    path = f"{LEASES.format(guarded.namespace)}/{name}"
    assert (await guarded.send("POST", LEASES.format(guarded.namespace), plain, token))[0] == 201
    words = {"metadata": {"annotations": {"any": "word"}}}
    assert (await guarded.send("PATCH", path, words, token))[0] == 200
    words = {"metadata": {"labels": {LABEL_ROLLOUT_UID: label}}}
    status, message = await guarded.send("PATCH", path, words, token)
    assert (status, "cannot be added to Lease" in message) == (403, True)
    stored = await guarded.stored(path)
    metadata = {**stored["metadata"], "labels": {LABEL_ROLLOUT_UID: label}}
    own = await guarded.token("momentum-router", pod)
    assert (await guarded.send("PUT", path, {**stored, "metadata": metadata}, own))[0] == 403
    assert (await guarded.send("DELETE", path, None, token))[0] == 200
