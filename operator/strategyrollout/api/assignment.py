"""`TrafficAssignment`: who gets what, and the record of every decision about it (DESIGN 5).

Written by the operator only, by compare-and-swap; by a person's `override` while there is none. `ranges` is what
consumers enforce; `record` is what the operator believes over everything else after a restart. Times are integers:
milliseconds since 1970, UTC.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from strategyrollout.api.meta import BUCKETS
from strategyrollout.api.model import Model, rule, rules
from strategyrollout.api.scalars import Duration

Owner = Annotated[str, Field(pattern=r"^([a-f0-9]{10}|nobody)$", max_length=10)]
Epoch = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]
Millis = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]
CauseKind = Literal[
    "Initial", "Step", "Promoted", "GateBreached", "NoData", "Blind", "RollbackRequested", "RollbackPinned",
    "Reapplied", "Superseded", "DeadlineExceeded", "Repair", "Withdrawn", "Thawed", "Bookkeeping", "Started",
    "Override",
]  # fmt: skip


class Range(Model):
    """Buckets `from`..`to` (both included) and who serves them. `next` is set while frozen: nobody serves them."""

    model_config = ConfigDict(
        json_schema_extra=rules(rule("self.from <= self.to", "a range goes from its lower bucket to its higher one"))
    )
    start: int = Field(ge=0, lt=BUCKETS, alias="from")
    end: int = Field(ge=0, lt=BUCKETS, alias="to")
    owner: Owner
    next: Owner | None = None
    token: Epoch = Field(description="Epoch of the owner's grant.")
    leased: bool = Field(False, description="Served only while the consumer's last read is younger than `lease`.")


class Cause(Model):
    """Why the assignment changed."""

    kind: CauseKind
    message: str = Field("", max_length=512, description="A sentence for people.")
    key: str | None = Field(None, max_length=256, description="Of the request, where somebody asked.")
    by: str | None = Field(None, max_length=256, description="Who wrote it, where a person did (`Override`).")
    gate: str | None = Field(None, max_length=63)
    value: str | None = Field(None, max_length=64)
    limit: str | None = Field(None, max_length=64)
    sampled_at: Millis | None = Field(None, description="When the deciding sample was readable.")
    at: Millis = Field(description="When it was decided.")


class Attempt(Model):
    """One try of one revision. Gone when it is promoted or taken back."""

    id: str = Field(max_length=64)
    revision: Owner
    started_at: Millis
    step: int = Field(0, ge=0, description="Index into the recipe.")
    step_at: Millis = Field(description="When this step was entered.")
    held_from: Millis | None = Field(None, description="When the step's share was in force; its hold counts from here.")
    weight: int = Field(0, ge=0, le=BUCKETS, description="Basis points granted so far.")
    resumed: bool = Field(False, description="A person let this step's open-ended hold end.")
    promote: bool = Field(False, description="A person asked to go to the end.")
    withdrawn: int = Field(0, ge=0, description="Increases withdrawn since the last one that succeeded.")
    retry_at: Millis | None = Field(None, description="When a withdrawn increase is tried again.")
    templates: str | None = Field(None, max_length=63, description="Name of the snapshot of the gate templates in use.")


class Revert(Model):
    """Traffic going back, or gone back. There is one shape, whoever asked."""

    id: str = Field(max_length=64, description="Of the attempt taken back, or of the rollback after promotion.")
    away: Owner
    to: Owner
    cause: Cause
    weight: int = Field(ge=0, le=BUCKETS, description="Basis points `away` held or might have held.")
    timeout: bool = Field(description="Silent consumers may be timed out: only for a candidate never promoted.")
    lease: Duration = Field(description="The longest right a consumer may still hold.")
    stopped_at: Millis | None = Field(None, description="Last consumer acked or was timed out.")
    served_at: Millis | None = Field(None, description="Target granted; set when done.")


class Quarantine(Model):
    """A revision that may not come back by itself."""

    revision: Owner
    digests: list[Annotated[str, Field(max_length=80)]] = Field(default_factory=list, max_length=32)
    until: Millis
    reason: str = Field("", max_length=512)


class Record(Model):
    """The operator's memory. Nothing here is needed by consumers."""

    stable: Owner | None = None
    history: list[Owner] = Field(default_factory=list, max_length=10, description="Held 100 %, oldest first.")
    attempt: Attempt | None = None
    revert: Revert | None = None
    quarantine: list[Quarantine] = Field(default_factory=list, max_length=20)
    handled: dict[str, Annotated[str, Field(max_length=512)]] = Field(
        default_factory=dict, max_length=16, description="Annotation or pin -> its value that was acted upon."
    )
    objects: list[Annotated[str, Field(max_length=64)]] = Field(
        default_factory=list, max_length=50, description="UIDs of Rollback objects acted upon, newest last."
    )
    frozen_at: Millis | None = Field(None, description="When the Freeze in force was written.")
    router_image: str | None = Field(None, max_length=512)
    routers: str | None = Field(
        None, max_length=253, description="ControllerRevision that keeps what the routers are made of."
    )


class AssignmentSpec(Model):
    """One table. Unlisted buckets belong to nobody."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            # Writes of metadata alone (finalizers, labels) must pass, or the object could never be deleted.
            rule(
                "self == oldSelf || self.epoch > oldSelf.epoch",
                "epoch must grow with every write: read again and decide anew",
            ),
            rule("self.rolloutUID == oldSelf.rolloutUID", "rolloutUID may not change"),
            rule(
                "self.salt == oldSelf.salt && self.algorithm == oldSelf.algorithm", "salt and algorithm may not change"
            ),
        )
    )
    epoch: Epoch
    rollout_uid: str = Field(max_length=64, alias="rolloutUID")
    algorithm: Literal["sha256-48"] = "sha256-48"
    salt: str = Field(max_length=64)
    header: str | None = Field(None, max_length=63)
    drain: Duration
    lease: Duration = Field(description="T: how long a consistent read lets a consumer admit to leased ranges.")
    ranges: list[Range] = Field(
        default_factory=list, max_length=512, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    cause: Cause
    record: Record = Field(default_factory=Record)
