"""What people and their tools are told: conditions by the table of the design, said once, with times that stay."""

from collections.abc import Callable

import pytest

from strategyrollout.core.observed import Problem, Request
from tests.core.simulation import MINUTE, REVISIONS, SECOND, Simulation, annotation, blue_green, canary, gate, on_canary
from tests.core.simulation import promoted as promoted_


def conditions(sim: Simulation) -> dict[str, str]:
    return {c.type: c.status for c in sim.status.conditions}


def starting() -> Simulation:
    sim = promoted_(gates=(gate(),))
    sim.starts = False
    sim.apply("v2")
    sim.until("Starting")
    return sim


def holding() -> Simulation:
    return on_canary()


def waiting() -> Simulation:
    sim = promoted_(spec=canary("10%", hold=None), gates=(gate(),))
    sim.apply("v2")
    sim.until("AwaitingResume")
    return sim


def paused() -> Simulation:
    sim = on_canary()
    sim.apply("v2", paused=True)
    sim.run(SECOND)
    return sim


def baking() -> Simulation:
    sim = promoted_(spec=blue_green(), gates=(gate(),))
    sim.apply("v2")
    sim.until("Baking")
    return sim


def blind() -> Simulation:
    sim = on_canary()
    sim.blind_since = sim.now
    sim.run(3 * MINUTE, every=5 * SECOND)
    return sim


def reverted() -> Simulation:
    sim = on_canary()
    sim.value["reject-rate"] = "0.9"
    sim.until("Reverted")
    return sim


def rolled_back() -> Simulation:
    sim = on_canary()
    sim.requests = [annotation("Rollback", "fills look wrong")]
    sim.until("RolledBack")
    return sim


def late() -> Simulation:
    sim = starting()
    sim.run(12 * MINUTE, every=5 * SECOND)
    return sim


def invalid() -> Simulation:
    sim = on_canary()
    sim.problems = (Problem("InvalidGate", "no such template", "spec.gates[0].template"),)
    sim.run(SECOND)
    return sim


def promoted() -> Simulation:
    return promoted_()


MOVING, STEADY, STOPPED = ("False", "True", "False"), ("True", "False", "False"), ("False", "False", "True")


@pytest.mark.parametrize(
    ("world", "state", "expected"),
    [
        (starting, "Starting", MOVING),
        (holding, "Holding", STEADY),
        (waiting, "AwaitingResume", STEADY),
        (paused, "Paused", STEADY),
        (baking, "Baking", STEADY),
        (blind, "Blind", STEADY),
        (reverted, "Reverted", STOPPED),
        (rolled_back, "RolledBack", STOPPED),
        (late, "ProgressDeadlineExceeded", STOPPED),
        (invalid, "InvalidGate", STOPPED),
        (promoted, "Promoted", STEADY),
    ],
)
def test_conditions_follow_the_table(world: Callable[[], Simulation], state: str, expected: tuple[str, ...]) -> None:
    sim = world()
    told = conditions(sim)
    assert sim.status.state == state
    assert (told["Ready"], told["Reconciling"], told["Stalled"]) == expected
    assert told["Available"] == "True"
    assert told["Blind"] == str(state == "Blind")
    assert told["Promoted"] == str(state == "Promoted")


@pytest.mark.parametrize(
    ("world", "words"),
    [
        (holding, "2.0.0 step 1/3: 10% until "),
        (waiting, "2.0.0 step 1/2: 10% until resumed"),
        (paused, "2.0.0 step 1/3: paused at 10%"),
        (reverted, "Reverted: reject-rate 0.9 > 0.05 at 10%, serving 1.0.0"),
        (rolled_back, "Rolled back: fills look wrong at 10%, serving 1.0.0"),
        (invalid, "spec.gates[0].template: no such template"),
        (promoted, "1.0.0 serves everything"),
    ],
)
def test_the_message_is_a_sentence_for_tired_people(world: Callable[[], Simulation], words: str) -> None:
    assert world().status.message.startswith(words)


def test_nothing_is_called_served_before_a_router_is_ready() -> None:
    sim = Simulation(canary("10%"))
    sim.routers_ready = 0
    sim.run(5 * SECOND)
    assert sim.share("v1") == 10_000
    assert sim.status.state == "Starting"
    assert "no router is ready" in sim.status.message
    told = conditions(sim)
    assert (told["Available"], told["Promoted"], told["Ready"], told["Reconciling"]) == (
        "False",
        "False",
        "False",
        "True",
    )
    sim.routers_ready = 1
    sim.run(SECOND)
    assert sim.status.state == "Promoted"
    assert conditions(sim)["Available"] == "True"


BROKEN = "pod momentum-router-1: ImagePullBackOff (no such image)"


@pytest.mark.parametrize(
    ("world", "ready", "words"),
    [
        (promoted, 0, "the version asked for has 100%, but no router is ready to serve it: " + BROKEN),
        (promoted, 1, "1.0.0 serves everything; a router is not ready: " + BROKEN),
        (holding, 0, "; no router is ready, so nothing is served: " + BROKEN),
        (holding, 1, "; a router is not ready: " + BROKEN),
        (starting, 1, "0/2 pods ready; a router is not ready: " + BROKEN),
        (reverted, 1, "serving 1.0.0"),
    ],
)
def test_a_router_that_cannot_start_is_named_with_the_reason(
    world: Callable[[], Simulation], ready: int, words: str
) -> None:
    sim = world()
    state = sim.status.state
    sim.routers_ready, sim.routers_problem = ready, BROKEN
    sim.run(SECOND)
    assert sim.status.message.endswith(words)
    assert sim.status.state == (state if ready or state != "Promoted" else "Starting")


def test_a_move_that_waits_for_a_router_that_cannot_start_names_it() -> None:
    sim = promoted_(spec=canary("10%"), gates=(gate(),))
    sim.apply("v2")
    sim.run(6 * SECOND)
    sim.until("Promoted")
    sim.routers[1].reachable = False
    sim.requests = [annotation("Rollback", "now")]
    sim.routers_ready, sim.routers_problem = 1, BROKEN
    sim.run(5 * SECOND)
    assert sim.status.state == "WaitingForConsumer"
    assert sim.status.message.endswith(f"waiting for router-1; a router is not ready: {BROKEN}")


def test_a_hold_whose_routers_are_all_gone_is_not_ready() -> None:
    sim = holding()
    sim.routers_ready = 0
    sim.run(SECOND)
    assert sim.status.state == "Holding"
    assert sim.status.message.endswith("no router is ready, so nothing is served")
    told = conditions(sim)
    assert (told["Available"], told["Ready"], told["Reconciling"]) == ("False", "False", "True")


BEHIND_A_SERVICE = blue_green(traffic={"service": {"name": "momentum"}, "drain": "0s"})


def behind_a_service() -> Simulation:
    sim = Simulation(BEHIND_A_SERVICE, gates=(gate(),))
    sim.service_selects = ""
    sim.run(5 * SECOND)
    return sim


def test_nothing_is_called_promoted_or_served_before_the_service_selects_it() -> None:
    sim = behind_a_service()
    assert sim.share("v1") == 10_000
    assert sim.status.state == "Starting"
    assert sim.status.message == "the version asked for has 100%, but Service momentum does not select 1.0.0 yet"
    told = conditions(sim)
    assert (told["Available"], told["Promoted"], told["Ready"], told["Reconciling"]) == (
        "False",
        "False",
        "False",
        "True",
    )
    sim.service_selects = REVISIONS["v1"]
    sim.run(SECOND)
    assert (sim.status.state, conditions(sim)["Available"]) == ("Promoted", "True")


def switched() -> Simulation:
    """2.0.0 has everything by the table, and the Service still selects 1.0.0."""
    sim = behind_a_service()
    sim.service_selects = REVISIONS["v1"]
    sim.apply("v2")
    sim.until("Baking")
    return sim


def test_a_switch_that_the_service_has_not_followed_is_moving_and_serves_what_it_selects() -> None:
    sim = switched()
    assert sim.status.message.endswith("; Service momentum does not select 2.0.0 yet")
    told = conditions(sim)
    assert (told["Available"], told["Ready"], told["Reconciling"]) == ("True", "False", "True")
    assert next(c.message for c in sim.status.conditions if c.type == "Available") == "1.0.0"
    sim.service_selects = REVISIONS["v2"]
    sim.run(SECOND)
    assert next(c.message for c in sim.status.conditions if c.type == "Available") == "2.0.0"
    assert conditions(sim)["Ready"] == "True"


def outcome(sim: Simulation) -> str:
    return str(sim.decisions[-1].rollbacks["momentum-a"].outcome)


def test_a_revert_is_over_when_the_service_selects_its_target() -> None:
    sim = switched()
    sim.service_selects = REVISIONS["v2"]
    sim.requests = [Request("Object", "Rollback", "uid-1", "momentum-a", reason="fills")]
    sim.run(2 * SECOND)
    assert sim.share("v1") == 10_000
    assert sim.status.state == "Reverting"
    assert sim.status.message == "Reverting to 1.0.0: fills; Service momentum does not select 1.0.0 yet"
    assert outcome(sim) == "Running"
    sim.problems = (Problem("NotOwned", "Service momentum exists and belongs to no StrategyRollout"),)
    sim.run(SECOND)
    assert sim.status.message.endswith("yet: Service momentum exists and belongs to no StrategyRollout")
    sim.problems, sim.service_selects = (), REVISIONS["v1"]
    sim.run(SECOND)
    assert sim.status.message == "Rolled back: fills at 100%, serving 1.0.0"
    assert outcome(sim) == "Succeeded"
    said = [n for n in sim.notices if n in ("Reverting", "RolledBack")]
    assert said[-1] == "RolledBack"


def test_a_router_that_is_silent_for_long_is_named_with_what_a_person_can_do() -> None:
    sim = promoted_(spec=canary("10%"), gates=(gate(),))
    sim.apply("v2")
    sim.run(6 * SECOND)
    sim.until("Promoted")
    sim.routers[1].reachable = False
    sim.routers[1].renewed_at = sim.now
    sim.requests = [annotation("Rollback", "now")]
    sim.run(2 * MINUTE)
    assert sim.status.message.endswith("waiting for router-1")
    sim.run(2 * MINUTE)
    assert "router-1 (silent since " in sim.status.message
    assert "kubectl strategyrollout override momentum --close-router router-1" in sim.status.message


def test_transition_times_stay_while_nothing_changes() -> None:
    sim = on_canary()
    before = {c.type: c.last_transition_time for c in sim.status.conditions}
    sim.run(20 * SECOND)
    assert {c.type: c.last_transition_time for c in sim.status.conditions} == before


def test_each_state_is_said_once() -> None:
    sim = reverted()
    sim.run(MINUTE)
    said = [n for n in sim.notices if n in ("Reverted", "Holding", "Promoted")]
    assert said == ["Promoted", "Holding", "Reverted"]


def test_a_revert_tells_its_clock_readings_in_order() -> None:
    sim = reverted()
    told = sim.status.last_revert
    assert told is not None
    assert told.weight == "10%"
    assert (told.away, told.to) == (REVISIONS["v2"], REVISIONS["v1"])
    times = [told.sampled_at, told.decided_at, told.stopped_at, told.served_at]
    assert times == sorted(t for t in times if t)


def test_revisions_are_listed_with_what_they_are() -> None:
    assert [(r.version, r.role, r.weight) for r in on_canary().status.revisions] == [
        ("1.0.0", "Stable", "90%"),
        ("2.0.0", "Candidate", "10%"),
    ]
    assert [(r.version, r.role, r.weight) for r in reverted().status.revisions] == [
        ("1.0.0", "Stable", "100%"),
        ("2.0.0", "Reverted", "0%"),
    ]
