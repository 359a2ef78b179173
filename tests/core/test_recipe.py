"""What methods compile to, and where an attempt is while people edit its steps."""

from typing import Any

import pytest

from strategyrollout.api.assignment import Attempt
from strategyrollout.api.rollout import RolloutSpec
from strategyrollout.core.recipe import DIRECT, Step, compile_recipe, position, recipe_of
from tests.core.simulation import blue_green, canary


def spec(raw: dict[str, Any]) -> RolloutSpec:
    return RolloutSpec.model_validate(raw)


@pytest.mark.parametrize(
    ("raw", "steps"),
    [
        (canary("10%", "50%", hold="1m"), (Step(1_000, 60_000), Step(5_000, 60_000), Step(10_000))),
        (canary("10%", "100%", hold="1m"), (Step(1_000, 60_000), Step(10_000, 60_000))),
        (canary("0.25%", hold=None), (Step(25, manual=True), Step(10_000))),
        (blue_green("5m"), (Step(0, 300_000), Step(10_000))),
        (blue_green("5m", promote="Manual"), (Step(0, 300_000, manual=True), Step(10_000))),
    ],
    ids=["canary", "canary that names the end", "until resumed", "blue green", "blue green by hand"],
)
def test_methods_compile_to_steps_of_one_machine(raw: dict[str, Any], steps: tuple[Step, ...]) -> None:
    assert compile_recipe(spec(raw)) == steps


def test_only_the_first_revision_goes_directly() -> None:
    plain = spec(canary("10%"))
    assert recipe_of(plain, first=True) == DIRECT
    assert recipe_of(plain, first=False) == compile_recipe(plain)
    assert recipe_of(spec(canary("10%", initial="Gated")), first=True) == compile_recipe(plain)


def attempt(weight: int, *, held: bool, step: int = 0) -> Attempt:
    return Attempt(
        id="a", revision="2" * 10, started_at=0, step_at=0, step=step, weight=weight, held_from=1 if held else None
    )


STEPS = (Step(1_000), Step(5_000), Step(10_000))
GREEN = (Step(0), Step(10_000))


@pytest.mark.parametrize(
    ("recipe", "where", "expected"),
    [
        (STEPS, attempt(0, held=False), 0),
        (STEPS, attempt(1_000, held=True), 0),
        (STEPS, attempt(1_000, held=False, step=1), 1),
        (STEPS, attempt(2_000, held=True), 0),
        (STEPS, attempt(500, held=True), -1),
        (STEPS, attempt(10_000, held=True, step=2), 2),
        (STEPS[:1] + STEPS[2:], attempt(5_000, held=True, step=1), 0),
        (GREEN, attempt(0, held=False), 0),
        (GREEN, attempt(0, held=True), 0),
        (GREEN, attempt(0, held=False, step=1), 1),
        (GREEN, attempt(1_000, held=True), 0),
    ],
    ids=[
        "not begun",
        "holding",
        "entering the second",
        "between two after an edit",
        "below all after an edit",
        "at the end",
        "its step was removed",
        "preview not seen yet",
        "previewing",
        "switching",
        "a canary that became blue green",
    ],
)
def test_position_is_the_last_step_not_above_what_it_has(
    recipe: tuple[Step, ...], where: Attempt, expected: int
) -> None:
    assert position(recipe, where) == expected
