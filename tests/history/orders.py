"""Rules about what backends saw, held against what the API held."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

from strategyrollout.api.meta import NOBODY
from tests.history.records import FOREVER, Order, Replicas, Version, Violation


def _in_force(versions: list[Version], at: int) -> Version | None:
    """What the API held at an instant."""
    found = bisect_right(versions, at, key=lambda v: v.at)
    return versions[found - 1] if found else None


def _held(versions: list[Version], at: int) -> list[Version]:
    """Every version the API held in that millisecond: which of them an event of the same one saw is not known."""
    before = _in_force(versions, at - 1)
    return [*([before] if before else []), *(v for v in versions if v.at == at)]


def _excused(versions: list[Version]) -> list[tuple[int, int]]:
    """Times in which no protocol can help: from a restored table until everybody has let go of it."""
    spans = []
    begun: int | None = None
    for v in versions:
        if v.foreign and begun is None:
            begun = v.at
        elif begun is not None and not v.foreign and not any(r.next for r in v.spec.ranges):
            spans.append((begun, v.at))
            begun = None
    return spans if begun is None else [*spans, (begun, FOREVER)]


def one_revision_per_unit(versions: list[Version], orders: list[Order], *, flips: bool) -> Iterator[Violation]:
    """No unit is in flight at two revisions at once, unless flips are declared."""
    if flips:
        return
    excused = _excused(versions)
    by_unit: dict[str, list[Order]] = defaultdict(list)
    for order in orders:
        if order.accepted:
            by_unit[order.unit].append(order)
    for unit, taken in by_unit.items():
        latest: Order | None = None
        for order in sorted(taken, key=lambda o: (o.started_at, o.end)):
            if latest is not None and latest.revision != order.revision and order.started_at < latest.end:
                table = _in_force(versions, order.started_at)
                flipped = table is not None and table.spec.drain == 0
                if not flipped and not any(a <= order.started_at <= b for a, b in excused):
                    told = f"{unit} is in flight at {latest.revision} and at {order.revision}"
                    yield Violation("one-revision-per-unit", told, (latest, order))
            if latest is None or order.end >= latest.end:
                latest = order


def only_the_owner_serves(versions: list[Version], orders: Iterable[Order], *, flips: bool) -> Iterator[Violation]:
    """Once a bucket is granted nobody but its owner begins anything for it: needs no two orders at the same time."""
    if flips:
        return
    excused = _excused(versions)
    for order in orders:
        held = [(v, v.at_bucket(order.bucket)) for v in _held(versions, order.started_at)]
        wrong = [v for v, r in held if r and r.next is None and r.owner != order.revision and v.spec.drain > 0]
        told = order.accepted and len(wrong) == len(held) > 0
        if told and not any(a <= order.started_at <= b for a, b in excused):
            words = f"{order.unit} is served by {order.revision}, which does not own bucket {order.bucket}"
            yield Violation("only-the-owner-serves", words, (order, wrong[-1]))


def stopped_means_stopped(versions: list[Version], orders: Iterable[Order], tolerance: int) -> Iterator[Violation]:
    """After the moment a revert is reported as stopped, its revision accepts nothing until it is granted anew."""
    silences: dict[tuple[str, int], tuple[int, Version]] = {}
    for index, v in enumerate(versions):
        revert = v.spec.record.revert
        if revert is None or revert.stopped_at is None or NOBODY in (revert.away,) or revert.away == revert.to:
            continue
        key = (revert.away, revert.stopped_at)
        if key not in silences:
            again = (w.at for w in versions[index:] if _serves(w, revert.away))
            silences[key] = (next(again, FOREVER), v)
    excused = _excused(versions)
    for order in orders:
        for (away, stopped), (until, version) in silences.items():
            late = order.revision == away and order.accepted and stopped + tolerance < order.started_at < until
            if late and not any(a <= order.started_at <= b for a, b in excused):
                told = f"{away} accepts an order {order.started_at - stopped} ms after it was reported as stopped"
                yield Violation("stopped-means-stopped", told, (order, version))


def _serves(version: Version, revision: str) -> bool:
    return any(r.owner == revision and r.next is None for r in version.spec.ranges)


def serving_sides_keep_their_pods(versions: list[Version], replicas: Iterable[Replicas]) -> Iterator[Violation]:
    """An owner's pods are not taken away, except down to what the rollout itself declares."""
    by_revision: dict[str, list[Replicas]] = defaultdict(list)
    for entry in sorted(replicas, key=lambda e: e.at):
        by_revision[entry.revision].append(entry)
    for revision, entries in by_revision.items():
        for before, after in pairwise(entries):
            fewer = after.desired < before.desired and (after.declared is None or after.desired < after.declared)
            held = _held(versions, after.at) if fewer else []
            if held and all(any(r.owner == revision for r in v.spec.ranges) for v in held):
                told = f"{revision} is scaled from {before.desired} to {after.desired} while it owns buckets"
                yield Violation("scaled-while-serving", told, (before, after, *held))
