"""How an assignment is enforced, one module a provider and one line each below.

A provider is pure: it says which objects must exist. Writing them is the same for all, and what a provider cannot
promise it declares in its `Guarantees`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.api.rollout import RolloutSpec, Traffic
from strategyrollout.core.build import Owner
from strategyrollout.traffic import haproxy, service
from strategyrollout.traffic.guarantees import Guarantees

Body = dict[str, Any]
ProviderName = Literal["haproxy", "service"]


@dataclass(frozen=True)
class Routed:
    """What a provider may know: the rollout, its spec and the assignment as it was read back."""

    owner: Owner
    spec: RolloutSpec
    assignment: AssignmentSpec
    router_image: str | None = None
    """For a first start; later the record's image counts, so that routers change with rollouts only."""


@dataclass(frozen=True)
class Provider:
    """One way to enforce an assignment."""

    keeps: Guarantees
    objects: Callable[[Routed], list[Body]]
    """Everything that must exist, in the order in which it must be made. Raises ValueError with the field's path."""


def _haproxy(routed: Routed) -> list[Body]:
    wanted, image = routed.spec.traffic.haproxy, routed.assignment.record.router_image or routed.router_image
    if wanted is None or routed.assignment.header is None:
        return []
    if image is None:
        raise ValueError("traffic.haproxy needs a router image; start the operator with one")
    return haproxy.objects(
        haproxy.Routers(
            owner=routed.owner,
            image=image,
            replicas=wanted.replicas,
            port_name=routed.spec.traffic.port,
            header=routed.assignment.header,
            salt=routed.assignment.salt,
            drain=routed.assignment.drain,
        )
    )


def _service(routed: Routed) -> list[Body]:
    wanted, port = routed.spec.traffic.service, routed.spec.traffic.port
    return [] if wanted is None else [service.service(routed.owner, wanted.name, port, routed.assignment)]


PROVIDERS: Final[Mapping[ProviderName, Provider]] = {
    "haproxy": Provider(haproxy.KEEPS, _haproxy),
    "service": Provider(service.KEEPS, _service),
}


def provider_name(traffic: Traffic) -> ProviderName:
    """Which provider a rollout uses; the schema lets it have exactly one."""
    return "haproxy" if traffic.haproxy is not None else "service"


def provider_of(traffic: Traffic) -> Provider:
    """The provider a rollout uses."""
    return PROVIDERS[provider_name(traffic)]
