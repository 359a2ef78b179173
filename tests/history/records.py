"""The plain facts a history is made of. Times are milliseconds since 1970, all by one clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from strategyrollout.api.assignment import AssignmentSpec, Range

FOREVER = 1 << 62


@dataclass(frozen=True)
class Version:
    """One version of the table that the API held."""

    at: int
    spec: AssignmentSpec
    foreign: bool = False
    """Put there by somebody else: a restored backup, a person. Only what follows it is judged."""
    after_loss: bool = False
    """There was no object before it, although there had been one."""

    def at_bucket(self, bucket: int) -> Range | None:
        """The range that holds a bucket."""
        return next((r for r in self.spec.ranges if r.start <= bucket <= r.end), None)


@dataclass(frozen=True)
class Order:
    """One request at a backend."""

    unit: str
    bucket: int
    revision: str
    started_at: int
    ended_at: int | None
    """None: still in flight when the record ends."""
    accepted: bool = True
    where: str = ""

    @property
    def end(self) -> int:
        """When it had ended; never, for one still in flight."""
        return FOREVER if self.ended_at is None else self.ended_at


@dataclass(frozen=True)
class Replicas:
    """How many pods a revision was told to have. `declared` is `spec.replicas` of the rollout at that moment."""

    at: int
    revision: str
    desired: int
    declared: int | None = None


@dataclass(frozen=True)
class Violation:
    """A broken rule, in words, with the facts that show it."""

    rule: str
    message: str
    evidence: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"
