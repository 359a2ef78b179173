"""What keeps a revision that was taken back from coming back by itself (rule 5): re-sync, labels, or time running out.

Each revision has its own entry; an image is barred as well where the revision reverted to does not have it.
"""

from collections.abc import Iterable

from strategyrollout.api.assignment import Cause, Quarantine, Record
from strategyrollout.api.meta import NOBODY
from strategyrollout.core.observed import Observed

QUARANTINING = frozenset(
    {"GateBreached", "NoData", "RollbackRequested", "RollbackPinned", "Override", "DeadlineExceeded"}
)
BLOCKING = QUARANTINING | {"Blind", "Repair"}


def is_blocked(world: Observed, record: Record) -> Quarantine | None:
    """The entry that keeps the target out: its own, as long as the spec asks for it; or one that shares an image."""
    target = world.target
    if target is None:
        return None
    for entry in record.quarantine:
        if entry.revision == target.hash or (entry.until > world.now and target.digests & set(entry.digests)):
            return entry
    return None


def pruned(world: Observed, entries: Iterable[Quarantine]) -> list[Quarantine]:
    """Without entries that have expired and are not what the spec asks for: expiry alone never starts anything."""
    target = world.target.hash if world.target else None
    return [q for q in entries if q.until > world.now or q.revision == target or target is None]


def barred(world: Observed, record: Record, entries: list[Quarantine]) -> list[Quarantine]:
    """With an entry of its own for a target kept out by an image it shares.

    So that the image's time running out does not start what had been refused meanwhile.
    """
    target = world.target
    if target is None or target.hash == record.stable or any(q.revision == target.hash for q in entries):
        return entries
    shared = next((q for q in entries if q.until > world.now and target.digests & set(q.digests)), None)
    if shared is None:
        return entries
    return [*entries, Quarantine(revision=target.hash, until=shared.until, reason=shared.reason)][-20:]


def entered(world: Observed, record: Record, away: str, to: str, cause: Cause) -> list[Quarantine]:
    """The entries once `away` has been left for `to`; only some causes keep it out."""
    kept = [q for q in pruned(world, record.quarantine) if q.revision != away]
    if cause.kind not in BLOCKING or away == NOBODY:
        return kept
    left, good = world.revisions.get(away), world.revisions.get(to)
    known_good = good.digests if good else frozenset()
    lasting = cause.kind in QUARANTINING and world.spec is not None
    until = world.now + (world.spec.on_revert.quarantine if lasting and world.spec else 0)
    digests = sorted((left.digests if left and lasting else frozenset()) - known_good)[:32]
    entry = Quarantine(revision=away, digests=digests, until=until, reason=cause.message)
    return [*kept, entry][-20:]
