"""Provider `service`: one Service that follows the assignment."""

from typing import Any

import pytest

from strategyrollout.api.assignment import AssignmentSpec, Cause, Range
from strategyrollout.api.meta import BUCKETS
from strategyrollout.api.rollout import RolloutSpec
from strategyrollout.cluster.apply import Applier
from strategyrollout.cluster.kinds import SERVICES
from strategyrollout.core.build import Owner
from strategyrollout.core.observed import Problem
from strategyrollout.ports import Unavailable
from strategyrollout.traffic import providers
from strategyrollout.traffic.service import served, service
from tests.hands.conftest import World, pod_template, rollout

BLUE, GREEN = "b" * 10, "a" * 10


def part(start: int, end: int, owner: str, after: str | None = None) -> Range:
    return Range(start=start, end=end, owner=owner, next=after, token=1)


WHOLE = BUCKETS - 1
SERVED = [
    ("one owner", [part(0, WHOLE, BLUE)], BLUE),
    ("frozen on its way", [part(0, WHOLE, BLUE, GREEN)], "nobody"),
    ("frozen towards its owner", [part(0, WHOLE, BLUE, BLUE)], BLUE),
    ("in several ranges", [part(0, 99, BLUE), part(100, WHOLE, BLUE)], BLUE),
    ("of several the largest", [part(0, 99, BLUE), part(100, WHOLE, GREEN)], GREEN),
    ("nobody", [part(0, WHOLE, "nobody")], "nobody"),
    ("no table yet", [], "nobody"),
]


@pytest.mark.parametrize(("case", "ranges", "revision"), SERVED, ids=[s[0] for s in SERVED])
def test_the_service_leads_to_the_owner_of_the_ranges(case: str, ranges: list[Range], revision: str) -> None:
    assert served(ranges) == revision, case


def table(revision: str) -> AssignmentSpec:
    return AssignmentSpec(
        epoch=1,
        rollout_uid="u",
        salt="u",
        drain=0,
        lease=10_000,
        ranges=[part(0, WHOLE, revision)],
        cause=Cause(kind="Initial", at=1),
    )


def test_the_registry_names_what_each_provider_keeps() -> None:
    spec = RolloutSpec.model_validate(rollout("momentum", "desk-a", pod_template())["spec"])
    assert not providers.PROVIDERS["service"].keeps.acknowledged
    bodies = providers.objects(Owner("desk-a", "momentum", "u"), spec.traffic, table(BLUE))
    assert isinstance(bodies, list)
    assert [body["metadata"]["name"] for body in bodies] == ["momentum-orders"]
    assert providers.PROVIDERS["haproxy"].keeps.acknowledged


def test_haproxy_without_an_image_says_what_to_do() -> None:
    manifest: dict[str, Any] = rollout("momentum", "desk-a", pod_template())["spec"]
    manifest["traffic"] = {"haproxy": {"replicas": 3}, "unit": {"header": "X-Account-Id"}}
    traffic = RolloutSpec.model_validate(manifest).traffic
    owner = Owner("desk-a", "momentum", "u")
    assignment = table(BLUE).model_copy(update={"header": "X-Account-Id"})
    problem = providers.objects(owner, traffic, assignment)
    assert isinstance(problem, Problem)
    assert "STRATEGYROLLOUT_ROUTER_IMAGE" in problem.message
    record = assignment.record.model_copy(update={"router_image": "registry.example/router@sha256:" + "0" * 64})
    bodies = providers.objects(owner, traffic, assignment.model_copy(update={"record": record}))
    assert isinstance(bodies, list)
    assert "StatefulSet" in {body["kind"] for body in bodies}


@pytest.mark.cluster
async def test_the_service_is_made_and_switched(world: World) -> None:
    owner = await world.make()
    for revision in (BLUE, GREEN, "nobody"):
        assert await world.applier.objects(owner, [service(owner, "orders", "orders", table(revision))]) == ()
        spec = (await world.get(SERVICES, "orders"))["spec"]
        assert spec["selector"] == {"strategyrollout.io/rollout": "momentum", "strategyrollout.io/revision": revision}
        assert spec["clusterIP"]
    before = world.requests()
    assert await world.applier.objects(owner, [service(owner, "orders", "orders", table("nobody"))]) == ()
    assert world.requests() == before


@pytest.mark.cluster
async def test_a_selector_changed_by_hand_is_mended(world: World) -> None:
    owner = await world.make()
    wanted = service(owner, "orders", "orders", table(BLUE))
    await world.applier.objects(owner, [wanted])
    path = SERVICES.path(world.namespace, "orders")
    await world.api.merge(path, {"spec": {"selector": {"app": "mine"}}})
    await world.see(SERVICES, "orders")
    await world.applier.objects(owner, [wanted])
    assert (await world.get(SERVICES, "orders"))["spec"]["selector"] == wanted["spec"]["selector"]


@pytest.mark.cluster
async def test_a_service_of_somebody_else_is_refused_with_its_name_and_a_remedy(world: World) -> None:
    owner = await world.make()
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders"}, "spec": {"ports": [{"port": 1}]}}
    await world.api.create(SERVICES.path(world.namespace), body)
    (problem,) = await world.applier.objects(owner, [service(owner, "orders", "orders", table(BLUE))])
    assert (problem.reason, problem.path) == ("NotOwned", "spec.traffic.service.name")
    assert "Service orders exists and belongs to no StrategyRollout; delete or rename it" in problem.message
    assert "selector" not in (await world.get(SERVICES, "orders"))["spec"]


@pytest.mark.cluster
async def test_a_writer_that_looked_at_an_old_state_writes_nothing(world: World) -> None:
    owner = await world.make()
    await world.applier.objects(owner, [service(owner, "orders", "orders", table(BLUE))])
    stale = Applier(world.api, world.cache)
    await world.api.merge(SERVICES.path(world.namespace, "orders"), {"metadata": {"labels": {"x": "y"}}})
    with pytest.raises(Unavailable, match="changed at the same moment"):
        await stale.objects(owner, [service(owner, "orders", "orders", table(GREEN))])
    assert (await world.get(SERVICES, "orders"))["spec"]["selector"]["strategyrollout.io/revision"] == BLUE
