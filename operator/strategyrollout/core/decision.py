"""What should be true, and what should be said. Desired state, never a list of actions.

A pass that changes traffic writes the assignment and nothing else; everything else waits for the next pass, which
reads the written object back. So effects always lag the commit point, and a crash between two writes heals itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.api.rollback import RollbackStatus
from strategyrollout.api.scalars import IN_ORDER
from strategyrollout.api.status import RolloutStatus


@dataclass(frozen=True)
class Notice:
    """An event to be: said once, on change."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True)
class Decision:
    """Result of one pass."""

    assignment: AssignmentSpec | None = None
    """To be written by compare-and-swap; None: the stored one is right."""
    replicas: Mapping[str, int] = field(default_factory=dict)
    """Revision -> pods it should have. A revision not named is left alone."""
    remove: Annotated[frozenset[str], IN_ORDER] = frozenset()
    """Revisions whose children and ControllerRevision may go."""
    status: RolloutStatus | None = None
    notices: tuple[Notice, ...] = ()
    rollbacks: Mapping[str, RollbackStatus] = field(default_factory=dict)
    """Name of a Rollback object -> its outcome."""
    look_again_at: int | None = None
    """Milliseconds since 1970; None: only when something changes."""
    urgent: bool = False
    """A revert is under way: this rollout goes before all others."""
