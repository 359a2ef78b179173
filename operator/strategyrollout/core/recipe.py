"""Methods compile to recipes: lists of steps for one step machine. A new step type is one branch here.

Canary      weight ... weight, 100 %
BlueGreen   preview (nothing moves), 100 %
first one   100 % (Direct), or the method's own recipe against nothing (Gated)
"""

from dataclasses import dataclass

from strategyrollout.api.assignment import Attempt
from strategyrollout.api.meta import BUCKETS
from strategyrollout.api.rollout import RolloutSpec


@dataclass(frozen=True)
class Step:
    """One step. Its hold starts once `weight` is in force (for a preview: once its pods are ready)."""

    weight: int
    """Basis points of the candidate."""
    hold: int = 0
    """Milliseconds."""
    manual: bool = False
    """After `hold`, wait for a person's `resume`."""
    replicas: int | None = None
    """Pods of the candidate; None: `spec.replicas`."""

    @property
    def preview(self) -> bool:
        """Whether the candidate is only looked at."""
        return self.weight == 0


def compile_recipe(spec: RolloutSpec) -> tuple[Step, ...]:
    """The steps of a method; the last one is always 100 %."""
    if spec.method.type == "BlueGreen":
        blue_green = spec.method.blue_green
        preview = blue_green.preview if blue_green else None
        manual = bool(blue_green and blue_green.promote == "Manual")
        duration = preview.duration if preview and preview.duration is not None else 0
        return (Step(0, duration, manual, preview.replicas if preview else None), Step(BUCKETS))
    steps = [
        Step(
            step.weight or 0,
            (step.hold.duration or 0) if step.hold else 0,
            manual=step.hold is not None and step.hold.duration is None,
        )
        for step in (spec.method.canary.steps if spec.method.canary else [])
    ]
    if not steps or steps[-1].weight < BUCKETS:
        steps.append(Step(BUCKETS))
    return tuple(steps)


DIRECT: tuple[Step, ...] = (Step(BUCKETS),)


def recipe_of(spec: RolloutSpec, *, first: bool) -> tuple[Step, ...]:
    """`first`: no revision has been trusted yet."""
    return DIRECT if first and spec.initial == "Direct" else compile_recipe(spec)


def position(recipe: tuple[Step, ...], attempt: Attempt) -> int:
    """Index of the step an attempt is in or is entering, worked out anew each time: steps may be edited under it.

    Holding: the last step whose weight is not above what the candidate has; -1 when every step is above it.
    Entering (`held_from` is None): the one after that, or the preview that has not been seen yet.
    """
    below = max((i for i, step in enumerate(recipe) if step.weight <= attempt.weight), default=-1)
    if attempt.held_from is not None:
        return below
    if below >= 0 and attempt.step == below and recipe[below].preview:
        return below
    return min(below + 1, len(recipe) - 1)
