"""What a pass knows beyond the world, and what it tells of it in one sentence: shared by everything that reports."""

from dataclasses import dataclass, field
from typing import Literal

from strategyrollout.api.conditions import Reason
from strategyrollout.api.meta import NOBODY
from strategyrollout.core.advance import Trial, hold_ends
from strategyrollout.core.health import Health, Judged, advance_blockers
from strategyrollout.core.moves import Barrier
from strategyrollout.core.observed import Observed
from strategyrollout.core.revert import is_settled

Kind = Literal["Moving", "Steady", "Stopped"]
"""Moving: Reconciling. Steady: Ready. Stopped: Stalled."""


@dataclass
class View:
    """What a pass knows beyond the world: filled once, read by everything that reports."""

    world: Observed
    trial: Trial | None
    health: Health
    barrier: Barrier | None = None
    awaiting: tuple[Judged, ...] = field(init=False, default=())
    settles_at: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        world, trial = self.world, self.trial
        if trial is not None and (not trial.holding or (ends := hold_ends(trial, world)) is None or world.now >= ends):
            self.awaiting = advance_blockers(self.health, world)
        if world.spec is not None and world.target is not None and not self._is_tried(world.target.hash):
            first = world.stored is None or world.stored.spec.record.stable is None
            pending = world.status.pending
            if not is_settled(world, first=first):
                since = pending.since if pending and pending.revision == world.target.hash else world.now
                self.settles_at = since + world.spec.settle

    def _is_tried(self, revision: str) -> bool:
        stored = self.world.stored
        trusted = stored is not None and stored.spec.record.stable == revision
        return trusted or (self.trial is not None and self.trial.attempt.revision == revision)

    def version(self, revision: str | None) -> str:
        """A revision's version for people; its hash where the version is not known."""
        known = self.world.revisions.get(revision or "")
        return known.version if known else (revision or NOBODY)


@dataclass(frozen=True)
class Situation:
    """Where a rollout is."""

    reason: Reason
    kind: Kind
    message: str
