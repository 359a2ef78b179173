"""Arithmetic on the table of buckets: who owns what, and which buckets move when shares change.

A share is a set of buckets, never "about n percent". Raising a share never takes a bucket from the one it is raised
for, and a change moves as few buckets as it can; both are properties tests hold over all tables.
"""

from collections.abc import Callable, Iterable, Mapping

from strategyrollout.api.assignment import Range
from strategyrollout.api.meta import BUCKETS, NOBODY


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Sorted, with neighbours of the same kind joined."""
    out: list[Range] = []
    for r in sorted(ranges, key=lambda r: r.start):
        last = out[-1] if out else None
        if last and last.end + 1 == r.start and _kind(last) == _kind(r):
            out[-1] = last.model_copy(update={"end": r.end})
        else:
            out.append(r)
    return out


def _kind(r: Range) -> tuple[str, str | None, int, bool]:
    return (r.owner, r.next, r.token, r.leased)


def size(r: Range) -> int:
    """Number of buckets in a range."""
    return r.end - r.start + 1


def weight(ranges: Iterable[Range], revision: str) -> int:
    """Basis points (buckets) that a revision owns, frozen ones included."""
    return sum(size(r) for r in ranges if r.owner == revision)


def owners(ranges: Iterable[Range]) -> set[str]:
    """Revisions that own a range or are about to."""
    found = {r.owner for r in ranges} | {r.next for r in ranges if r.next}
    return {o for o in found if o != NOBODY}


def is_frozen(ranges: Iterable[Range]) -> bool:
    """Whether any range is on its way."""
    return any(r.next for r in ranges)


def frozen_weight(ranges: Iterable[Range]) -> int:
    """Buckets that nobody serves because they are on their way."""
    return sum(size(r) for r in ranges if r.next)


def filled(ranges: Iterable[Range]) -> list[Range]:
    """The whole table, with unlisted buckets as `nobody`'s."""
    out: list[Range] = []
    at = 0
    for r in sorted(ranges, key=lambda r: r.start):
        if r.start > at:
            out.append(Range(start=at, end=r.start - 1, owner=NOBODY, token=0))
        out.append(r)
        at = r.end + 1
    if at < BUCKETS:
        out.append(Range(start=at, end=BUCKETS - 1, owner=NOBODY, token=0))
    return out


def marked(ranges: Iterable[Range], wanted: Iterable[tuple[int, int]], change: Callable[[Range], Range]) -> list[Range]:
    """The table with `change` applied to exactly the buckets in `wanted` (inclusive pairs), splitting ranges."""
    out: list[Range] = []
    spans = sorted(wanted)
    for r in filled(ranges):
        at = r.start
        for low, high in spans:
            a, b = max(low, at), min(high, r.end)
            if a > b:
                continue
            if a > at:
                out.append(r.model_copy(update={"start": at, "end": a - 1}))
            out.append(change(r.model_copy(update={"start": a, "end": b})))
            at = b + 1
        if at <= r.end:
            out.append(r.model_copy(update={"start": at}))
    return merged(r for r in out if not (r.owner == NOBODY and r.token == 0 and r.next is None))


def moving(ranges: Iterable[Range], shares: Mapping[str, int], trusted: str | None) -> dict[str, list[tuple[int, int]]]:
    """Which buckets go to whom so that each revision in `shares` (basis points, at most 10,000 in all) gets its share.

    An owner that must give buckets gives its lowest if it is `trusted` and its highest otherwise; takers are served
    from the lowest. Owners not named in `shares` keep what they have, unless it is needed by nobody else's share.
    """
    table = filled(ranges)
    have = {o: weight(table, o) for o in {r.owner for r in table}}
    free: list[tuple[int, int]] = [(r.start, r.end) for r in table if r.owner == NOBODY]
    for owner, owned in have.items():
        surplus = owned - shares.get(owner, owned)
        if owner != NOBODY and surplus > 0:
            spans = [(r.start, r.end) for r in table if r.owner == owner]
            free += _take(spans, surplus, from_top=owner != trusted)
    out: dict[str, list[tuple[int, int]]] = {}
    for owner in sorted(shares, key=lambda o: (o == trusted, o)):
        lacking = shares[owner] - have.get(owner, 0)
        if lacking > 0:
            out[owner] = _take(sorted(free), lacking, from_top=False)
            free = _without(free, out[owner])
    return out


def _take(spans: list[tuple[int, int]], count: int, *, from_top: bool) -> list[tuple[int, int]]:
    taken = []
    for low, high in sorted(spans, reverse=from_top):
        if count <= 0:
            break
        n = min(count, high - low + 1)
        taken.append((high - n + 1, high) if from_top else (low, low + n - 1))
        count -= n
    return taken


def _without(spans: list[tuple[int, int]], gone: list[tuple[int, int]]) -> list[tuple[int, int]]:
    left: list[tuple[int, int]] = []
    for low, high in spans:
        pieces = [(low, high)]
        for a, b in gone:
            pieces = [
                piece
                for start, end in pieces
                for piece in ((start, min(end, a - 1)), (max(start, b + 1), end))
                if piece[0] <= piece[1]
            ]
        left += dict.fromkeys(pieces)
    return left
