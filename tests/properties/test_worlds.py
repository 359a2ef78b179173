"""Any history of micro-steps keeps every rule; and once things are well again, the rollout gets where it should."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategyrollout.api.conditions import Reason
from tests.core.simulation import MINUTE, REVISIONS, blue_green, canary
from tests.properties.micro_steps import Step, play, steps
from tests.properties.world import World

PLACES = ("fresh", "gated", "promoted", "starting", "holding", "manual", "preview", "baking", "promoted twice")


OF_ROUTERS = {"send", "apply", "ack", "watch", "cut", "pause", "kill", "prove_dead", "leave", "join"}


@cache
def _place(name: str) -> World:
    """A world as it often is when something happens."""
    specs = {
        "gated": canary("10%", "50%", hold="30s", initial="Gated", bake={"duration": "2m"}),
        "manual": canary("10%", "50%", hold=None, bake={"duration": "2m"}),
        "preview": blue_green(preview="30s", bake={"duration": "2m"}),
    }
    world = World.new(raw=specs[name]) if name in specs else World.new()
    if name in ("fresh", "gated"):
        return world
    world.until("Promoted")
    if name == "promoted":
        return world
    world.edit(target="v2")
    world.until(
        {"starting": "Settling", "manual": "AwaitingResume", "preview": "Previewing"}.get(
            name, "Holding" if name == "holding" else "Baking"
        )
    )
    if name == "promoted twice":
        world.until("Promoted")
    return world


def place(name: str) -> World:
    """A world of one's own."""
    return _place(name).fork()


def heal(world: World) -> None:
    """Everything that was broken is repaired; nobody asks for anything."""
    world.starts, world.blind_since, world.problems, world.unreadable = True, None, (), False
    world.requests, world.value, world.busy, world.override = {}, "0.01", 100, None
    for r in world.routers:
        r.reachable = r.running = True
        world.prove_dead(r)
    world.ready = dict.fromkeys(world.desired, 9)
    world.edit(target="v4", rollback=None, paused=False, **canary("10%", "50%", hold="30s"))


def wake_up_only_when_told(world: World) -> None:
    """Time jumps to where decisions said they may be different; a timer that is lost is a rollout that stands still."""
    operator = world.operators[0]
    for _ in range(400):
        world.sample(world.value)
        world.settle()
        if world.status.state == Reason.PROMOTED:
            return
        due = world.run(operator).look_again_at
        sampled = world.now + world.gates[0].query.interval
        world.advance(max(1, min(due or sampled, sampled) - world.now))


@given(st.sampled_from(PLACES), st.lists(steps(), min_size=30, max_size=90))
def test_no_history_breaks_a_rule(where: str, history: list[Step]) -> None:
    world = place(where)
    for step in history:
        play(world, step)
    world.history.assert_clean()


@settings(max_examples=settings.default.max_examples // 3 if settings.default else 50)  # each lives through a rollout
@given(st.sampled_from(PLACES), st.lists(steps(losses=True), min_size=10, max_size=40))
def test_every_world_that_is_well_again_gets_where_it_should(where: str, history: list[Step]) -> None:
    world = place(where)
    for step in history:
        play(world, step)
    world.quiet(1)
    heal(world)
    world.advance(31_000)
    wake_up_only_when_told(world)
    assert world.table is not None
    if any(q.revision == REVISIONS["v4"] for q in world.table.record.quarantine):
        # It was taken back before, or the table was lost while the spec asked for it: a retry is somebody's to ask.
        assert world.status.state in ("Reverted", "RolledBack", "Quarantined", "Promoted", "NoLastGood")
        return
    assert world.status.state == "Promoted", f"{world.status.state}: {world.status.message}"
    assert world.share("v4") == 10_000
    assert not any(r.leased or r.next for r in world.table.ranges)
    world.quiet(30)  # what was asked for and is gone is forgotten a little later
    held, said = world.version, len(world.said)
    for _ in range(5):
        world.advance(MINUTE)
        world.sample("0.01")
        world.settle()
    assert (world.version, len(world.said)) == (held, said), "a settled rollout is not silent"


@given(st.sampled_from(PLACES[2:]), st.lists(steps(losses=True), min_size=30, max_size=90))
def test_loss_and_restoration_of_the_table_break_nothing_that_can_be_kept(where: str, history: list[Step]) -> None:
    world = place(where)
    for step in history:
        play(world, step)
    world.history.assert_clean()


@given(st.lists(steps(), min_size=30, max_size=90))
def test_a_provider_without_acknowledgements_keeps_every_rule_it_does_not_declare_away(history: list[Step]) -> None:
    world = World.new(raw=blue_green(preview="30s", traffic={"service": {"name": "m"}, "drain": "1s"}))
    world.routers, world.history.flips = [], True
    world.until("Promoted")
    for step in history:
        if step.name not in OF_ROUTERS:
            play(world, step)
    world.history.assert_clean()


@pytest.mark.parametrize("where", PLACES)
def test_places_are_reached_without_breaking_a_rule(where: str) -> None:
    place(where).history.assert_clean()


def test_a_repair_that_a_backup_brings_back_and_nobody_knows_to_be_old_is_finished() -> None:
    world = place("holding")
    for name in ("delete", "run", "sync", "run"):
        play(world, Step(name, 0, 1))
    world.begin_override(REVISIONS["v2"])
    world.go_on_with_override()  # a newer table, which no router has seen when the older one is back
    world.restore(world.older.index(next(e for e in world.older if e[1].cause.kind == "Repair")))
    world.override = None
    world.quiet(1)
    world.history.assert_clean()
    assert world.share("v1") == 10_000
