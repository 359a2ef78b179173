"""The micro-steps a generated history is made of, and how likely each is. A step is (name, numbers)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from strategyrollout.core.observed import Problem, Request
from tests.core.simulation import REVISIONS, canary
from tests.properties.routers import Router
from tests.properties.world import DRAIN, World

JUMPS = (0, 1, 100, DRAIN, 1_000, 5_000, 11_000, 31_000, 130_000)
VALUES = ("0.01", "0.01", "0.01", "0.9", "NaN", None, "Infinity", "1" + "0" * 300)
WEIGHTS = (("10%", "50%"), ("5%", "20%", "60%"), ("30%",), ("0%", "10%"), ("100%",))


@dataclass(frozen=True)
class Step:
    """One thing that happens."""

    name: str
    a: int = 0
    b: int = 0


def _router(world: World, number: int) -> Router:
    alive = [r for r in world.routers if r.lease == "Open"] or world.routers
    return alive[number % len(alive)]


def _run(world: World, a: int, b: int) -> None:
    world.run(world.operators[a % 2], stale=(0, 0, 0, 1, 2)[b % 5], old_list=b % 7 == 6)


def _run_and_die(world: World, a: int, b: int) -> None:
    operator = world.operators[a % 2]
    world.run(operator, dies=("children", "status")[b % 2])
    operator.crash(world.now)


def _sync(world: World, a: int, b: int) -> None:
    for r in world.routers:
        r.send(world.now, world.table)
        if b % 4 == 0:
            world.advance(DRAIN)
        r.apply()
        r.ack(world.now)


def _kill(world: World, a: int, b: int) -> None:
    if sum(r.alive for r in world.routers) > 1:
        _router(world, a).alive = False


def _blind(world: World, a: int, b: int) -> None:
    world.blind_since = None if world.blind_since is not None else world.now


def _sample(world: World, a: int, b: int) -> None:
    if world.blind_since is None:
        world.sample(VALUES[a % len(VALUES)])


def _ask(world: World, a: int, b: int) -> None:
    verb: Any = ("Rollback", "Rollback", "Promote", "Resume", "Retry")[a % 5]
    to = ("Previous", "Previous", "Previous", "1.0.0", "2.0.0", REVISIONS["v3"], "9.9.9")[b % 7]
    if verb == "Rollback" and b % 3 == 0:
        world.ask(Request("Object", "Rollback", f"uid-{a}-{b}", f"rollback-{a}-{b}", to, "by object"))
    elif verb == "Rollback":
        world.ask(Request("Annotation", "Rollback", "strategyrollout.io/rollback", f"because {a} {b}", reason="words"))
    else:
        world.ask(Request("Annotation", verb, f"strategyrollout.io/{verb.lower()}", f"{a} {b}"))


def _forget_requests(world: World, a: int, b: int) -> None:
    world.requests = {k: r for k, r in world.requests.items() if r.source == "Pin"}


def _pin(world: World, a: int, b: int) -> None:
    if world.raw.get("rollback"):
        world.requests.pop("spec.rollback", None)
        world.edit(target=world.target, rollback=None)
    else:
        to = ("Previous", "Previous", "1.0.0", "2.0.0", REVISIONS["v3"], "9.9.9")[b % 6]
        world.edit(target=world.target, rollback={"to": to, "reason": "freeze"})
        world.ask(Request("Pin", "Rollback", "spec.rollback", f"{to} freeze {world.now}", to, "freeze"))


def _edit(world: World, a: int, b: int) -> None:
    match a % 6:
        case 0 | 1:
            world.edit(target=("v1", "v2", "v3", "v4")[b % 4])
        case 2:
            world.edit(target=world.target, **canary(*WEIGHTS[b % len(WEIGHTS)], hold=("30s", None)[b % 2]))
        case 3:
            world.edit(target=world.target, replicas=(1, 2, 3, 5)[b % 4])
        case 4:
            world.edit(target=world.target, paused=b % 2 == 0)
        case _:
            world.edit(target=world.target, initial=("Direct", "Gated")[b % 2])


def _trouble(world: World, a: int, b: int) -> None:
    match a % 3:
        case 0:
            world.problems = (
                () if world.problems else (Problem("InvalidGate", "a template is missing", "spec.gates[0]"),)
            )
        case 1:
            world.unreadable = not world.unreadable
        case _:
            world.target = None if world.target else "v2"
            if world.target is not None:
                world.edit(target=world.target)


def _pods(world: World, a: int, b: int) -> None:
    world.ready[REVISIONS[("v1", "v2", "v3")[a % 3]]] = (0, 1, 2, 9)[b % 4]


def _override(world: World, a: int, b: int) -> None:
    if b % 3 == 0 or world.override is None:
        world.begin_override(REVISIONS[("v1", "v2", "v3")[a % 3]])
    for _ in range(1 + b % 2):
        world.go_on_with_override()


STEPS: dict[str, tuple[int, Any]] = {
    "run": (14, _run),
    "run_and_die": (3, _run_and_die),
    "crash": (1, lambda w, a, b: w.operators[a % 2].crash(w.now)),
    "hold": (2, lambda w, a, b: w.hold(w.operators[a % 2], stale=b % 2)),
    "act": (3, lambda w, a, b: w.act(w.operators[a % 2])),
    "advance": (10, lambda w, a, b: w.advance(JUMPS[a % len(JUMPS)])),
    "sync": (6, _sync),
    "send": (3, lambda w, a, b: _router(w, a).send(w.now, w.table)),
    "apply": (3, lambda w, a, b: _router(w, a).apply()),
    "ack": (3, lambda w, a, b: _router(w, a).ack(w.now)),
    "watch": (2, lambda w, a, b: _router(w, a).watch(w.table)),
    "cut": (2, lambda w, a, b: setattr(_router(w, a), "reachable", b % 2 == 0)),
    "pause": (2, lambda w, a, b: setattr(_router(w, a), "running", b % 2 == 0)),
    "kill": (1, _kill),
    "prove_dead": (2, lambda w, a, b: w.prove_dead(w.routers[a % len(w.routers)])),
    "leave": (1, lambda w, a, b: setattr(_router(w, a), "leaving", True)),
    "join": (2, lambda w, a, b: w.join(slow_clock=a % 2 == 0)),
    "sample": (6, _sample),
    "blind": (1, _blind),
    "ask": (4, _ask),
    "override": (2, _override),
    "go_on_with_override": (2, lambda w, a, b: w.go_on_with_override()),
    "forget_requests": (1, _forget_requests),
    "pin": (1, _pin),
    "edit": (5, _edit),
    "trouble": (2, _trouble),
    "pods": (3, _pods),
    "starts": (1, lambda w, a, b: setattr(w, "starts", b % 3 != 0)),
    "busy": (2, lambda w, a, b: setattr(w, "busy", (DRAIN, 1, 100)[a % 3])),
    "quiet": (10, lambda w, a, b: w.quiet((1, 3, 7, 35)[a % 4])),
}
LOSSES: dict[str, tuple[int, Any]] = {
    "delete": (2, lambda w, a, b: w.delete()),
    "restore": (2, lambda w, a, b: w.restore(a)),
}


def steps(*, losses: bool = False) -> st.SearchStrategy[Step]:
    """One step, by likelihood."""
    kinds = STEPS | (LOSSES if losses else {})
    names = [name for name, (likely, _) in kinds.items() for _ in range(likely)]
    return st.builds(Step, st.sampled_from(names), st.integers(0, 12), st.integers(0, 20))


def play(world: World, step: Step) -> None:
    """Let it happen, and orders come."""
    (STEPS | LOSSES)[step.name][1](world, step.a, step.b)
    world.order()
