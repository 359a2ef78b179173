"""A process of the operator: what it remembers from pass to pass, and loses when it dies."""

from __future__ import annotations

from dataclasses import dataclass, field

from strategyrollout.core.observed import Consumer, Consumers, Observed
from tests.properties.routers import Router


@dataclass
class Operator:
    """Its memory. Nothing in here may be needed for safety after a restart."""

    name: str
    started_at: int
    frozen_seen: dict[int, int] = field(default_factory=dict)
    """Epoch -> when its own write returned, or when it first saw it."""
    acks: dict[str, tuple[int, int]] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    lost: dict[str, int] = field(default_factory=dict)
    last_list: Consumers | None = None
    stash: tuple[Observed, int] | None = None
    """A pass that has read and not yet decided, with the version of the object it read."""

    def crash(self, now: int) -> None:
        """It dies and comes back with nothing."""
        self.__init__(self.name, now)  # type: ignore[misc]

    def list_leases(self, routers: list[Router], now: int) -> Consumers:
        """A consistent LIST of the Leases."""
        found = []
        for r in routers:
            if r.lease != "Open":  # whoever closed it
                self.lost.setdefault(r.name, now)
                continue
            seen = self.acks.get(r.name)
            if seen is None or seen[0] != r.acked:
                seen = self.acks[r.name] = (r.acked, now)
            found.append(Consumer(r.name, r.name, r.acked, r.empty, seen[1]))
        self.last_list = Consumers(now, tuple(found), max(self.lost.values(), default=None))
        return self.last_list
