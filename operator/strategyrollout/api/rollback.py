"""`Rollback`: a durable request of on-call, an alert or the CLI; its status tells the outcome."""

from typing import Literal

from pydantic import ConfigDict, Field

from strategyrollout.api.model import Model, rule, rules
from strategyrollout.api.scalars import Name, Target

Outcome = Literal["Running", "Succeeded", "NothingToDo", "Refused"]


class RollbackSpec(Model):
    """One request; it acts once, on what is visible when it is first seen."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("self == oldSelf", "a Rollback acts once and may not be changed; create another one")
        )
    )
    rollout: Name
    to: Target = Field(
        "Previous",
        description="Previous (away from what is being left), a version, or a revision hash.",
    )
    reason: str = Field(min_length=1, max_length=512)


class RollbackStatus(Model):
    """Written by the operator."""

    outcome: Outcome | None = None
    message: str = Field("", max_length=1024)
    revision: str | None = Field(None, max_length=10, description="The revision that serves as a result.")
    away: str | None = Field(None, max_length=10, description="The revision that was left.")
    decided_at: str | None = Field(None, max_length=40)
    stopped_at: str | None = Field(None, max_length=40)
    served_at: str | None = Field(None, max_length=40)
