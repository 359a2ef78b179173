"""A continuous record and its judgement. Generated worlds and end-to-end tests append to it; neither knows the rules.

The record of tables must be complete: every version, in order (a watch without gaps, or every write). What is recorded
twice counts once. Orders and replicas may be recorded at any time in any order.
"""

from __future__ import annotations

from collections.abc import Iterable

from strategyrollout.api.assignment import AssignmentSpec
from tests.history import orders, tables
from tests.history.records import Order, Replicas, Version, Violation


class History:
    """Facts in, broken rules out.

    `flips`: the provider has no acknowledgements, so owners change in one write and units may overlap. `tolerance` (ms)
    is what may lie between the router's decision and the first clock reading at the backend.
    """

    def __init__(self, *, flips: bool = False, tolerance: int = 0) -> None:
        self.flips = flips
        self.tolerance = tolerance
        self.versions: list[Version] = []
        self.orders: list[Order] = []
        self.replicas: list[Replicas] = []
        self.shares: set[int] = set()
        self.wishes: list[tuple[int, str]] = []
        self.retries: list[int] = []
        self._lost = False

    def record_table(self, at: int, spec: AssignmentSpec, *, foreign: bool = False) -> None:
        """The API holds this table from `at` on. `foreign`: not written by the operator."""
        if self.versions and self.versions[-1].spec == spec and not self._lost:
            return
        self.versions.append(Version(at, spec, foreign, self._lost))
        self._lost = False

    def record_loss(self) -> None:
        """Somebody deleted the object."""
        self._lost = bool(self.versions)

    def record_order(
        self,
        unit: str,
        bucket: int,
        revision: str,
        started_at: int,
        ended_at: int | None,
        *,
        accepted: bool = True,
        where: str = "",
    ) -> None:
        """One request at a backend of `revision`."""
        self.orders.append(Order(unit, bucket, revision, started_at, ended_at, accepted, where))

    def record_replicas(self, at: int, revision: str, desired: int, declared: int | None = None) -> None:
        """A revision's Deployment is told to have `desired` pods; `declared` is the rollout's own `spec.replicas`."""
        self.replicas.append(Replicas(at, revision, desired, declared))

    def declare(self, shares: Iterable[int]) -> None:
        """Basis points of steps that the spec names, or has named. Without any, shares are not judged."""
        self.shares |= {0, *shares}

    def record_wish(self, at: int, revision: str) -> None:
        """From `at` on the spec asks for this revision; applying the same again is no new wish."""
        if not self.wishes or self.wishes[-1][1] != revision:
            self.wishes.append((at, revision))

    def record_retry(self, at: int) -> None:
        """Somebody asked for a retry."""
        self.retries.append(at)

    def violations(self) -> list[Violation]:
        """Every broken rule; empty for a good history."""
        facts = tables.Facts(self.versions, self.flips, frozenset(self.shares), self.wishes, self.retries)
        return [
            *tables.broken(facts),
            *orders.one_revision_per_unit(self.versions, self.orders, flips=self.flips),
            *orders.only_the_owner_serves(self.versions, self.orders, flips=self.flips),
            *orders.stopped_means_stopped(self.versions, self.orders, self.tolerance),
            *orders.serving_sides_keep_their_pods(self.versions, self.replicas),
        ]

    def assert_clean(self) -> None:
        """Fails with every broken rule and its evidence."""
        found = self.violations()
        assert not found, "\n".join([*map(str, found), *(f"  {e}" for v in found for e in v.evidence)])
