"""Which objects carry a rollout's traffic: one line at the end for each provider.

A provider is pure: it says which objects must exist, and writing them is the same for all. What it cannot promise it
declares in `keeps`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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

_RECENT = 128  # what a few passes in a row ask for; not every rollout's, which would be most of the operator's memory
_build = lru_cache(maxsize=_RECENT)(haproxy.objects)  # the same routers, pass after pass
_identity = lru_cache(maxsize=_RECENT)(haproxy.identity)
_KEPT = {"ConfigMap", "Service", "StatefulSet"}


@dataclass(frozen=True)
class Carrier:
    """What the objects of a rollout's traffic depend on."""

    owner: Owner
    traffic: Traffic
    table: AssignmentSpec
    ports: Mapping[str, str] = field(default_factory=dict)
    """Revision -> the container port that takes its requests, where it is not that of `traffic`."""


def objects(
    owner: Owner,
    traffic: Traffic,
    table: AssignmentSpec,
    *,
    ports: Mapping[str, str] | None = None,
    kept: Sequence[Body] | None = None,
) -> list[Body] | Problem:
    """Everything that the rollout's provider needs to exist, or what a person must mend first.

    `kept`: the routers as they were made when the attempt started (`next_routers`); without, as they would be made now.
    """
    for name, provider in PROVIDERS.items():
        if getattr(traffic, name) is not None:
            if kept is not None and traffic.haproxy is not None:
                return [*_identity(owner), *haproxy.with_replicas(kept, traffic.haproxy.replicas)]
            return provider.objects(Carrier(owner, traffic, table, ports or {}))
    return Problem(Reason.INVALID_SPEC, "set exactly one of traffic.haproxy and traffic.service", "spec.traffic")


@lru_cache(maxsize=_RECENT)
def next_routers(owner: Owner, traffic: Traffic, salt: str, image: str) -> tuple[Body, ...]:
    """What a new attempt keeps of its routers: all that decides how they run and who reaches them.

    Not their permissions: those are today's, because it is today's cluster that asks for them. Empty where there are
    no routers, or none can be made, which `objects` tells.
    """
    if traffic.haproxy is None or traffic.unit is None:
        return ()
    try:
        bodies = haproxy.objects(
            _routers(owner, traffic, image=image, header=traffic.unit.header, salt=salt, drain=traffic.drain)
        )
    except ValueError:
        return ()
    kept = [body for body in bodies if body["kind"] in _KEPT]
    return tuple(haproxy.without_replicas(kept))


def _routers(owner: Owner, traffic: Traffic, *, image: str, header: str, salt: str, drain: int) -> Routers:
    assert traffic.haproxy is not None
    return Routers(
        owner=owner,
        image=image,
        replicas=traffic.haproxy.replicas,
        port_name=traffic.port,
        header=header,
        salt=salt,
        drain=drain,
    )


def _haproxy(carrier: Carrier) -> list[Body] | Problem:
    table, image = carrier.table, carrier.table.record.router_image
    if not image:
        text = "the operator knows no image for routers; set STRATEGYROLLOUT_ROUTER_IMAGE on it and apply a new version"
        return Problem(Reason.MISSING_INPUT, text, "spec.traffic.haproxy", lasting=False)
    if table.header is None:
        return Problem(Reason.INVALID_SPEC, "set the header that carries the unit", "spec.traffic.unit.header")
    try:
        facts = {"header": table.header, "salt": table.salt}
        return _build(_routers(carrier.owner, carrier.traffic, image=image, drain=table.drain, **facts))
    except ValueError as error:
        return Problem(Reason.INVALID_SPEC, str(error), "spec.traffic")


def _service(carrier: Carrier) -> list[Body] | Problem:
    traffic, table = carrier.traffic, carrier.table
    assert traffic.service is not None
    port = carrier.ports.get(service.served(table.ranges), traffic.port)
    return [service.service(carrier.owner, traffic.service.name, traffic.port, table, target=port)]


@dataclass(frozen=True)
class Provider:
    """One way to enforce an assignment."""

    keeps: Guarantees
    objects: Callable[[Carrier], list[Body] | Problem]
    """Everything that must exist, in the order in which it must be made."""


PROVIDERS: Final[Mapping[str, Provider]] = {
    "haproxy": Provider(haproxy.KEEPS, _haproxy),
    "service": Provider(service.KEEPS, _service),
}
"""By the name of the field in `spec.traffic`."""
