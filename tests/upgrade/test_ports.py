"""`spec.traffic.port` changes with a version: the revision before it keeps the port that its pods have."""

from __future__ import annotations

import pytest

from strategyrollout.api.assignment import AssignmentSpec, Cause, Range
from strategyrollout.api.rollout import Traffic
from strategyrollout.core.build import ROUTED_PORT, children, target_port
from strategyrollout.core.revision import Content, content_from, identified
from strategyrollout.traffic import providers
from tests.upgrade.golden import CONTENT, IMAGE, OWNER, SALT, TRAFFIC

NEW = Content("3.0.0", CONTENT.template)
OLD = content_from(children(OWNER, identified(CONTENT), CONTENT, port="orders").record)
BLUE, GREEN = "b" * 10, "a" * 10


def test_the_service_of_a_revision_keeps_the_port_its_pods_have() -> None:
    assert OLD is not None
    before = children(OWNER, identified(OLD), OLD, port="trades").service["spec"]["ports"]
    after = children(OWNER, identified(NEW), NEW, port="trades").service["spec"]["ports"]
    assert [port["targetPort"] for port in (*before, *after)] == ["orders", "trades"]
    assert {port["name"] for port in (*before, *after)} == {ROUTED_PORT}


def test_routers_of_any_age_find_revisions_and_are_found_by_the_same_names() -> None:
    another = TRAFFIC.model_copy(update={"port": "trades"})
    for kept in (
        providers.next_routers(OWNER, TRAFFIC, SALT, IMAGE),
        providers.next_routers(OWNER, another, SALT, IMAGE),
    ):
        agent, proxy = kept[-1]["spec"]["template"]["spec"]["containers"]
        assert {"name": "PORT_NAME", "value": ROUTED_PORT} in agent["env"]
        assert ROUTED_PORT in {port["name"] for port in proxy["ports"]}
        services = [body["spec"] for body in kept if body["kind"] == "Service"]
        assert {service["ports"][0]["targetPort"] for service in services} == {ROUTED_PORT}


@pytest.mark.parametrize(("served", "port"), [(BLUE, "orders"), (GREEN, "trades")])
def test_a_switched_service_leads_to_the_port_of_who_is_served(served: str, port: str) -> None:
    traffic = Traffic.model_validate({"service": {"name": "momentum-orders"}, "port": "trades"})
    table = AssignmentSpec(
        epoch=1,
        rollout_uid="u",
        salt="u",
        drain=0,
        lease=10_000,
        ranges=[Range(start=0, end=9_999, owner=served, token=1)],
        cause=Cause(kind="Initial", at=1),
    )
    ports = {BLUE: target_port(OLD, traffic.port), GREEN: target_port(NEW, traffic.port)}
    bodies = providers.objects(OWNER, traffic, table, ports=ports)
    assert isinstance(bodies, list)
    assert bodies[0]["spec"]["ports"][0]["targetPort"] == port
