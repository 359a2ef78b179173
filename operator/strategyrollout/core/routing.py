"""What a consumer has to know about an assignment: the bucket of a unit, who may serve it, and until when.

Apart from the operator's own reading of the object because routers are older than the operator half of the time: they
are replaced only with a rollout. So fields that are not known here are ignored, and what cannot be enforced is refused
as a whole: a table is in force completely or not at all.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from strategyrollout.api.durations import parse_duration
from strategyrollout.api.meta import BUCKETS, NOBODY

ALGORITHM = "sha256-48"
UNIT_LENGTH = 128
_HEX_DIGITS = 12  # 48 bits: exact in a double and in a signed 64-bit integer
_READS_PER_LEASE = 3
_LIMIT_WITHOUT_DRAIN = 30_000


def request_limit(drain: int) -> int:
    """How long (ms) a router lets a request last. A rollout that declares no drain still has a limit."""
    return drain or _LIMIT_WITHOUT_DRAIN


class UnusableTable(ValueError):
    """The object's table cannot be enforced; the message says where it is wrong."""


def is_unit(unit: str) -> bool:
    """Whether routers accept it: 1 to 128 printable ASCII characters, no blanks at the ends."""
    return 1 <= len(unit) <= UNIT_LENGTH and all(" " <= c <= "~" for c in unit) and unit == unit.strip(" ")


def bucket_of(salt: str, unit: str) -> int:
    """The bucket of a unit by `sha256-48`, 0..9999. It may never change: everyone would be reshuffled."""
    digest = hashlib.sha256(f"{salt}:{unit}".encode()).hexdigest()
    return int(digest[:_HEX_DIGITS], 16) % BUCKETS


@dataclass(frozen=True, slots=True)
class Span:
    """Buckets `start`..`end`, both included."""

    start: int
    end: int
    owner: str
    next: str | None
    token: int
    leased: bool

    def overlaps(self, other: "Span") -> bool:
        """Whether they have a bucket in common."""
        return self.start <= other.end and other.start <= self.end


@dataclass(frozen=True, slots=True)
class Table:
    """An assignment as a consumer enforces it. Durations in milliseconds."""

    epoch: int
    drain: int
    lease: int
    spans: tuple[Span, ...]

    @property
    def limit(self) -> int:
        """How long (ms) a request may last."""
        return request_limit(self.drain)

    @property
    def leased(self) -> bool:
        """Whether anything in it needs reads to stay in force."""
        return any(span.leased for span in self.spans)

    @property
    def frozen(self) -> tuple[Span, ...]:
        """What nobody serves because it is on its way."""
        return tuple(span for span in self.spans if span.next is not None)

    @property
    def revisions(self) -> frozenset[str]:
        """Every revision that serves, did, or is about to."""
        named = {span.owner for span in self.spans} | {span.next for span in self.frozen}
        return frozenset(name for name in named if name is not None and name != NOBODY)

    def owner_of(self, bucket: int) -> str | None:
        """Who serves the bucket; None while frozen, unlisted or nobody's."""
        for span in self.spans:
            if span.start <= bucket <= span.end:
                return None if span.next is not None or span.owner == NOBODY else span.owner
        return None


def parse_table(spec: Mapping[str, Any], rollout_uid: str) -> Table:
    """The table in the `spec` of a `TrafficAssignment`; raises UnusableTable."""
    try:
        if spec["rolloutUID"] != rollout_uid:
            raise UnusableTable(f"spec.rolloutUID is {spec['rolloutUID']}, this router serves {rollout_uid}")
        if spec.get("algorithm", ALGORITHM) != ALGORITHM:
            raise UnusableTable(f"spec.algorithm {spec['algorithm']} is not known to this router, only {ALGORITHM}")
        spans = tuple(sorted((_span(r) for r in spec.get("ranges") or []), key=lambda span: span.start))
        table = Table(int(spec["epoch"]), parse_duration(spec["drain"]), parse_duration(spec["lease"]), spans)
    except UnusableTable:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnusableTable(f"spec cannot be read: {type(error).__name__} {error}") from error
    _check(table)
    return table


def _span(entry: Mapping[str, Any]) -> Span:
    return Span(
        start=int(entry["from"]),
        end=int(entry["to"]),
        owner=str(entry["owner"]),
        next=entry.get("next"),
        token=int(entry["token"]),
        leased=bool(entry.get("leased", False)),
    )


def _check(table: Table) -> None:
    if table.epoch <= 0 or table.lease <= 0 or table.drain < 0:
        raise UnusableTable("spec.epoch and spec.lease must be above zero, spec.drain not below")
    free = 0
    for span in table.spans:
        if not free <= span.start <= span.end < BUCKETS:
            raise UnusableTable(
                f"spec.ranges: {span.start}-{span.end} overlaps another range or leaves 0-{BUCKETS - 1}"
            )
        free = span.end + 1


# What a proxy starts with; the agent gives it out to revisions and pods, which come and go.
BACKENDS = 8
SERVERS = 64


def backend_names() -> list[str]:
    """The proxy's backends, one for each revision that can be served at a time."""
    return [f"slot{i}" for i in range(BACKENDS)]


# The proxy's map. Keys are buckets or ranges of them; three keys above the buckets carry what belongs to the whole
# table, so that one swap changes everything at once.
KEY_NOT_AFTER = str(BUCKETS)
KEY_ADMITTING = str(BUCKETS + 1)
KEY_EPOCH = str(BUCKETS + 2)
ADMIT, FROZEN, UNLISTED = "admit", "frozen", "unlisted"
ADMITTING, REFUSING = "yes", "no"
LEASED, _FREE = "leased", "free"

Row = tuple[str, str]


def rows(table: Table, backends: Mapping[str, str]) -> list[Row]:
    """Map entries of a table, as kept on disk: `verdict:backend:revision:token:leased`, and the epoch.

    `backends` names the proxy's backend of every revision in the table. What lets requests in is not part of them
    (`live_rows`): a proxy that starts from disk admits nobody before an agent has confirmed the table.
    """
    entries = [(_key(span), _verdict(span, backends)) for span in table.spans]
    return [*entries, (KEY_EPOCH, str(table.epoch))]


def live_rows(table: Table, backends: Mapping[str, str], *, not_after: int, admitting: bool) -> list[Row]:
    """`rows` and what only a living agent may say: that requests are let in, and to leased ranges until when (ms)."""
    return [
        *rows(table, backends),
        (KEY_NOT_AFTER, str(not_after)),
        (KEY_ADMITTING, ADMITTING if admitting else REFUSING),
    ]


def _key(span: Span) -> str:
    return str(span.start) if span.start == span.end else f"{span.start}:{span.end}"


def _verdict(span: Span, backends: Mapping[str, str]) -> str:
    if span.owner == NOBODY:
        return NOBODY
    verdict = ADMIT if span.next is None else FROZEN
    lease = LEASED if span.leased else _FREE
    return f"{verdict}:{backends[span.owner]}:{span.owner}:{span.token}:{lease}"


def backends_in(entries: Iterable[Row]) -> dict[str, str]:
    """Revision -> backend as the entries of a map name them; what an agent that was restarted has to go on with."""
    fields = [value.split(":") for _key, value in entries]
    return {field[2]: field[1] for field in fields if len(field) == 5}


def epoch_in(entries: Iterable[Row]) -> int:
    """Epoch of the table whose map entries these are; 0 without one."""
    return next((int(value) for key, value in entries if key == KEY_EPOCH), 0)


def not_after(sent_at: int, lease: int) -> int:
    """Until when (ms) a consistent read sent at `sent_at` lets leased ranges be served."""
    return sent_at + lease


def read_interval(table: Table | None) -> int | None:
    """Milliseconds from one consistent read to the next; None while nothing that is served is leased."""
    serving = table is not None and any(span.leased and span.next is None for span in table.spans)
    return table.lease // _READS_PER_LEASE if table and serving else None


def left_behind(new: Table, old: Table | None) -> frozenset[str]:
    """Revisions where requests of ranges that `new` does not let to them any more may still be in flight.

    Those are the owners of what it freezes, and whoever served in `old` what another one serves or nobody does now: a
    consumer may have missed tables in between.
    """
    owners = {span.owner for span in new.frozen}
    for was in old.spans if old else ():
        if was.next is None and any(_taken(was, span) for span in new.spans if was.overlaps(span)):
            owners.add(was.owner)
    return frozenset(owners - {NOBODY})


def _taken(was: Span, now: Span) -> bool:
    return now.next is not None or now.owner != was.owner
