"""The doors between the loop and the hands. Small, and named by what the loop needs, not by what is behind them.

Rollout loop ──► Cluster      read the world, write the assignment, apply children, report
            ├──► Samples      recent answers of the query plane, never waits
            └──► Evidence     every decision with its inputs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # half of the time the command line takes to start
    from strategyrollout.core.decision import Decision
    from strategyrollout.core.gates import Gate, Sample
    from strategyrollout.core.observed import Observed


@dataclass(frozen=True, order=True)
class Key:
    """Names one rollout."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Lost(Exception):
    """The compare-and-swap failed: somebody wrote in between. The pass ends; nothing was written."""


class Refused(Exception):
    """The API server will not take what was built, and says why; trying again without a change is of no use."""


class Unavailable(Exception):
    """The API server did not answer, or not in time; the same call may work later."""


class Samples(Protocol):
    """The query plane as the loop sees it."""

    def watch(self, key: Key, revisions: Sequence[str], gates: Sequence[Gate]) -> None:
        """From now on keep samples of these gates about these revisions, and wake `key` when a verdict changes.

        Replaces what was watched for `key`; empty `gates` ends it. Cheap when nothing changed.
        """

    def recent(self, key: Key, revision: str, gate: Gate) -> tuple[Sample, ...]:
        """Samples since they were watched, oldest first; at least the latest `gate.of`."""

    def blind_since(self, gates: Sequence[Gate]) -> int | None:
        """Since when (ms) none of these gates' queries has been answered; None when at least one was."""


class Evidence(Protocol):
    """Keeps what was decided and from what, for later (rule 6)."""

    def decided(self, observed: Observed, decision: Decision, written: Mapping[str, Any]) -> None:
        """Called after each write of an assignment. Must return at once and never raise."""

    def adopted(self, observed: Observed, decision: Decision, found: Mapping[str, Any]) -> None:
        """Called for an assignment that a person wrote and no operator had seen: `decision` is what follows. The same
        holds."""
