"""What became of the orders that were sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from tests.orders.connection import Address


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that says: not executed, try again (423 moving, 503 nobody there; 503 also where none was reached)."""

    at: float
    status: int
    router: Address | None


@dataclass(frozen=True, slots=True)
class Order:
    """One order from its first sending to its end. Times in seconds since 1970."""

    account: str
    sent_at: float
    answered_at: float
    status: int
    """Of the last answer; 0 when there was none."""
    outcome: str
    """accepted, filled or rejected by a strategy; empty when no strategy answered."""
    revision: str | None
    version: str | None
    router: Address | None
    lost: bool
    refusals: tuple[Refusal, ...] = ()
    problem: str = ""

    @property
    def gave_up(self) -> bool:
        """Refused until the sender's patience ended; surely not executed."""
        return self.status in (423, 503)


@dataclass(frozen=True)
class Report:
    """Figures about some orders."""

    orders: tuple[Order, ...]

    @cached_property
    def lost(self) -> tuple[Order, ...]:
        """Sent, and nobody knows what became of them."""
        return tuple(order for order in self.orders if order.lost)

    @cached_property
    def gave_up(self) -> tuple[Order, ...]:
        """Refused for longer than the sender's patience."""
        return tuple(order for order in self.orders if order.gave_up)

    @cached_property
    def by_revision(self) -> Counter[str]:
        """Orders taken by each revision."""
        return Counter(order.revision for order in self.orders if order.revision)

    @cached_property
    def by_outcome(self) -> Counter[str]:
        """Orders by what the strategies said."""
        return Counter(order.outcome for order in self.orders if order.outcome)

    @cached_property
    def refusals(self) -> Counter[int]:
        """How often 423 and 503 were answered."""
        return Counter(refusal.status for order in self.orders for refusal in order.refusals)

    def refused_accounts(self, status: int) -> frozenset[str]:
        """Accounts that saw such a refusal."""
        return frozenset(o.account for o in self.orders if any(refusal.status == status for refusal in o.refusals))

    def seconds(self, quantile: float) -> float:
        """From sending to the answer, over all that were answered at the first try; 0 without any."""
        times = sorted(o.answered_at - o.sent_at for o in self.orders if not o.lost and not o.refusals)
        return times[min(int(quantile * len(times)), len(times) - 1)] if times else 0.0
