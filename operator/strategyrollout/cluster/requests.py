"""What people ask for, however they ask: annotations, `spec.rollback`, Rollback objects.

Read from the raw object, so that a rollback can be asked for while the rest of the spec is in a state nobody can parse.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from strategyrollout.api.meta import (
    ANNOTATION_PROMOTE,
    ANNOTATION_RESUME,
    ANNOTATION_RETRY,
    ANNOTATION_ROLLBACK,
)
from strategyrollout.core.observed import Request, RequestVerb

Body = dict[str, Any]

PIN = "spec.rollback"
_VERBS: dict[str, RequestVerb] = {
    ANNOTATION_ROLLBACK: "Rollback",
    ANNOTATION_RESUME: "Resume",
    ANNOTATION_PROMOTE: "Promote",
    ANNOTATION_RETRY: "Retry",
}
_LONGEST = 512
_FINAL = {"Succeeded", "NothingToDo", "Refused"}


def requests_of(rollout: Body, rollbacks: Iterable[Body]) -> tuple[Request, ...]:
    """Every request there is about a rollout; `rollbacks` are the Rollback objects of its namespace."""
    annotations = rollout["metadata"].get("annotations") or {}
    asked = [
        Request("Annotation", verb, name, _value(annotations[name]), reason=_reason(annotations[name]))
        for name, verb in _VERBS.items()
        if name in annotations
    ]
    pin = (rollout.get("spec") or {}).get("rollback")
    if isinstance(pin, dict):
        value = json.dumps(pin, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        to, reason = str(pin.get("to") or "Previous"), _reason(str(pin.get("reason") or ""))
        asked.append(Request("Pin", "Rollback", PIN, _value(value), to, reason))
    return (*asked, *_objects(rollout["metadata"]["name"], rollbacks))


def _objects(rollout: str, rollbacks: Iterable[Body]) -> list[Request]:
    open_ones = [
        body
        for body in rollbacks
        if (body.get("spec") or {}).get("rollout") == rollout
        and (body.get("status") or {}).get("outcome") not in _FINAL
        and not body["metadata"].get("deletionTimestamp")
    ]
    open_ones.sort(key=lambda body: (body["metadata"].get("creationTimestamp") or "", body["metadata"]["name"]))
    return [
        Request(
            "Object",
            "Rollback",
            key=str(body["metadata"]["uid"]),
            value=body["metadata"]["name"],
            to=str(body["spec"].get("to") or "Previous"),
            reason=_reason(str(body["spec"].get("reason") or "")),
        )
        for body in open_ones
    ]


def _reason(text: str) -> str:
    return text.strip()[:_LONGEST]


def _value(text: str) -> str:
    """The value as the assignment can remember it: whole, or its beginning and a hash of all of it."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[:440]}...{hashlib.sha256(text.encode()).hexdigest()}"
