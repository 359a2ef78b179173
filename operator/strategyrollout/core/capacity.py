"""How many pods each revision should have, and which revisions may be forgotten.

Everything here follows the assignment that was read back: a side is not scaled down before the table without it is
stored, and never while it owns a bucket. Growing needs no such care.
"""

from strategyrollout.api.assignment import Record
from strategyrollout.core.advance import Trial, wanted_replicas
from strategyrollout.core.buckets import owners
from strategyrollout.core.observed import Observed
from strategyrollout.core.revert import running


def replicas(world: Observed, trial: Trial | None) -> dict[str, int]:
    """Revision -> pods. Without a readable spec nothing is scaled, but for what a revert needs."""
    spec, stored = world.spec, world.stored
    if stored is None:
        return {}
    record = stored.spec.record
    if spec is None:
        return _as_many(world, record)
    full = owners(stored.spec.ranges) | _trusted(record)
    wanted = dict.fromkeys(sorted(full & _known(world)), spec.replicas)
    if trial is not None and trial.attempt.revision in _known(world):
        fewer = wanted_replicas(world, trial)
        wanted[trial.attempt.revision] = max(fewer, wanted.get(trial.attempt.revision, 0))
    if running(record):
        return wanted  # until everybody has let go, also of tables that were lost, any side may still be serving
    for revision in world.workloads:
        # An owner that is not known (somebody deleted its record) cannot be built, and must not be taken away either.
        if revision not in wanted and revision not in full and not _is_kept(world, record, revision):
            wanted[revision] = 0
    return wanted


def _as_many(world: Observed, record: Record) -> dict[str, int]:
    """As many pods for the target of a revert as any other side has: how many there should be cannot be read."""
    most = max((w.desired for w in world.workloads.values()), default=0)
    to = record.revert.to if record.revert is not None and running(record) else None
    return {to: most} if to in _known(world) and most else {}


def _known(world: Observed) -> set[str]:
    target = {world.target.hash} if world.target else set()
    return set(world.revisions) | target


def _trusted(record: Record) -> set[str]:
    going = {record.revert.to} if record.revert and record.revert.served_at is None else set()
    return ({record.stable} if record.stable else set()) | going


def _kept_until(world: Observed, record: Record) -> int | None:
    """When the pods of the reverted revision go (ms); None: they stay."""
    revert, spec = record.revert, world.spec
    if revert is None or revert.served_at is None or spec is None:
        return None
    if spec.traffic.service is not None:  # established connections outlive the switch; only ending the pods ends them
        return revert.served_at + spec.traffic.drain
    return revert.served_at + spec.on_revert.keep if spec.on_revert.keep else None


def _is_kept(world: Observed, record: Record, revision: str) -> bool:
    if record.revert is None or record.revert.away != revision:
        return False
    until = _kept_until(world, record)
    return until is None or world.now < until


def removable(world: Observed) -> frozenset[str]:
    """Revisions beyond the history limit that nothing refers to and that run no pods."""
    spec, stored = world.spec, world.stored
    if spec is None or stored is None:
        return frozenset()
    record = stored.spec.record
    keep = owners(stored.spec.ranges) | _trusted(record) | {q.revision for q in record.quarantine}
    keep |= set(record.history[-spec.revision_history_limit - 1 :])
    keep |= {record.attempt.revision} if record.attempt else set()
    keep |= {record.revert.away, record.revert.to} if record.revert else set()
    keep |= {world.target.hash} if world.target else set()
    idle = {h for h in world.revisions if h not in world.workloads or world.workloads[h].replicas == 0}
    return frozenset(idle - keep)


def look_again(world: Observed) -> int | None:
    """When the pods of the reverted revision are due to go."""
    if world.stored is None:
        return None
    until = _kept_until(world, world.stored.spec.record)
    return until if until is not None and until > world.now else None
