"""The world at one instant, as `decide` sees it. Plain values only; whoever reads them from where is not its business.

All times are milliseconds since 1970 on the operator's clock. `now` is part of the world, so the core has no clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.api.rollout import OnBlind, RolloutSpec
from strategyrollout.api.scalars import IN_ORDER
from strategyrollout.api.status import RolloutStatus
from strategyrollout.core.gates import Gate, Sample

RequestSource = Literal["Annotation", "Object", "Pin", "Override"]
RequestVerb = Literal["Rollback", "Resume", "Promote", "Retry"]


@dataclass(frozen=True)
class Problem:
    """Something a person has to mend. `path` is the field it is about, `reason` a `Reason` value."""

    reason: str
    message: str
    path: str = ""
    lasting: bool = True
    """Stays until somebody changes something written. False: told by an answer, and a new attempt may mend it."""


@dataclass(frozen=True)
class Revision:
    """What runs together (DESIGN 2), without its content: the content is only needed to build children."""

    hash: str
    version: str
    digests: Annotated[frozenset[str], IN_ORDER]
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workload:
    """The Deployment of one revision."""

    revision: str
    desired: int
    replicas: int
    ready: int
    problem: str = ""
    """Why pods are not ready, for people: ImagePullBackOff and its message, CrashLoopBackOff, exit code."""


@dataclass(frozen=True)
class Consumer:
    """One open Lease: a process that enforces the assignment (DESIGN 5)."""

    name: str
    pod: str
    acked: int
    empty: bool
    """It reported, with that ack, that nothing of the frozen ranges is in flight."""
    acked_at: int
    """When the operator first saw this ack; never the consumer's own clock."""
    renewed_at: int = 0


@dataclass(frozen=True)
class Consumers:
    """A consistent LIST of the open Leases."""

    listed_at: int
    """When the LIST was sent. It says nothing about a Freeze written after that."""
    open: tuple[Consumer, ...] = ()
    lost_at: int | None = None
    """When one was last found closed or gone. Until then it may have served what the others had let go."""


@dataclass(frozen=True)
class Request:
    """What somebody asked for, however."""

    source: RequestSource
    verb: RequestVerb
    key: str
    """Annotation: its name. Pin: `spec.rollback`. Object: the Rollback's UID. Override: `override`."""
    value: str
    """Annotation or pin: what it says now; acted upon once per value. Object: its name."""
    to: str = "Previous"
    reason: str = ""
    by: str = ""
    """Who asks, where that is known (`Override`)."""


@dataclass(frozen=True)
class GateReading:
    """A gate in force and its samples about one revision, oldest first."""

    gate: Gate
    revision: str
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class Stored:
    """The assignment as read, with the version that a write must name."""

    spec: AssignmentSpec
    resource_version: str
    freeze_written_at: int | None = None
    """When this process's own write of this epoch returned, or when this process first saw the epoch."""


@dataclass(frozen=True)
class Observed:
    """Everything one pass may know."""

    now: int
    namespace: str
    name: str
    uid: str
    generation: int
    deleting: bool = False
    spec: RolloutSpec | None = None
    problems: tuple[Problem, ...] = ()
    """About the spec and its inputs; while there are any, nothing new starts."""
    target: Revision | None = None
    """The revision the spec asks for; None while it cannot be known."""
    revisions: Mapping[str, Revision] = field(default_factory=dict)
    """Every revision there is a ControllerRevision of."""
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    stored: Stored | None = None
    assignment_known: bool = True
    """False when the object could not be read: then nothing at all is decided about traffic."""
    consumers: Consumers | None = None
    gates: tuple[GateReading, ...] = ()
    watching_since: int = 0
    """Since when this process keeps samples for this rollout; before, silence may have been its own absence."""
    blind_since: int | None = None
    """Since when no query that the rollout's gates need has been answered."""
    on_blind: OnBlind | None = None
    """What to do about that while there is no spec to say so."""
    unjudged: tuple[str, ...] = ()
    """Gates that are written there, of which nothing can be read and nothing is kept."""
    requests: tuple[Request, ...] = ()
    status: RolloutStatus = field(default_factory=RolloutStatus)
    attempt_id: str = ""
    """A fresh unique id, should this pass start an attempt or a rollback."""
    templates: str | None = None
    """Name of the stored snapshot of the gate templates as they are now."""
    router_image: str | None = None
    """The router image the operator would use for a new attempt."""
    routers: str | None = None
    """Name of the stored routers, as the operator would make them for a new attempt."""
    routers_ready: int | None = None
    """Router pods that are ready to serve; None where the provider has no routers."""
    routers_problem: str = ""
    """Why one is not, for people, with the name of its pod."""
    service_selects: str | None = None
    """Revision that the provider's Service selects, empty for none; None where no Service leads to revisions."""
