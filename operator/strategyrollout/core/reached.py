"""The table says who is served. Whether anybody is depends on ready routers, or on what the Service selects."""

from dataclasses import replace

from strategyrollout.api.conditions import Reason
from strategyrollout.core.selection import unselected
from strategyrollout.core.view import Situation, View


def as_reached(view: View, told: Situation) -> Situation:
    """The situation by the table, as far as it is so for those who send requests.

    A router that is broken is named, but to nobody who waits for something else.
    """
    world = view.world
    why = f": {world.routers_problem}" if world.routers_problem else ""
    missing = unselected(world)
    if missing is not None and told.kind != "Moving":
        return _not_selected(view, told, missing)
    if told.kind == "Steady" and world.routers_ready == 0:
        if told.reason is Reason.PROMOTED:
            words = "the version asked for has 100%, but no router is ready to serve it"
            return Situation(Reason.STARTING, "Moving", words + why)
        return Situation(told.reason, "Moving", f"{told.message}; no router is ready, so nothing is served{why}")
    named = why and told.kind != "Stopped"
    return replace(told, message=f"{told.message}; a router is not ready{why}") if named else told


def _not_selected(view: View, told: Situation, missing: str) -> Situation:
    spec, problems = view.world.spec, view.world.problems
    service = f"Service {spec.traffic.service.name}" if spec is not None and spec.traffic.service else "the Service"
    words = f"{service} does not select {view.version(missing)} yet"
    if told.reason is Reason.PROMOTED:
        return Situation(Reason.STARTING, "Moving", f"the version asked for has 100%, but {words}")
    revert = view.world.stored.spec.record.revert if view.world.stored else None
    if told.reason in (Reason.REVERTED, Reason.ROLLED_BACK) and revert is not None:
        why = f": {problems[0].message}" if problems else ""
        back = f"Reverting to {view.version(missing)}: {revert.cause.message}"
        return Situation(Reason.REVERTING, "Moving", f"{back}; {words}{why}")
    if told.kind == "Stopped":
        return told
    return Situation(told.reason, "Moving", f"{told.message}; {words}")
