"""What people ask for, turned into at most one thing to do. Each request acts once, on what is visible then.

An annotation or pin is identified by its value: left in place it never acts again, also not on a later release; taken
away (Flux does) it undoes nothing. A Rollback object is identified by its UID. A rollback outranks everything else.
"""

from dataclasses import dataclass

from strategyrollout.api.assignment import Record
from strategyrollout.api.rollback import RollbackStatus
from strategyrollout.core.observed import Observed, Request


def is_new(record: Record, request: Request) -> bool:
    """Whether it has not been acted upon."""
    if request.source == "Object":
        return all(not entry.startswith(request.key) for entry in record.objects)
    return record.handled.get(request.key) != request.value


def fresh(world: Observed, record: Record, verb: str) -> Request | None:
    """The first request of a kind that has not been acted upon; objects before annotations before the pin."""
    order = {"Object": 0, "Annotation": 1, "Pin": 2}
    asked = sorted((r for r in world.requests if r.verb == verb and is_new(record, r)), key=lambda r: order[r.source])
    return asked[0] if asked else None


def latched(record: Record, request: Request, outcome: str = "Succeeded") -> Record:
    """The record with the request acted upon."""
    if request.source == "Object":
        return record.model_copy(update={"objects": [*record.objects, f"{request.key}={outcome}"][-50:]})
    return record.model_copy(update={"handled": {**record.handled, request.key: request.value}})


def forgotten(world: Observed, record: Record) -> Record:
    """The record without annotations and pins that are gone, so that the same words may be used again."""
    present = {r.key for r in world.requests if r.source != "Object"}
    handled = {k: v for k, v in record.handled.items() if k in present}
    return record if handled == record.handled else record.model_copy(update={"handled": handled})


@dataclass(frozen=True)
class Target:
    """Where a rollback leads: from `away` to `to`. `to` is None when there is nothing to do; `message` says why."""

    away: str | None
    to: str | None
    message: str = ""


def rollback_target(world: Observed, record: Record, request: Request) -> Target:
    """Resolve `to` against what is visible now.

    A candidate that is out is left first, wherever the request leads: the only place to go from there is stable.
    """
    stable, attempt = record.stable, record.attempt
    if attempt is not None:
        named = _named(world, request.to)
        if request.to != "Previous" and named == attempt.revision:
            return Target(None, None, f"{request.to} is the revision on trial; nothing was changed")
        return Target(attempt.revision, stable)
    if stable is None:
        return Target(None, None, "no revision has been trusted yet")
    if request.to == "Previous" and is_taken_back(world, record):
        return Target(None, None, "already taken back; name a version to go further")
    if request.to == "Previous":
        to = previous(world, record)
        return Target(stable, to) if to else Target(None, None, "there is no earlier revision to go back to")
    to = _named(world, request.to)
    if to is None:
        return Target(None, None, f"no revision {request.to!r} is kept; see status.revisions for those that are")
    if to == stable:
        return Target(None, None, f"{request.to} is what serves; nothing was changed")
    return Target(stable, to)


def is_taken_back(world: Observed, record: Record) -> bool:
    """Whether what serves is the result of a revert and not what the spec asks for."""
    return record.revert is not None and (world.target is None or world.target.hash != record.stable)


def answered(world: Observed, record: Record, to: str) -> Record:
    """The record after traffic went to `to`: every rollback that was visible and meant the same has acted."""
    for request in world.requests:
        meant = request.to == "Previous" or _named(world, request.to) == to
        if request.verb == "Rollback" and meant and is_new(record, request):
            record = latched(record, request)
    return record


def previous(world: Observed, record: Record) -> str | None:
    """The last other revision that held 100 % and is neither quarantined nor forgotten."""
    barred = {q.revision for q in record.quarantine}
    held = [h for h in record.history if h != record.stable and h not in barred and h in world.revisions]
    return held[-1] if held else None


def _named(world: Observed, name: str) -> str | None:
    if name in world.revisions:
        return name
    matching = [r.hash for r in world.revisions.values() if r.version == name]
    return matching[-1] if len(matching) == 1 else None


def rollback_outcomes(world: Observed, record: Record) -> dict[str, RollbackStatus]:
    """Status of every Rollback object of this rollout that has been acted upon."""
    out: dict[str, RollbackStatus] = {}
    outcomes = dict(entry.split("=", 1) for entry in record.objects)
    for request in world.requests:
        if request.source != "Object" or request.key not in outcomes:
            continue
        revert = record.revert
        if revert is not None and revert.cause.key == request.key:
            done = revert.served_at is not None
            out[request.value] = RollbackStatus(
                outcome="Succeeded" if done else "Running",
                message=revert.cause.message,
                revision=revert.to,
                away=revert.away,
            )
        elif outcomes[request.key] == "NothingToDo":
            message = rollback_target(world, record, request).message or "there was nothing to roll back"
            out[request.value] = RollbackStatus(outcome="NothingToDo", message=message, revision=record.stable)
        else:
            out[request.value] = RollbackStatus(
                outcome="Succeeded", message="done; a later change has followed it", revision=record.stable
            )
    return out
