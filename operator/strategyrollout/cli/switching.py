"""What an override must do for `traffic.service`: routers follow the table by themselves, a Service follows nobody."""

from __future__ import annotations

from strategyrollout.cli.asking import Asking
from strategyrollout.cli.failure import Failed
from strategyrollout.cli.saying import Saying
from strategyrollout.cluster.cache import labels_of
from strategyrollout.cluster.client import NotFound
from strategyrollout.cluster.inputs import traffic_of
from strategyrollout.cluster.kinds import SERVICES
from strategyrollout.cluster.serving import Seen
from strategyrollout.core.build import Owner
from strategyrollout.traffic import service


async def switched(seen: Seen, asking: Asking, saying: Saying) -> None:
    """Lets the rollout's Service select what the table names. Nothing for other providers, or where it does already."""
    world = seen.world
    traffic = traffic_of(seen.rollout, world.spec)
    if traffic is None and world.stored is not None and world.stored.spec.header is None:
        raise Failed("spec.traffic cannot be read, so no Service is switched; the table is written", "mend it")
    if traffic is None or traffic.service is None or world.stored is None:
        return
    owner, name = Owner(world.namespace, world.name, world.uid), traffic.service.name
    wanted = service.service(owner, name, traffic.port, world.stored.spec)
    path = SERVICES.path(world.namespace, name)
    try:
        live = await asking.api.get(path)
    except NotFound:
        raise Failed(f"there is no Service {name}; the table is written", "the operator makes it again") from None
    if any(labels_of(live).get(label) != value for label, value in wanted["metadata"]["labels"].items()):
        raise Failed(f"Service {name} does not belong to this rollout; the table is written")
    if live["spec"].get("selector") == wanted["spec"]["selector"]:
        return
    await asking.api.merge(path, {"spec": {"selector": wanted["spec"]["selector"]}})
    saying.step(
        f"Service {name} selects the new revision; connections that are open stay where they are until they end"
    )
