"""Break-glass: what a person's override does to the table while no operator runs, and what the next one makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.core.decide import decide
from strategyrollout.core.observed import Request
from strategyrollout.core.revert import override_due
from tests.core.simulation import MINUTE, REVISIONS, SECOND, Simulation, annotation, canary, gate, on_canary, promoted

V1, V2, V3 = (REVISIONS[name] for name in ("v1", "v2", "v3"))


def to(revision: str, reason: str = "fills diverge") -> Request:
    """What the command line asks for."""
    return Request("Override", "Rollback", "override", "override", revision, reason, by="alice")


def one_pass(sim: Simulation, request: Request) -> bool:
    """One pass of the command line: the operator's own decision with the request in it. Whether anything is left."""
    world = sim.observe()
    world = replace(world, requests=(*world.requests, request), gates=(), target=None)
    if not override_due(world):
        return False
    decision = decide(world)
    if decision.assignment is not None:
        sim.store(decision.assignment)
        return True
    for revision in {r.next for r in table(sim).ranges if r.next}:
        wanted = decision.replicas.get(revision, 0)
        sim.desired[revision] = max(sim.desired.get(revision, 0), wanted)
        sim.ready[revision] = sim.desired[revision] if sim.starts else sim.ready.get(revision, 0)
    return True


def override(sim: Simulation, request: Request, limit: int = MINUTE) -> None:
    """The command line runs to its end; the operator does not."""
    end = sim.now + limit
    while one_pass(sim, request):
        assert sim.now < end, "the override does not come to an end"
        sim.now += 100
        for router in sim.routers:
            router.sync(sim.table, sim.now)


def table(sim: Simulation) -> AssignmentSpec:
    assert sim.table is not None
    return sim.table


def trusted(sim: Simulation, name: str) -> None:
    """The next version goes all the way."""
    sim.apply(name)
    sim.run(SECOND)
    sim.until("Promoted")
    assert sim.share(name) == 10_000


def three(*, baking: bool = False) -> Simulation:
    """v3 on trial, v2 trusted, v1 before it."""
    sim = promoted(spec=canary("10%", bake={"duration": "10m"}), gates=(gate(),))
    trusted(sim, "v2")
    sim.apply("v3")
    sim.run(SECOND)
    sim.until("Baking" if baking else "Holding")
    return sim


@pytest.mark.parametrize("baking", [False, True], ids=["at 10 %", "in the bake"])
def test_a_candidate_is_taken_back_by_the_protocol_of_every_revert(baking: bool) -> None:
    sim = on_canary()
    if baking:
        sim.until("Baking")
    before = len(sim.history)
    override(sim, to(V1))
    freeze, grant = sim.history[before:]
    assert {(r.owner, r.next) for r in freeze.ranges if r.next} == {(V2, V1)}
    assert freeze.cause.kind == grant.cause.kind == "Override"
    assert freeze.cause.by == "alice"
    assert freeze.record.attempt is None
    assert freeze.record.revert is not None
    assert freeze.record.revert.timeout
    assert [(r.owner, r.next, r.leased) for r in grant.ranges] == [(V1, None, False)] * len(grant.ranges)
    assert sim.share("v1") == 10_000


def test_the_returning_operator_adopts_it_as_a_rollback_and_starts_nothing() -> None:
    sim = on_canary()
    override(sim, to(V1))
    held = table(sim)
    sim.run(30 * MINUTE, every=10 * SECOND)
    assert sim.status.state == "RolledBack"
    assert sim.status.message == "Rolled back: override by alice: fills diverge at 10%, serving 1.0.0"
    assert sim.status.last_revert is not None
    assert sim.status.last_revert.reason == "Override"
    assert [q.revision for q in table(sim).record.quarantine] == [V2]
    assert table(sim).ranges == held.ranges
    assert sim.notices[-1] == "RolledBack"
    trusted(sim, "v3")


def test_a_retry_by_name_still_lifts_it_and_one_asked_before_it_does_not() -> None:
    sim = on_canary()
    sim.requests = [annotation("Retry", "asked while nobody listened")]
    override(sim, to(V1))
    sim.run(MINUTE)
    assert sim.status.state == "RolledBack"
    sim.requests = [annotation("Retry", "asked afterwards")]
    sim.until("Holding")
    assert sim.share("v2") == 1_000


def test_a_rollback_asked_for_in_vain_does_not_go_further_back_later() -> None:
    sim = promoted()
    trusted(sim, "v2")
    sim.requests = [Request("Object", "Rollback", "uid", "in-vain", "Previous", "nobody listens")]
    override(sim, to(V1))
    sim.apply("v1")
    sim.run(MINUTE)
    assert sim.status.state == "Promoted"
    assert sim.share("v1") == 10_000


def test_everything_moves_to_an_older_revision_and_both_that_were_left_stay_out() -> None:
    sim = three()
    before = len(sim.history)
    override(sim, to(V1))
    freeze = sim.history[before]
    assert all(r.next == V1 for r in freeze.ranges), "what is trusted moves as well"
    assert freeze.record.revert is not None
    assert not freeze.record.revert.timeout, "a silent router may be serving what is trusted"
    assert sim.share("v1") == 10_000
    record = table(sim).record
    assert {q.revision for q in record.quarantine} == {V2, V3}
    assert record.history == [V1]
    sim.apply("v2")
    sim.run(30 * MINUTE, every=10 * SECOND)
    assert sim.share("v1") == 10_000
    assert sim.status.state == "RolledBack"


def test_a_router_that_is_silent_holds_it_up_only_where_it_may_serve_what_is_trusted() -> None:
    sim = on_canary()
    sim.routers[0].reachable = False
    override(sim, to(V1))  # after the longest right of a silent one
    assert sim.share("v1") == 10_000
    sim = three()
    sim.routers[0].reachable = False
    with pytest.raises(AssertionError, match="does not come to an end"):
        override(sim, to(V1))
    sim.routers[0].open = False  # a person's word that its process has ended
    override(sim, to(V1))
    assert sim.share("v1") == 10_000


def test_it_waits_for_a_ready_pod_of_a_target_that_had_none() -> None:
    sim = promoted()
    trusted(sim, "v2")
    sim.run(60 * MINUTE, every=30 * SECOND)
    sim.desired[V1], sim.ready[V1], sim.starts = 0, 0, False
    with pytest.raises(AssertionError, match="does not come to an end"):
        override(sim, to(V1))
    assert sim.desired[V1] == 2
    assert sim.share("v1") == 0
    sim.starts = True
    override(sim, to(V1))
    assert sim.share("v1") == 10_000


def test_a_candidate_may_be_given_everything_and_is_trusted_then() -> None:
    sim = on_canary()
    before = len(sim.history)
    override(sim, to(V2))
    freeze = sim.history[before]
    assert {(r.owner, r.next) for r in freeze.ranges} == {(V2, None), (V1, V2)}
    assert not any(r.leased for r in table(sim).ranges)
    sim.run(30 * MINUTE, every=10 * SECOND)
    assert sim.status.state == "Promoted"
    assert (sim.share("v2"), table(sim).record.stable) == (10_000, V2)


def test_killed_after_the_freeze_it_is_finished_by_the_next_operator() -> None:
    sim = on_canary()
    one_pass(sim, to(V1))
    assert any(r.next for r in table(sim).ranges)
    sim.until("RolledBack")
    assert sim.share("v1") == 10_000


def test_killed_after_the_freeze_it_is_finished_by_a_second_run_without_another_freeze() -> None:
    sim = on_canary()
    before = len(sim.history)
    one_pass(sim, to(V1))
    override(sim, to(V1, reason="again"))
    assert len(sim.history) == before + 2
    assert sim.share("v1") == 10_000


def test_it_takes_over_an_increase_that_nobody_finishes() -> None:
    sim = on_canary(hold="10s")
    sim.routers[0].reachable = False
    while not any(r.next for r in table(sim).ranges):
        sim.run(SECOND)
    sim.routers[0].reachable = True
    override(sim, to(V1))
    assert sim.share("v1") == 10_000
    assert table(sim).record.attempt is None


def test_it_takes_over_a_revert_that_nobody_finishes_and_keeps_its_time_out() -> None:
    sim = on_canary()
    sim.value["reject-rate"] = "0.9"
    sim.sample()
    sim.step()
    first = table(sim).record.revert
    assert first is not None
    assert first.cause.kind == "GateBreached"
    sim.routers[0].reachable = False
    override(sim, to(V1))
    revert = table(sim).record.revert
    assert revert is not None
    assert (revert.cause.kind, revert.away, revert.timeout, revert.id) == ("Override", V2, True, first.id)
    assert sim.share("v1") == 10_000


def test_it_finishes_the_repair_of_a_lost_table_towards_what_it_names() -> None:
    sim = promoted()
    trusted(sim, "v2")
    assert sim.table is not None
    sim.table = sim.history[2]  # a backup
    override(sim, to(V1))
    assert sim.share("v1") == 10_000
    assert {t.cause.kind for t in sim.history[-2:]} == {"Override"}
    assert all(r.next == V1 for r in sim.history[-2].ranges)
    sim.run(MINUTE)
    assert sim.status.state == "RolledBack"


def test_what_serves_everything_already_needs_nothing() -> None:
    sim = promoted()
    before = table(sim)
    override(sim, to(V1))
    assert table(sim) == before


def test_an_attempt_without_a_share_is_latched_as_well() -> None:
    sim = promoted()
    sim.starts = False
    sim.apply("v2")
    sim.run(20 * SECOND)
    assert table(sim).record.attempt is not None
    override(sim, to(V1))
    sim.starts = True
    sim.run(10 * MINUTE, every=10 * SECOND)
    assert sim.share("v1") == 10_000
    assert sim.status.state == "RolledBack"
