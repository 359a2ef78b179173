"""What people ask for, turned into at most one thing to do. Each request acts once, on what is visible then.

An annotation or pin is identified by its value: left in place it never acts again, also not on a later release; taken
away (Flux does) it undoes nothing. A Rollback object is identified by its UID. A rollback outranks everything else.

An override is what a person does while there is no operator: it comes before every other rollback, leads to any
revision there is, and has acted when that revision has everything.
"""

from dataclasses import dataclass

from strategyrollout.api.assignment import AssignmentSpec, Cause, CauseKind, Record
from strategyrollout.api.conditions import Reason
from strategyrollout.api.meta import BUCKETS, NOBODY
from strategyrollout.api.rollback import RollbackStatus
from strategyrollout.api.scalars import format_time
from strategyrollout.core.buckets import is_frozen, weight
from strategyrollout.core.observed import Observed, Problem, Request
from strategyrollout.core.selection import unselected

_ASKED: dict[str, CauseKind] = {"Pin": "RollbackPinned", "Override": "Override"}
MOST_OBJECTS = 50  # that the record remembers
PIN_TO = "spec.rollback.to"


def is_new(record: Record, request: Request) -> bool:
    """Whether it has not been acted upon."""
    if request.source == "Object":
        return request.key not in _outcomes(record)
    if request.source == "Override":
        return True
    return record.handled.get(request.key) != request.value


def _outcomes(record: Record) -> dict[str, str]:
    """UID of a Rollback object -> what became of it."""
    return {key: outcome for key, _, outcome in (entry.partition("=") for entry in record.objects)}


def all_fresh(world: Observed, record: Record, verb: str) -> list[Request]:
    """Requests of a kind that have not been acted upon; an override, then objects before annotations before the pin.

    Of objects only as many as can be remembered: a flood of alerts waits for its first ones to be reported as done,
    or those forgotten would act again.
    """
    order = {"Override": 0, "Object": 1, "Annotation": 2, "Pin": 3}
    asked = sorted((r for r in world.requests if r.verb == verb and is_new(record, r)), key=lambda r: order[r.source])
    objects = [r for r in asked if r.source == "Object"]
    room = MOST_OBJECTS - len(_remembered(world, record))
    dropped = {r.key for r in objects[max(0, room) :]}
    return [r for r in asked if r.source != "Object" or r.key not in dropped]


def fresh(world: Observed, record: Record, verb: str) -> Request | None:
    """The first request of a kind that has not been acted upon."""
    return next(iter(all_fresh(world, record, verb)), None)


def _remembered(world: Observed, record: Record) -> list[str]:
    """Entries about objects that are still there and not reported as done."""
    present = {r.key for r in world.requests if r.source == "Object"}
    return [entry for entry in record.objects if entry.partition("=")[0] in present]


def latched(world: Observed, record: Record, request: Request, outcome: str = "Succeeded") -> Record:
    """The record with the request acted upon. What nobody will ask about again is forgotten first."""
    if request.source == "Override":
        return record
    if request.source != "Object":
        return record.model_copy(update={"handled": {**record.handled, request.key: request.value}})
    entries = [*record.objects, f"{request.key}={outcome}"]
    if len(entries) > MOST_OBJECTS:
        entries = [*_remembered(world, record), entries[-1]]
    return record.model_copy(update={"objects": entries[-MOST_OBJECTS:]})


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
    if request.source == "Override":
        return _override_target(world, record, request)
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
    if to not in record.history:
        words = "has never been trusted with everything, or was taken back; apply or retry it instead"
        return Target(None, None, f"{request.to} {words}")
    return Target(stable, to)


def pin_problem(world: Observed, record: Record) -> Problem | None:
    """A pin that names what no rollback leads to: somebody wants something, and nothing else would tell that it is not
    done. One that has acted is none, and one that names what serves keeps it."""
    pin = next((r for r in world.requests if r.source == "Pin"), None)
    if pin is None or pin.to == "Previous":
        return None
    remedy = "name Previous or another version, or remove spec.rollback"
    named, attempt = _named(world, pin.to), record.attempt
    if attempt is not None:
        words = f"{pin.to} is the revision on trial, so nothing was taken back and nothing advances; {remedy}"
        return Problem(Reason.PINNED, words, PIN_TO) if named == attempt.revision else None
    if record.revert is not None or record.stable is None or named == record.stable:
        return None
    target = rollback_target(world, record, pin)
    return Problem(Reason.PINNED, f"{target.message}; {remedy}", PIN_TO) if target.away is None else None


def _override_target(world: Observed, record: Record, request: Request) -> Target:
    """Any revision there is, from wherever anything is; `away` is the first of those that are left."""
    to = _named(world, request.to)
    if to is None:
        return Target(None, None, f"no revision {request.to!r} is kept; see status.revisions for those that are")
    ranges = world.stored.spec.ranges if world.stored else []
    if record.attempt is None and not is_frozen(ranges) and weight(ranges, to) == BUCKETS:
        return Target(None, None, f"{request.to} is what serves; nothing was changed")
    attempt = record.attempt.revision if record.attempt else None
    going = record.revert.away if record.revert and record.revert.served_at is None else None
    return Target(next((side for side in (attempt, going, record.stable) if side not in (None, to)), NOBODY), to)


def due_rollback(world: Observed, record: Record) -> tuple[Request, Target] | None:
    """The first rollback asked for that leads anywhere; one that does not never holds up another."""
    for request in all_fresh(world, record, "Rollback"):
        target = rollback_target(world, record, request)
        if target.away is not None:
            return request, target
    return None


def without_retries(world: Observed, record: Record) -> Record:
    """The record with every retry that is visible taken as answered: who asked did not know of this yet."""
    for retry in all_fresh(world, record, "Retry"):
        record = latched(world, record, retry)
    return record


def all_answered(world: Observed, record: Record) -> Record:
    """The record with everything that is visible taken as answered: a person at the wheel has the last word."""
    for request in world.requests:
        if is_new(record, request):
            record = latched(world, record, request)
    return record


def asked_cause(world: Observed, request: Request) -> Cause:
    """Why the table changes, in the words of who asked."""
    kind: CauseKind = _ASKED.get(request.source, "RollbackRequested")
    told = f"override by {request.by}: {request.reason}" if request.source == "Override" else request.reason
    return Cause(kind=kind, message=told[:512], key=request.key, by=request.by[:256] or None, at=world.now)


def override_asked(world: Observed) -> tuple[Request, str] | None:
    """A person's override and the revision it names; None when there is none, or no such revision."""
    asked = next((r for r in world.requests if r.source == "Override"), None)
    to = _named(world, asked.to) if asked is not None else None
    return (asked, to) if asked is not None and to is not None else None


def redirection(world: Observed, stored: AssignmentSpec) -> tuple[Request, str] | None:
    """A rollback to another revision by name while everything is on its way back, and where it leads.

    The way out when the target of a revert has no pods and will not get any. An override takes over whatever is under
    way, and nothing but an override to the same revision.
    """
    record = stored.record
    revert = record.revert
    if revert is None or revert.served_at is not None:
        return None
    override = override_asked(world)
    if override is not None:
        return None if (revert.cause.kind, revert.to) == ("Override", override[1]) else override
    if not all(r.next for r in stored.ranges):
        return None
    for request in all_fresh(world, record, "Rollback"):
        to = None if request.to == "Previous" else _named(world, request.to)
        if to is not None and to != revert.to and to in record.history:
            return request, to
    return None


def is_taken_back(world: Observed, record: Record) -> bool:
    """Whether what serves is the result of a revert and not what the spec asks for."""
    return record.revert is not None and (world.target is None or world.target.hash != record.stable)


def answered(world: Observed, record: Record, to: str) -> Record:
    """The record after traffic went to `to`: every rollback that was visible and meant the same has acted."""
    for request in world.requests:
        meant = request.to == "Previous" or _named(world, request.to) == to
        if meant and request in all_fresh(world, record, "Rollback"):
            record = latched(world, record, request)
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
    outcomes = _outcomes(record)
    for request in world.requests:
        if request.source != "Object" or request.key not in outcomes:
            continue
        revert = record.revert
        if revert is not None and revert.cause.key == request.key:
            done = revert.served_at is not None and unselected(world) is None
            out[request.value] = RollbackStatus(
                outcome="Succeeded" if done else "Running",
                message=revert.cause.message,
                revision=revert.to,
                away=revert.away,
                decided_at=format_time(revert.cause.at),
                stopped_at=format_time(revert.stopped_at),
                served_at=format_time(revert.served_at),
            )
        elif outcomes[request.key] == "NothingToDo":
            message = rollback_target(world, record, request).message or "there was nothing to roll back"
            out[request.value] = RollbackStatus(outcome="NothingToDo", message=message, revision=record.stable)
        else:
            out[request.value] = RollbackStatus(
                outcome="Succeeded", message="done; a later change has followed it", revision=record.stable
            )
    return out


def is_trusted(record: Record, revision: str) -> bool:
    """Whether it has held everything and was not taken back since."""
    barred = {q.revision for q in record.quarantine}
    return revision == record.stable or (revision in record.history and revision not in barred)
