"""A router as DESIGN 5 wants it, taken apart into the moments between which anything may happen.

Reading is sent, answered and put into force at different instants; acknowledging is another. The agent may be paused
and the API out of reach while the proxy goes on admitting by what it has, up to the deadline it compares itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.api.meta import NOBODY


@dataclass
class Router:
    """One process and its Lease."""

    name: str
    slow_clock: bool = False
    """Its second lasts one percent longer; the operator's margin is for that."""
    table: AssignmentSpec | None = None
    not_after: int = 0
    confirmed: bool = False
    """Its first consistent read after opening its Lease has been put into force."""
    asked: tuple[int, AssignmentSpec | None] | None = None
    """A read under way: when it was sent, and what it will find."""
    reachable: bool = True
    running: bool = True
    """The agent is not paused."""
    alive: bool = True
    leaving: bool = False
    acked: int = 0
    empty: bool = False
    lease: str = "Open"
    """Open, Closed (by itself) or Ended (by the operator, on proof)."""
    flight: list[tuple[int, int, int]] = field(default_factory=list)
    """Start, end and bucket of what it has admitted."""

    @property
    def works(self) -> bool:
        """Whether its agent can talk to the API server."""
        return self.alive and self.running and self.reachable

    def send(self, now: int, table: AssignmentSpec | None) -> None:
        """A consistent read leaves and finds `table`."""
        if self.works and self.asked is None:
            self.asked = (now, table)

    def apply(self) -> None:
        """The answer of the read under way is put into force."""
        if self.asked is None or not (self.alive and self.running):
            return
        sent, table = self.asked
        self.asked = None
        if table is None or (self.table is not None and table.epoch < self.table.epoch):
            return
        self.table, self.confirmed = table, True
        self.not_after = sent + table.lease + (table.lease // 100 if self.slow_clock else 0)

    def watch(self, table: AssignmentSpec | None) -> None:
        """An event of the watch: a newer table counts, but prolongs nothing."""
        if self.works and self.confirmed and table is not None and self.table is not None:
            self.table = max(self.table, table, key=lambda t: t.epoch)

    def ack(self, now: int) -> None:
        """Writes into its Lease which table is in force, and whether anything frozen is in flight."""
        if not self.works or self.lease != "Open":
            return
        self.acked = self.table.epoch if self.table is not None and self.confirmed else 0
        frozen = [(r.start, r.end) for r in self.table.ranges if r.next] if self.table else []
        self.empty = not any(a <= bucket <= b for _, _, bucket in self.in_flight(now) for a, b in frozen)
        if self.leaving and not self.in_flight(now):
            self.lease, self.alive = "Closed", False

    def in_flight(self, now: int) -> list[tuple[int, int, int]]:
        """What it has admitted and that has not ended."""
        self.flight = [f for f in self.flight if f[1] > now]
        return self.flight

    def owner_of(self, bucket: int, now: int) -> str | None:
        """To whom the proxy would send a request for this bucket at this instant."""
        if not self.alive or self.leaving or not self.confirmed or self.table is None:
            return None
        for r in self.table.ranges:
            if r.start <= bucket <= r.end:
                refused = r.next is not None or r.owner == NOBODY or (r.leased and now >= self.not_after)
                return None if refused else r.owner
        return None
