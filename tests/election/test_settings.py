"""Settings of the election and of several operators: what is taken, and what is refused with a sentence."""

from __future__ import annotations

import pytest

from strategyrollout.core.leadership import Timing
from strategyrollout.settings import BadSetting, from_environment


def read(**given: str) -> object:
    return from_environment({f"STRATEGYROLLOUT_{name}": value for name, value in given.items()})


def test_without_a_lease_nobody_is_elected() -> None:
    made = from_environment({})
    assert made.leader_lease is None
    assert made.election == Timing(8, 5, 1)


def test_the_lease_and_its_times_are_read() -> None:
    given = {"LEADER_LEASE": "ops/lead", "LEASE_DURATION": "15s", "RENEW_DEADLINE": "10s", "RETRY_PERIOD": "500ms"}
    made = from_environment({f"STRATEGYROLLOUT_{name}": value for name, value in given.items()})
    assert made.leader_lease == ("ops", "lead")
    assert made.election == Timing(15, 10, 0.5)


@pytest.mark.parametrize(
    "selector", ["team=fx", "team==fx", "a!=b", "!team", "team", "desk.example/team in (a, b),x", "x notin (a)", "x="]
)
def test_selectors_are_taken_as_kubernetes_takes_them(selector: str) -> None:
    assert from_environment({"STRATEGYROLLOUT_SELECTOR": selector}).selector == selector


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "a selector nobody can read": ({"SELECTOR": "team fx"}, "SELECTOR='team fx' must be a label selector"),
    "half a selector": ({"SELECTOR": "team in (a"}, "must be a label selector"),
    "a Lease without a namespace": ({"LEADER_LEASE": "lead"}, "must be NAMESPACE/NAME of a Lease"),
    "a deadline after the end": ({"RENEW_DEADLINE": "9s"}, "they are 8 s, 9 s and 1 s"),
    "a retry after the deadline": ({"RETRY_PERIOD": "5s"}, "must hold, so that a leader stops before another begins"),
    "parts of seconds": ({"LEASE_DURATION": "8500ms"}, "LEASE_DURATION must be whole seconds"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused(name: str) -> None:
    given, sentence = REFUSED[name]
    with pytest.raises(BadSetting) as refused:
        read(**given)
    assert sentence in str(refused.value)
