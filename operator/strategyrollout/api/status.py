"""Status of a `StrategyRollout`: a report for people and tools. Never the state machine; that is the assignment."""

from typing import Annotated, Literal

from pydantic import Field

from strategyrollout.api.conditions import Condition
from strategyrollout.api.model import Model, by_key

Verdict = Literal["Pass", "Breach", "NoData", "Inconclusive"]


class RevisionStatus(Model):
    """One revision that runs or is remembered."""

    revision: str = Field(max_length=10)
    version: str = Field(max_length=128)
    role: Literal["Stable", "Candidate", "Previous", "Reverted", "Retired"]
    weight: str = Field(max_length=8, description="Share of the units, such as 10%.")
    replicas: int = 0
    ready: int = 0
    images: list[Annotated[str, Field(max_length=512)]] = Field(default_factory=list, max_length=32)
    message: str = Field("", max_length=512)


class GateStatus(Model):
    """Latest judgement of one gate about the revision on trial."""

    name: str = Field(max_length=63)
    verdict: Verdict
    value: str | None = Field(None, max_length=64)
    limit: str | None = Field(None, max_length=64)
    sampled_at: str | None = Field(None, max_length=40)
    since: str | None = Field(None, max_length=40, description="When the verdict became what it is.")
    message: str = Field("", max_length=512)


class ConsumerStatus(Model):
    """A router and the table it has confirmed."""

    pod: str = Field(max_length=253)
    acked: int = 0


class TrafficStatus(Model):
    """Where the move of traffic stands."""

    epoch: int = 0
    frozen: str = Field("0%", max_length=8, description="Share that is refused for the moment.")
    consumers: int = 0
    acked: int = 0
    waiting_for: list[ConsumerStatus] = Field(default_factory=list, max_length=16)


class RevertStatus(Model):
    """The latest time traffic was taken back, with its clock readings."""

    attempt: str = Field(max_length=64)
    away: str = Field(max_length=10)
    to: str = Field(max_length=10)
    reason: str = Field(max_length=64)
    message: str = Field(max_length=1024)
    weight: str = Field(max_length=8)
    sampled_at: str | None = Field(None, max_length=40)
    decided_at: str | None = Field(None, max_length=40)
    stopped_at: str | None = Field(None, max_length=40, description="No router admits to the revision any more.")
    served_at: str | None = Field(None, max_length=40, description="The target serves all units again.")


class Pending(Model):
    """A change of inputs that is settling."""

    revision: str = Field(max_length=10)
    since: int


class RolloutStatus(Model):
    """Everything `kubectl get` and `describe` show."""

    observed_generation: int = 0
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra=by_key("type"),
    )
    state: str = Field("", max_length=64)
    message: str = Field("", max_length=1024)
    step: str = Field("", max_length=16)
    weight: str = Field("", max_length=8, description="Share of the candidate, or of what serves.")
    gates_passing: str = Field("", max_length=16)
    stable_version: str = Field("", max_length=128)
    image: str = Field("", max_length=512)
    attempt: str | None = Field(None, max_length=64)
    revisions: list[RevisionStatus] = Field(
        default_factory=list,
        max_length=64,
        json_schema_extra=by_key("revision"),
    )
    gates: list[GateStatus] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra=by_key("name"),
    )
    traffic: TrafficStatus | None = None
    last_revert: RevertStatus | None = None
    pending: Pending | None = None
    epoch: int = Field(0, description="Highest epoch seen; an assignment below it is not believed.")
    stable: str | None = Field(None, max_length=10, description="Hash of the revision that is trusted.")
    replicas: int = 0
    ready_replicas: int = 0
    selector: str = Field("", max_length=512)
