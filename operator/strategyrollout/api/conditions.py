"""Condition types and reasons: a closed list, each with the sentence that the reference prints.

`Ready`, `Reconciling` and `Stalled` follow kstatus, so Flux and `kubectl wait` understand them unaided.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from strategyrollout.api.model import Model


class ConditionType(StrEnum):
    """What is observed about a rollout."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    AVAILABLE = "Available"
    PROMOTED = "Promoted"
    GATES_PASSING = "GatesPassing"
    BLIND = "Blind"


CONDITIONS: dict[ConditionType, str] = {
    ConditionType.READY: "Nothing is wrong and nothing moves by itself: promoted, holding, baking, paused or blind.",
    ConditionType.RECONCILING: "Something is moving or starting, within `progressDeadline`.",
    ConditionType.STALLED: "A person is needed: taken back, invalid, or no progress for `progressDeadline`.",
    ConditionType.AVAILABLE: "A trusted revision serves, whatever the spec says.",
    ConditionType.PROMOTED: "The revision asked for has 100 % and its bake is over.",
    ConditionType.GATES_PASSING: "Every gate in force passes.",
    ConditionType.BLIND: "Prometheus cannot be asked; nothing advances because of it.",
}


class Reason(StrEnum):
    """Why a condition is what it is. The value is what users see; the sentence is in `REASONS`."""

    PROMOTED = "Promoted"
    SETTLING = "Settling"
    STARTING = "Starting"
    STEPPING = "Stepping"
    HOLDING = "Holding"
    AWAITING_RESUME = "AwaitingResume"
    AWAITING_GATES = "AwaitingGates"
    PREVIEWING = "Previewing"
    BAKING = "Baking"
    PAUSED = "Paused"
    BLIND = "Blind"
    REVERTING = "Reverting"
    REVERTED = "Reverted"
    ROLLED_BACK = "RolledBack"
    PINNED = "Pinned"
    QUARANTINED = "Quarantined"
    NO_LAST_GOOD = "NoLastGood"
    DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    INVALID_SPEC = "InvalidSpec"
    MISSING_INPUT = "MissingInput"
    INVALID_TEMPLATE = "InvalidTemplate"
    INVALID_GATE = "InvalidGate"
    NOT_OWNED = "NotOwned"
    WAITING_FOR_CONSUMER = "WaitingForConsumer"
    REPAIRING = "Repairing"
    SERVING = "Serving"
    NOT_SERVING = "NotServing"
    ALL_PASS = "AllPass"
    BREACHED = "Breached"
    NO_DATA = "NoData"
    NO_GATES = "NoGates"
    SEEING = "Seeing"


REASONS: dict[Reason, str] = {
    Reason.PROMOTED: "The revision asked for has 100 % and its bake is over.",
    Reason.SETTLING: "Inputs changed a moment ago; an attempt starts once they are quiet for `settle`.",
    Reason.STARTING: "Pods of the candidate are starting; no traffic has moved for this step yet.",
    Reason.STEPPING: "Traffic is moving: frozen, waiting for routers, then granted.",
    Reason.HOLDING: "The step's share is in force and its hold is running.",
    Reason.AWAITING_RESUME: "The hold has no duration; `resume` lets it go on.",
    Reason.AWAITING_GATES: "The hold is over, and not every gate that is needed has a passing sample.",
    Reason.PREVIEWING: "Green runs and is judged without traffic.",
    Reason.BAKING: "The candidate has 100 %; the revision before it stays warm and the gates stay armed.",
    Reason.PAUSED: "`spec.paused` is true: nothing advances; gates and rollbacks work.",
    Reason.BLIND: "Prometheus cannot be asked; nothing advances, nothing is blamed on the strategy.",
    Reason.REVERTING: "Traffic is on its way back.",
    Reason.REVERTED: "A gate or a deadline took traffic back; the spec is not what is served.",
    Reason.ROLLED_BACK: "Somebody asked for a rollback and it is done; the spec is not what is served.",
    Reason.PINNED: "`spec.rollback` is set: nothing starts while it is there. One that leads nowhere says why.",
    Reason.QUARANTINED: "The revision asked for was taken back before; `retry` lets it try again.",
    Reason.NO_LAST_GOOD: "The revision was stopped and there is none to go back to; its units are refused.",
    Reason.DEADLINE_EXCEEDED: "No progress for `progressDeadline`; clears by itself once there is.",
    Reason.INVALID_SPEC: "The object cannot be read; the message names the field.",
    Reason.MISSING_INPUT: "Something the template references is missing or not yet the content asked for.",
    Reason.INVALID_TEMPLATE: "The API server refuses an object made from the spec; the message names it.",
    Reason.INVALID_GATE: "A gate cannot be used: template, parameter, query or labels.",
    Reason.NOT_OWNED: "An object of a name the operator needs belongs to somebody else.",
    Reason.WAITING_FOR_CONSUMER: "A router that must confirm does not answer; the message names it.",
    Reason.REPAIRING: "The assignment was lost or went back in time; everything is frozen until every router confirms.",
    Reason.SERVING: "A trusted revision serves.",
    Reason.NOT_SERVING: "No revision serves all units.",
    Reason.ALL_PASS: "Every gate in force passes.",
    Reason.BREACHED: "A gate is breached.",
    Reason.NO_DATA: "A gate has no usable sample.",
    Reason.NO_GATES: "No gate is in force.",
    Reason.SEEING: "Every query was answered in time.",
}


class Condition(Model):
    """`metav1.Condition`."""

    type: str = Field(max_length=64)
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(max_length=64)
    message: str = Field("", max_length=1024)
    observed_generation: int = Field(0, ge=0)
    last_transition_time: str = Field(max_length=40)
