"""Which objects carry a rollout's traffic: one line at the end for each provider.

A provider is pure: it says which objects must exist, and writing them is the same for all. What it cannot promise it
declares in `keeps`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.api.conditions import Reason
from strategyrollout.api.rollout import Traffic
from strategyrollout.core.build import Owner
from strategyrollout.core.observed import Problem
from strategyrollout.traffic import haproxy, service
from strategyrollout.traffic.guarantees import Guarantees
from strategyrollout.traffic.haproxy import Body, Routers

_build = lru_cache(maxsize=4_096)(haproxy.objects)  # the same routers, pass after pass


def objects(owner: Owner, traffic: Traffic, table: AssignmentSpec) -> list[Body] | Problem:
    """Everything that the rollout's provider needs to exist, or what a person must mend first."""
    for field, provider in PROVIDERS.items():
        if getattr(traffic, field) is not None:
            return provider.objects(owner, traffic, table)
    return Problem(Reason.INVALID_SPEC, "set exactly one of traffic.haproxy and traffic.service", "spec.traffic")


def _haproxy(owner: Owner, traffic: Traffic, table: AssignmentSpec) -> list[Body] | Problem:
    assert traffic.haproxy is not None
    image = table.record.router_image
    if not image:
        text = "the operator knows no image for routers; set STRATEGYROLLOUT_ROUTER_IMAGE on it and apply a new version"
        return Problem(Reason.MISSING_INPUT, text, "spec.traffic.haproxy")
    if table.header is None:
        return Problem(Reason.INVALID_SPEC, "set the header that carries the unit", "spec.traffic.unit.header")
    try:
        return _build(
            Routers(
                owner=owner,
                image=image,
                replicas=traffic.haproxy.replicas,
                port_name=traffic.port,
                header=table.header,
                salt=table.salt,
                drain=table.drain,
            )
        )
    except ValueError as error:
        return Problem(Reason.INVALID_SPEC, str(error), "spec.traffic")


def _service(owner: Owner, traffic: Traffic, table: AssignmentSpec) -> list[Body] | Problem:
    assert traffic.service is not None
    return [service.service(owner, traffic.service.name, traffic.port, table)]


@dataclass(frozen=True)
class Provider:
    """One way to enforce an assignment."""

    keeps: Guarantees
    objects: Callable[[Owner, Traffic, AssignmentSpec], list[Body] | Problem]
    """Everything that must exist, in the order in which it must be made."""


PROVIDERS: Final[Mapping[str, Provider]] = {
    "haproxy": Provider(haproxy.KEEPS, _haproxy),
    "service": Provider(service.KEEPS, _service),
}
"""By the name of the field in `spec.traffic`."""
