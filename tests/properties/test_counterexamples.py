"""The stories of the model checker, told again with the code that ships; the capitals are its names for them.

Each story ends well with the code as it is. Where a wrong variant can be put in its place, the same story must break
the rule that the model says it breaks: a story that no variant can spoil proves nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from strategyrollout.core import advance, moves, repair, revert
from strategyrollout.core.moves import Barrier
from strategyrollout.core.observed import Consumers, Request, Stored
from tests.core.simulation import REVISIONS, SECOND
from tests.properties.micro_steps import Step, play, steps
from tests.properties.operators import Operator
from tests.properties.routers import Router
from tests.properties.test_worlds import PLACES, place
from tests.properties.world import World

Patch = pytest.MonkeyPatch
Spoil = Callable[[Patch], None]
real_barrier = moves.barrier
ANY = list(HealthCheck)
V1, V2 = REVISIONS["v1"], REVISIONS["v2"]


def rollback(world: World) -> None:
    """Somebody asks for a rollback, and the operator writes the Freeze."""
    world.ask(Request("Annotation", "Rollback", "strategyrollout.io/rollback", f"now {world.now}", reason="now"))
    world.run(world.operators[0])


def sync(world: World, router: Router) -> None:
    """A router reads, enforces and acknowledges at one instant."""
    router.send(world.now, world.table)
    router.apply()
    router.ack(world.now)
    world.order()


def raise_to_half(world: World) -> None:
    """The Freeze of the second step is written; nobody has seen it yet."""
    while world.table is None or not any(r.next for r in world.table.ranges):
        world.advance(SECOND)
        world.sample("0.01")
        for r in world.routers:
            sync(world, r)
        world.run(world.operators[0])


def passes(world: World, seconds: float, every: int = 50) -> None:
    """Only the operator works."""
    for _ in range(int(seconds * SECOND) // every):
        world.advance(every)
        world.sample("0.01")
        world.run(world.operators[0])


def patched_barrier(**wrong: Any) -> Spoil:
    """`barrier` with other arguments than it is given, wherever it is used."""

    def spoil(patch: Patch) -> None:
        def barrier(stored: Stored, consumers: Consumers | None, now: int, *, timeout: int | None) -> Barrier:
            change = wrong.get("consumers")
            seen = change(stored, consumers) if change is not None and consumers is not None else consumers
            table = replace(stored, spec=stored.spec.model_copy(update=wrong.get("table", {})))
            return real_barrier(table, seen, now, timeout=wrong.get("timeout", timeout))

        patch.setattr(advance, "barrier", barrier)
        patch.setattr(revert, "barrier", barrier)

    return spoil


def _any_ack(stored: Stored, consumers: Consumers) -> Consumers:
    acked = (replace(c, acked=stored.spec.epoch) if c.acked else c for c in consumers.open)
    return replace(consumers, open=tuple(acked))


def _drain_from_freeze(stored: Stored, consumers: Consumers) -> Consumers:
    at = stored.freeze_written_at or 0
    return replace(consumers, open=tuple(replace(c, acked_at=at) for c in consumers.open))


def _any_list(stored: Stored, consumers: Consumers) -> Consumers:
    return replace(consumers, listed_at=(stored.freeze_written_at or 0) + 1)


# -- the stories


def noepoch(world: World) -> None:
    """The second step's Freeze is acked by all; the revert's Freeze follows before anybody has read it."""
    raise_to_half(world)
    for r in world.routers:
        sync(world, r)
    rollback(world)
    passes(world, 1)
    sync(world, world.routers[0])


def drain_counted_from_the_freeze(world: World) -> None:
    """A slow router admits after the Freeze was written, and acks when the drain would be over."""
    rollback(world)
    sync(world, world.routers[0])
    passes(world, 0.3)
    world.order()
    sync(world, world.routers[1])
    world.run(world.operators[0])
    sync(world, world.routers[0])
    passes(world, 0.5)


def no_drain(world: World) -> None:
    """Everybody acks at once; what was admitted before is still in flight."""
    rollback(world)
    for r in world.routers:
        sync(world, r)
    passes(world, 0.1)
    for r in world.routers:
        sync(world, r)


def list_before_freeze(world: World) -> None:
    """A joiner reads the old table and serves; the operator has a list from before it came."""
    operator = world.operators[0]
    operator.list_leases(world.routers, world.now)
    world.advance(SECOND)
    world.join()
    joiner = world.routers[-1]
    sync(world, joiner)
    rollback(world)
    for r in world.routers[:2]:
        sync(world, r)
    operator.last_list = replace(
        operator.last_list or Consumers(0),
        open=tuple(c for c in operator.list_leases(world.routers, world.now).open if c.name != joiner.name),
        listed_at=world.now - 2 * SECOND,
    )
    for _ in range(6):
        world.advance(100)
        world.run(operator, old_list=True)
        sync(world, world.routers[0])


def increase_and_a_silent_router(world: World) -> None:
    """A router is cut off during an increase and keeps serving the trusted revision, as told."""
    world.routers[1].reachable = False
    raise_to_half(world)
    for _ in range(70):
        passes(world, 0.5, every=500)
        sync(world, world.routers[0])


def rollback_after_promotion_and_a_silent_router(world: World) -> None:
    """For a router that was cut off after the promotion the promoted revision is served without limit."""
    world.routers[1].reachable = False
    rollback(world)
    for _ in range(300):
        passes(world, 0.5, every=500)
        sync(world, world.routers[0])


def revert_and_a_silent_router(world: World) -> None:
    """A router with a slow clock is cut off just after a read, and uses its right to the end."""
    for r in world.routers:
        sync(world, r)
    world.routers[1].reachable = False
    rollback(world)
    sync(world, world.routers[0])
    for _ in range(110):
        passes(world, 0.1, every=100)
        sync(world, world.routers[0])
    assert world.share("v2") == 0, "a router that is cut off held up the revert of an unpromoted candidate"


def a_terminating_router(world: World) -> None:
    """A router whose pod is being deleted serves on from its old table until it hears of it."""
    doomed = world.routers[1]
    doomed.reachable = False
    raise_to_half(world)
    for _ in range(10):
        passes(world, 0.5, every=500)
        sync(world, world.routers[0])


def zero_reported_after_a_death(world: World) -> None:
    """A router dies with a request in flight; the living one reports at once that it has none."""
    dying, living = world.routers
    world.order()
    living.flight = []
    dying.alive = False
    world.prove_dead(dying)
    world.busy = 0
    rollback(world)
    sync(world, living)
    world.advance(1)
    world.run(world.operators[0])
    sync(world, living)


def forced_write(world: World) -> None:
    """A paused pass wants to raise a share; meanwhile the attempt is taken back. Then the pass goes on."""
    a, b = world.operators
    while world.decide(world.observe(a)[0]).assignment is None:
        world.advance(SECOND)
        world.sample("0.01")
        for r in world.routers:
            sync(world, r)
    world.hold(a)
    world.advance(1)
    world.ask(Request("Annotation", "Rollback", "strategyrollout.io/rollback", "now", reason="now"))
    world.run(b)
    assert world.table is not None
    assert world.table.record.attempt is None
    world.advance(1)
    world.act(a)
    world.settle()


def lost_table(world: World) -> None:
    """The object is deleted while routers serve by it, one of them out of reach."""
    world.routers[1].reachable = False
    world.delete()
    for _ in range(40):
        passes(world, 0.5, every=500)
        sync(world, world.routers[0])
    assert world.table is not None
    assert all(r.next for r in world.table.ranges), "granted without the router that may still serve the old table"


def _no_memory(patch: Patch) -> None:
    patch.setattr(repair, "knows_more", lambda world, epoch: None)


def _no_margin(patch: Patch) -> None:
    patch.setattr(moves, "TIMEOUT_MARGIN_MS", -101)


def _forget_the_dead(patch: Patch) -> None:
    patch.setattr(moves, "_lost_lately", lambda consumers, drain, now: False)


def _forced(patch: Patch) -> None:
    swap = World.swap

    def forced(world: World, operator: Operator, table: Any, version: int) -> bool:
        epoch = max(table.epoch, (world.table.epoch if world.table else 0) + 1)
        return swap(world, operator, table.model_copy(update={"epoch": epoch}), world.version)

    patch.setattr(World, "swap", forced)


def _only_the_reachable(patch: Patch) -> None:
    real = Operator.list_leases

    def listed(operator: Operator, routers: list[Router], now: int) -> Consumers:
        return real(operator, [r for r in routers if r.reachable], now)

    patch.setattr(Operator, "list_leases", listed)


STORIES: dict[str, tuple[str, Callable[[World], None], Spoil, set[str]]] = {
    "NOEPOCH": (
        "holding",
        noepoch,
        patched_barrier(consumers=_any_ack),
        {"one-revision-per-unit", "stopped-means-stopped"},
    ),
    "DRAINPAR": (
        "holding",
        drain_counted_from_the_freeze,
        patched_barrier(consumers=_drain_from_freeze),
        {"one-revision-per-unit"},
    ),
    "NODRAIN": ("holding", no_drain, patched_barrier(table={"drain": 0}), {"one-revision-per-unit"}),
    "LISTBEFORE": ("holding", list_before_freeze, patched_barrier(consumers=_any_list), {"one-revision-per-unit"}),
    "INCTIMEOUT": (
        "holding",
        increase_and_a_silent_router,
        patched_barrier(timeout=10_000),
        {"one-revision-per-unit"},
    ),
    "PROMTIMEOUT": (
        "promoted twice",
        rollback_after_promotion_and_a_silent_router,
        patched_barrier(timeout=10_000),
        {"one-revision-per-unit"},
    ),
    "NOMARGIN": ("holding", revert_and_a_silent_router, _no_margin, {"stopped-means-stopped"}),
    "SETPOD": ("holding", a_terminating_router, _only_the_reachable, {"one-revision-per-unit"}),
    "ZEROREPORT": ("holding", zero_reported_after_a_death, _forget_the_dead, {"one-revision-per-unit"}),
    "FORCED": ("holding", forced_write, _forced, {"reverted-stays-reverted"}),
    "DELETED": ("holding", lost_table, _no_memory, {"one-revision-per-unit"}),
}


def told(name: str) -> World:
    where, story, _, _ = STORIES[name]
    world = place(where)
    story(world)
    return world


@pytest.mark.parametrize("name", STORIES)
def test_the_story_ends_well(name: str) -> None:
    told(name).history.assert_clean()


@pytest.mark.parametrize("name", STORIES)
def test_the_wrong_variant_is_caught_by_the_rule_it_breaks(name: str, monkeypatch: Patch) -> None:
    where, story, spoil, rules = STORIES[name]
    world = place(where)
    spoil(monkeypatch)
    monkeypatch.setattr("tests.properties.oracle.judge", lambda *_: None)
    with contextlib.suppress(AssertionError):  # what the story itself asserts
        story(world)
    assert rules <= {v.rule for v in world.history.violations()}


# -- stories in which no variant is put in the place of ours


def test_p6_one_epoch_freezes_what_was_granted_and_thaws_what_was_not() -> None:
    world = place("holding")
    raise_to_half(world)
    rollback(world)
    assert world.table is not None
    assert [(r.start, r.end, r.owner, r.next) for r in world.table.ranges] == [
        (0, 999, V2, V1),
        (1_000, 9_999, V1, None),
    ]


def test_status_a_crash_between_the_freeze_and_the_status_raises_nothing() -> None:
    world = place("holding")
    before = world.status
    rollback(world)
    for operator in world.operators:
        operator.crash(world.now)
    world.quiet(5)
    world.status = before
    world.requests = {}
    world.quiet(60)
    assert world.share("v2") == 0
    world.history.assert_clean()


def test_a_rollback_while_the_candidate_has_no_share_latches_it_too() -> None:
    world = place("preview")
    rollback(world)
    world.requests = {}
    world.quiet(300)
    assert world.share("v1") == 10_000
    world.history.assert_clean()


def test_the_epoch_of_a_repair_is_above_one_that_nobody_has_told() -> None:
    world = place("holding")
    rollback(world)
    rollback(world)
    assert world.table is not None
    highest = world.table.epoch
    world.delete()
    world.operators[0].crash(world.now)
    for r in world.routers:
        r.acked = 0
    world.run(world.operators[0])
    assert world.table is not None
    assert world.table.epoch > highest


def test_a_router_that_never_came_up_holds_nobody_up_and_one_that_opened_its_lease_does() -> None:
    world = place("holding")
    raise_to_half(world)
    for r in world.routers:
        sync(world, r)
    passes(world, 0.5)
    assert world.share("v2") == 5_000
    world = place("holding")
    world.join()
    world.routers[-1].reachable = False
    raise_to_half(world)
    for r in world.routers:
        sync(world, r)
    passes(world, 5)
    assert world.share("v2") == 1_000


def test_a_late_ack_of_a_withdrawn_increase_grants_nothing() -> None:
    world = place("holding")
    world.routers[1].reachable = False
    raise_to_half(world)
    sync(world, world.routers[0])
    world.routers[1].reachable = True
    world.routers[1].send(world.now, world.table)
    for _ in range(35):
        passes(world, 1, every=1_000)
        sync(world, world.routers[0])
    assert world.table is not None
    assert not any(r.next for r in world.table.ranges)
    world.routers[1].apply()
    world.routers[1].ack(world.now)
    passes(world, 1)
    assert world.share("v2") == 1_000
    world.history.assert_clean()


def test_an_increase_is_withdrawn_when_the_leases_cannot_be_listed(monkeypatch: Patch) -> None:
    world = place("holding")
    raise_to_half(world)
    monkeypatch.setattr(World, "_consumers", lambda *_, **__: None)
    passes(world, 35, every=1_000)
    assert world.table is not None
    assert not any(r.next for r in world.table.ranges)


def test_a_stale_read_that_looks_like_a_loss_repairs_nothing() -> None:
    world = place("holding")
    raise_to_half(world)
    for r in world.routers:
        sync(world, r)
    version, b = world.version, world.operators[1]
    observed, read = world.observe(b, stale=1)
    observed = replace(observed, consumers=b.list_leases(world.routers, world.now))
    decision = world.decide(observed)
    assert decision.assignment is not None
    assert decision.assignment.cause.kind == "Repair"
    assert not world.swap(b, decision.assignment, read)
    assert world.version == version


# -- variants that generated worlds must find by themselves


def _never_blocked(patch: Patch) -> None:
    patch.setattr(advance, "advance_blockers", lambda health, world: ())


def _no_quarantine(patch: Patch) -> None:
    patch.setattr(revert, "entered", lambda *_: [])


def _gates_wait_for_problems(patch: Patch) -> None:
    wanted = revert.wanted
    patch.setattr(
        revert, "wanted", lambda world, record, health: None if world.problems else wanted(world, record, health)
    )


def _granted_without_pods(patch: Patch) -> None:
    patch.setattr(revert, "can_take", lambda world, revision: True)


@pytest.mark.parametrize("spoil", [_never_blocked, _no_quarantine, _gates_wait_for_problems, _granted_without_pods])
def test_generated_worlds_find_variants_nobody_told_them_of(spoil: Spoil, monkeypatch: Patch) -> None:
    spoil(monkeypatch)

    @settings(max_examples=300, derandomize=True, database=None, phases=[Phase.generate], suppress_health_check=ANY)
    @given(st.sampled_from(PLACES), st.lists(steps(), min_size=30, max_size=90))
    def search(where: str, history: list[Step]) -> None:
        world = place(where)
        for step in history:
            play(world, step)
        world.history.assert_clean()

    with pytest.raises(AssertionError):
        search()
