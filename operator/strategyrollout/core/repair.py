"""When the table is gone or went back in time: nothing in it is believed, and everybody must confirm a new one.

Apart from the revert, because it is the one move whose starting point is not known: whoever serves what, by whichever
table, everything is frozen towards the last good revision and no router is timed out.
"""

from strategyrollout.api.assignment import AssignmentSpec, Cause, Quarantine, Record, Revert
from strategyrollout.api.meta import BUCKETS, NOBODY
from strategyrollout.core.buckets import filled
from strategyrollout.core.moves import written
from strategyrollout.core.observed import Observed, Stored
from strategyrollout.core.requests import all_answered, asked_cause, override_asked, without_retries


def repaired(world: Observed, stored: Stored | None, seen: int) -> AssignmentSpec:
    """The table when the stored one is gone or went back in time: everything frozen towards the last good revision.

    `seen` is the highest epoch known from anywhere. Nothing is timed out, nothing is leased, the target stays latched.
    """
    base = stored.spec if stored else first_table(world)
    good = world.status.stable or base.record.stable or NOBODY
    cause = Cause(kind="Repair", message="the assignment was lost or went back in time", at=world.now)
    barred = []
    override = override_asked(world)
    if override is not None:  # whoever may move traffic by override alone may not write anything else
        good, cause = override[1], asked_cause(world, override[0])
        left = sorted(set(world.revisions) - {good})  # what served is not known, so nothing there is comes by itself
        barred = [Quarantine(revision=name, until=world.now, reason=cause.message) for name in left][-19:]
    if world.target is not None and world.target.hash != good:
        barred += [Quarantine(revision=world.target.hash, until=world.now, reason=cause.message)]
    revert = Revert(
        id=world.attempt_id, away=NOBODY, to=good, cause=cause, weight=BUCKETS, timeout=False, lease=base.lease
    )
    record = Record(
        stable=None if good == NOBODY else good,
        history=[] if good == NOBODY else [good],
        revert=revert,
        quarantine=barred,
        handled=base.record.handled,
        objects=base.record.objects,
        router_image=base.record.router_image,
        routers=base.record.routers,
    )
    record = all_answered(world, record) if override is not None else without_retries(world, record)
    ranges = [r.model_copy(update={"owner": good, "next": good, "leased": False}) for r in filled([])]
    return written(
        base.model_copy(update={"epoch": max(base.epoch, seen)}), world.now, ranges=ranges, record=record, cause=cause
    )


def first_table(world: Observed) -> AssignmentSpec:
    """An empty table: nobody owns anything yet."""
    traffic = world.spec.traffic if world.spec else None
    return AssignmentSpec(
        epoch=world.now,
        rollout_uid=world.uid,
        salt=world.uid,
        header=traffic.unit.header if traffic and traffic.unit else None,
        drain=traffic.drain if traffic else 0,
        lease=traffic.lease.rollout if traffic else 10_000,
        cause=Cause(kind="Started", message="created", at=world.now),
        record=Record(router_image=world.router_image),
    )


def knows_more(world: Observed, epoch: int) -> int | None:
    """The highest epoch seen anywhere if it is above `epoch`: then the object went back in time or was lost."""
    acked = [c.acked for c in world.consumers.open] if world.consumers else []
    seen = max([world.status.epoch, *acked], default=0)
    return seen if seen > epoch else None
