"""Freeze, acknowledge, drain, grant: the protocol of DESIGN 5 as functions of the stored table and the open Leases.

    Freeze  the moving ranges get `next`; nobody is admitted to them any more
    acks    every open Lease says it enforces exactly that epoch, or may be timed out (reverts of unpromoted candidates)
    drain   whatever was admitted before has left
    Grant   owner = next, new token, thawed

The model that was checked is in the design's research; the names of its wrong variants are the names of our tests.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from strategyrollout.api.assignment import AssignmentSpec, Cause, Range, Record
from strategyrollout.core.buckets import filled, is_frozen, marked, merged, moving
from strategyrollout.core.observed import Consumer, Consumers, Stored

TIMEOUT_MARGIN_MS = 500


def next_epoch(epoch: int, now: int) -> int:
    """Epochs only grow, also across a deletion of the object: never below the clock."""
    return max(epoch + 1, now)


def written(
    stored: AssignmentSpec, now: int, *, ranges: Iterable[Range], record: Record, cause: Cause, lease: int | None = None
) -> AssignmentSpec:
    """The table to write after `stored`. `frozen_at` starts with the write that freezes and ends with the thaw."""
    table = merged(ranges)
    frozen_at = now if is_frozen(table) else None
    return stored.model_copy(
        update={
            "epoch": next_epoch(stored.epoch, now),
            "ranges": table,
            "cause": cause,
            "lease": stored.lease if lease is None else lease,
            "record": record.model_copy(update={"frozen_at": frozen_at}),
        }
    )


def frozen_towards(ranges: Iterable[Range], moves: Mapping[str, Iterable[tuple[int, int]]]) -> list[Range]:
    """The table with `next` set on the moving buckets."""
    table = list(ranges)
    for owner, spans in moves.items():
        table = marked(table, spans, lambda r, to=owner: r.model_copy(update={"next": to}))  # type: ignore[misc]
    return table


def granted(ranges: Iterable[Range], epoch: int, leased: frozenset[str]) -> list[Range]:
    """Every frozen range at its new owner, thawed, under a new token."""
    return [
        Range(start=r.start, end=r.end, owner=r.next, token=epoch, leased=r.next in leased) if r.next else r
        for r in ranges
    ]


def thawed(ranges: Iterable[Range]) -> list[Range]:
    """Every frozen range back with the owner it had; nothing was granted, so no new token is needed."""
    return [r.model_copy(update={"next": None}) for r in ranges]


def raised(stored: AssignmentSpec, candidate: str, share: int, stable: str | None) -> list[Range]:
    """The table with what the candidate lacks for `share` frozen on its way to it."""
    shares = {candidate: share}
    if stable and share == 10_000:
        shares[stable] = 0
    elif stable:
        shares[stable] = 10_000 - share
    moves = moving(stored.ranges, shares, stable)
    return frozen_towards(stored.ranges, {candidate: moves.get(candidate, [])})


def taken_back(ranges: Iterable[Range], away: str, to: str) -> list[Range]:
    """A revert's first write: everything `away` owns is frozen towards `to`, and what was never granted is thawed."""
    out = []
    for r in ranges:
        if r.owner == away:
            out.append(r.model_copy(update={"next": to}))
        elif r.next:
            out.append(r.model_copy(update={"next": None}))
        else:
            out.append(r)
    return out


def taken_over(ranges: Iterable[Range], to: str, *, thaw: bool) -> list[Range]:
    """An override's first write: whatever is not `to`'s is frozen towards it, from wherever it was on its way.

    `thaw`: what is frozen and owned by `to` was never granted to anybody else. In the middle of a revert that is not
    known of anything (a repair freezes all there is), so there everything frozen stays so.
    """
    return [
        r.model_copy(update={"next": None if r.owner == to and (thaw or r.next is None) else to})
        for r in filled(ranges)
    ]


@dataclass(frozen=True)
class Barrier:
    """How far a Freeze is."""

    complete: bool
    """All acked or timed out, and drained: the Grant may be written."""
    stopped_at: int | None
    """When the last consumer acked or was timed out; None while one is missing."""
    waiting: tuple[Consumer, ...]
    due: int | None
    """When to look again if nothing happens before."""


def barrier(stored: Stored, consumers: Consumers | None, now: int, *, timeout: int | None) -> Barrier:
    """Judge the Freeze in force. `timeout` is the longest right a silent consumer may hold (ms), None: wait for ever.

    The LIST must be younger than the Freeze; a consumer counts only by an ack of exactly this epoch. The time-out runs
    on this process's own clock from the moment its write returned, so a restart starts it again.
    """
    spec = stored.spec
    written_at = stored.freeze_written_at if stored.freeze_written_at is not None else now
    if consumers is None or consumers.listed_at < written_at:
        return Barrier(False, None, (), now)
    silent = tuple(c for c in consumers.open if c.acked != spec.epoch)
    acked = [c for c in consumers.open if c.acked == spec.epoch]
    stopped = max([c.acked_at for c in acked], default=written_at)
    if consumers.lost_at is not None:
        stopped = max(stopped, consumers.lost_at)
    if silent:
        expires = None if timeout is None else written_at + timeout + timeout // 100 + TIMEOUT_MARGIN_MS
        if expires is None or now < expires:
            return Barrier(False, None, silent, expires)
        stopped = max(stopped, expires)
    elif acked and all(c.empty for c in acked) and not _lost_lately(consumers, spec.drain, now):
        return Barrier(True, stopped, (), None)
    drained = stopped + spec.drain
    return Barrier(now >= drained, stopped, silent, drained if now < drained else None)


def _lost_lately(consumers: Consumers, drain: int, now: int) -> bool:
    """A consumer that died may have left requests behind which nobody can report."""
    return consumers.lost_at is not None and now < consumers.lost_at + drain
