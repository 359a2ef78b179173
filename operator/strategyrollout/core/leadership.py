"""Who of several replicas may write: the rule of Kubernetes' own elections, without a clock and without a request.

Clocks of machines differ, so a time written by somebody else is never compared with a clock of ours: it is only looked
at whether it has *changed*, and what counts is when we saw that. A holder stops by itself `renew_deadline` after it
*sent* the last renewal that was answered; somebody else waits `duration` after having *received* a sign of it. So two
are never leading at once, as long as no clock runs faster than another by more than duration / renew_deadline.
"""

from dataclasses import dataclass, replace
from enum import Enum


class Move(Enum):
    """What a replica should do."""

    WAIT = "wait"
    ACQUIRE = "acquire"
    HOLD = "hold"
    LOST = "lost"


@dataclass(frozen=True)
class Timing:
    """Seconds; duration > renew_deadline > retry."""

    duration: float = 8.0
    renew_deadline: float = 5.0
    retry: float = 1.0


@dataclass(frozen=True)
class Seen:
    """The Lease as it was last seen to change; `at` by the replica's own clock. No holder: nobody has it."""

    holder: str
    stamp: str
    duration: float
    at: float


@dataclass(frozen=True)
class Standing:
    """What one replica knows. `renewed`: when it sent its last successful write; None while it does not lead."""

    me: str
    seen: Seen | None = None
    renewed: float | None = None


def observed(known: Standing, holder: str, stamp: str, duration: float, now: float) -> Standing:
    """After a read that was answered at `now`."""
    seen = known.seen
    if seen is not None and (seen.holder, seen.stamp, seen.duration) == (holder, stamp, duration):
        return known
    return replace(known, seen=Seen(holder, stamp, duration, now))


def absent(known: Standing, now: float) -> Standing:
    """After a read that found no Lease. Somebody deleted it; a holder seen before may not know that yet."""
    return known if known.seen is not None else replace(known, seen=Seen("", "", 0.0, now))


def won(known: Standing, stamp: str, duration: float, sent: float) -> Standing:
    """After a write of ours, sent at `sent`, was answered with success."""
    return replace(known, seen=Seen(known.me, stamp, duration, sent), renewed=sent)


def resigned(known: Standing) -> Standing:
    """From now on it does not lead, whatever becomes of the write that says so."""
    return replace(known, renewed=None)


def decide(known: Standing, timing: Timing, now: float) -> Move:
    """What to do at `now`."""
    seen = known.seen
    if known.renewed is not None:
        taken = seen is not None and seen.holder != known.me
        return Move.LOST if taken or now >= known.renewed + timing.renew_deadline else Move.HOLD
    if seen is None:
        return Move.WAIT
    # With our own name in it a write of ours has arrived although its answer has not.
    free = seen.holder in ("", known.me) or now >= _ends(seen, timing)
    return Move.ACQUIRE if free else Move.WAIT


def free_in(known: Standing, timing: Timing, now: float) -> float | None:
    """Seconds until the Lease of somebody else ends if nothing more is heard of him; None where there is no such."""
    if known.seen is None or known.renewed is not None or now >= _ends(known.seen, timing):
        return None
    return _ends(known.seen, timing) - now


def leads(known: Standing, timing: Timing, now: float) -> bool:
    """Whether a write may be sent at `now`."""
    return decide(known, timing, now) is Move.HOLD


def _ends(seen: Seen, timing: Timing) -> float:
    return seen.at + (seen.duration or timing.duration)


def time_left(known: Standing, timing: Timing, now: float) -> float:
    """Seconds for which it may go on leading without an answer; 0 when it does not lead."""
    return 0.0 if known.renewed is None else max(0.0, known.renewed + timing.renew_deadline - now)
