"""Whether the Service leads where the table says. It follows by a write of its own, a moment later or not at all."""

from strategyrollout.api.meta import NOBODY
from strategyrollout.core.observed import Observed


def unselected(world: Observed) -> str | None:
    """The revision that has everything by the table and is not what the Service selects; None where that agrees."""
    if world.service_selects is None or world.stored is None:
        return None
    served = {(r.owner, r.next) for r in world.stored.spec.ranges}
    owner, moving = served.pop() if len(served) == 1 else (NOBODY, None)
    return owner if moving is None and owner not in (NOBODY, world.service_selects) else None
