"""Rules about the versions of the table alone: what may follow what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from strategyrollout.api.assignment import AssignmentSpec, Cause
from strategyrollout.api.meta import BUCKETS, NOBODY
from tests.history.records import Version, Violation

QUARANTINING = {
    *("GateBreached", "NoData", "RollbackRequested", "RollbackPinned", "DeadlineExceeded", "Blind", "Override"),
}


@dataclass(frozen=True)
class Facts:
    """What the rules of this module look at."""

    versions: list[Version]
    flips: bool = False
    shares: frozenset[int] = frozenset()
    wishes: list[tuple[int, str]] = field(default_factory=list)
    retries: list[int] = field(default_factory=list)


def broken(facts: Facts) -> Iterator[Violation]:
    """Every violation."""
    for rule in (epochs_grow, tokens_grow, whole_table, owner_through_freeze, reverted_stays, superset, no_jump):
        yield from rule(facts)


def _cuts(versions: list[Version]) -> list[int]:
    """One bucket of every stretch that no table divides: enough to know all of them."""
    return sorted({0} | {b for v in versions for r in v.spec.ranges for b in (r.start, r.end + 1) if b < BUCKETS})


def epochs_grow(facts: Facts) -> Iterator[Violation]:
    """Whatever the operator writes is above everything that has ever been written."""
    highest = -1
    for v in facts.versions:
        if not v.foreign and v.spec.epoch <= highest:
            yield Violation("epochs-grow", f"epoch {v.spec.epoch} follows {highest}", (v,))
        highest = max(highest, v.spec.epoch)


def tokens_grow(facts: Facts) -> Iterator[Violation]:
    """A thawed range's token never falls, is new for a new owner, and is never granted to two."""
    for bucket in _cuts(facts.versions):
        owner, token = NOBODY, -1
        for v in facts.versions:
            r = v.at_bucket(bucket)
            if v.foreign or r is None or r.next is not None or r.owner == NOBODY:
                continue
            if r.token < token or (r.owner != owner and r.token == token):
                message = f"bucket {bucket}: token {r.token} of {r.owner} follows {token} of {owner}"
                yield Violation("tokens-grow", message, (v,))
            owner, token = r.owner, r.token
    for v in facts.versions:
        late = [r for r in v.spec.ranges if r.token > v.spec.epoch]
        if late:
            yield Violation("tokens-grow", f"token {late[0].token} in a table of epoch {v.spec.epoch}", (v,))


def whole_table(facts: Facts) -> Iterator[Violation]:
    """No bucket is listed twice."""
    for v in facts.versions:
        ordered = sorted(v.spec.ranges, key=lambda r: r.start)
        if any(a.end >= b.start for a, b in pairwise(ordered)):
            yield Violation("whole-table", f"ranges of epoch {v.spec.epoch} overlap", (v,))


def owner_through_freeze(facts: Facts) -> Iterator[Violation]:
    """An owner that served is only replaced by the one its frozen range was on its way to."""
    for before, after in pairwise(facts.versions):
        if after.foreign or facts.flips or before.spec.drain == 0:
            continue
        if before.foreign and (after.spec.cause.kind != "Repair" or _ends(before, after)):
            continue  # nothing that is known told that it was old
        if before.foreign or after.after_loss:
            thawed = [r for r in after.spec.ranges if r.next is None and r.owner != NOBODY]
            if thawed:
                yield Violation("owner-through-freeze", "a repair serves before everybody has let go", (after,))
            continue
        if after.spec.record.revert is not None and after.spec.cause.kind == "Repair":
            continue
        for bucket in _cuts([before, after]):
            old, new = before.at_bucket(bucket), after.at_bucket(bucket)
            if old is None or old.owner == NOBODY:
                continue
            if new is None or new.owner not in (old.owner, old.next):
                told = f"bucket {bucket}: {old.owner} is replaced by {new.owner if new else NOBODY} without a Freeze"
                yield Violation("owner-through-freeze", told, (before, after))
                break


def _ends(before: Version, after: Version) -> bool:
    """Whether it is the end of that very repair, and no other one."""
    a, b = before.spec.record.revert, after.spec.record.revert
    return before.spec.cause.kind == "Repair" and a is not None and b is not None and a.id == b.id


def reverted_stays(facts: Facts) -> Iterator[Violation]:
    """A reverted attempt never returns, its revision gets no share, and it is not tried again unasked."""
    taken: dict[str, str] = {}  # attempt id -> revision
    latched: dict[str, tuple[Cause, int]] = {}  # revision -> (cause, until when only a retry lets it back)
    for before, after in pairwise([None, *facts.versions]):
        assert after is not None
        if after.foreign:
            continue
        record, at = after.spec.record, after.at
        attempt = record.attempt
        if attempt is not None and attempt.id in taken:
            yield Violation("reverted-stays-reverted", f"attempt {attempt.id} is back", (after,))
            taken.pop(attempt.id)
        if attempt is not None and attempt.revision in latched:
            cause, until = latched.pop(attempt.revision)
            if cause.kind in QUARANTINING and not _asked_again(facts, attempt.revision, cause.at, until, at):
                told = f"{attempt.revision} is tried again, and nobody asked for it after {cause.kind}"
                yield Violation("reverted-stays-reverted", told, (after,))
        for trusted in {record.stable, record.revert.to if record.revert else None} & set(latched):
            latched.pop(str(trusted))
        for revision in latched:
            had, has = (_share(v.spec, revision) if v else 0 for v in (before, after))
            if has > had and before is not None and not before.foreign:
                told = f"the share of {revision} rises from {had} to {has} after it was taken back"
                yield Violation("reverted-stays-reverted", told, (before, after))
        if record.revert is not None and record.revert.to != record.revert.away:
            taken.setdefault(record.revert.id, record.revert.away)
            if attempt is None or attempt.revision != record.revert.away:
                until = max((q.until for q in record.quarantine if q.revision == record.revert.away), default=0)
                latched.setdefault(record.revert.away, (record.revert.cause, until))
                latched.pop(record.revert.to, None)


def _asked_again(facts: Facts, revision: str, since: int, until: int, at: int) -> bool:
    """By a retry, or by being applied anew (not still) once its quarantine is over."""
    if any(since <= retry <= at for retry in facts.retries):
        return True
    return at >= until and any(since <= when <= at and wish == revision for when, wish in facts.wishes)


def _share(spec: AssignmentSpec, revision: str) -> int:
    """Buckets it owns or is about to own."""
    return sum(r.end - r.start + 1 for r in spec.ranges if revision in (r.owner if r.next is None else None, r.next))


def superset(facts: Facts) -> Iterator[Violation]:
    """While an attempt lasts its revision never loses a bucket, not even for a moment."""
    for before, after in pairwise(facts.versions):
        a, b = before.spec.record, after.spec.record
        if a.attempt is None or after.foreign or before.foreign or after.after_loss:
            continue
        goes_on = b.attempt is not None and b.attempt.id == a.attempt.id
        if not goes_on and b.stable != a.attempt.revision:
            continue
        for bucket in _cuts([before, after]):
            old, new = before.at_bucket(bucket), after.at_bucket(bucket)
            if old is None or old.owner != a.attempt.revision:
                continue
            if new is None or new.owner != a.attempt.revision or new.next is not None:
                told = f"bucket {bucket} leaves {a.attempt.revision} in the middle of its attempt"
                yield Violation("superset-on-increase", told, (before, after))
                break


def no_jump(facts: Facts) -> Iterator[Violation]:
    """Shares of an attempt, granted or on their way, are ones that a step names."""
    if not facts.shares:
        return
    for v in facts.versions:
        attempt = v.spec.record.attempt
        if attempt is None or v.foreign:
            continue
        sizes = [(r, r.end - r.start + 1) for r in v.spec.ranges]
        owned = sum(n for r, n in sizes if r.owner == attempt.revision)
        coming = sum(n for r, n in sizes if r.next == attempt.revision)
        for share in {owned, owned + coming} - facts.shares:
            yield Violation("no-jump", f"{attempt.revision} has {share} basis points, which no step names", (v,))
