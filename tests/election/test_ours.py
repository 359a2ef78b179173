"""Which rollouts are an operator's own: they come and go by their labels, and what belongs to others wakes nobody."""

from __future__ import annotations

from typing import Any

import pytest

from strategyrollout.cluster.cache import Cache
from strategyrollout.cluster.kinds import ASSIGNMENTS, DEPLOYMENTS, ROLLBACKS, ROLLOUTS
from strategyrollout.cluster.wakes import concerned
from strategyrollout.ports import Key

Body = dict[str, Any]


def thing(version: int, **rest: Any) -> Body:
    return {"metadata": {"name": "a", "namespace": "desk", "uid": "uid-a", "resourceVersion": str(version)}, **rest}


@pytest.fixture
def cache() -> Cache:
    return Cache(lambda body: [], lambda kind, old, new: None)


def test_a_rollout_that_left_by_its_labels_comes_back_by_them_and_not_by_a_late_word(cache: Cache) -> None:
    cache.put(ROLLOUTS, thing(5))
    cache.remove(ROLLOUTS, thing(8))  # as a watch with a selector tells it: the state before, the version of the change
    for version, there in ((6, False), (8, False), (9, True)):
        cache.put(ROLLOUTS, thing(version))
        assert (cache.get(ROLLOUTS, "desk", "a") is not None) is there


def test_a_rollout_that_a_list_did_not_have_comes_back_after_that_list(cache: Cache) -> None:
    cache.put(ROLLOUTS, thing(5))
    assert cache.keep_only(ROLLOUTS, None, set(), 7) == 1
    for version, there in ((7, False), (8, True)):
        cache.put(ROLLOUTS, thing(version))
        assert (cache.get(ROLLOUTS, "desk", "a") is not None) is there


def test_whatever_else_is_gone_does_not_come_back(cache: Cache) -> None:
    cache.put(DEPLOYMENTS, thing(5))
    cache.remove(DEPLOYMENTS, thing(8))
    cache.put(DEPLOYMENTS, thing(9))
    assert cache.get(DEPLOYMENTS, "desk", "a") is None


def test_the_assignment_of_a_rollout_that_is_not_ours_wakes_nobody(cache: Cache) -> None:
    assert list(concerned(cache, ASSIGNMENTS, None, thing(5, spec={}))) == []
    cache.put(ROLLOUTS, thing(4))
    assert list(concerned(cache, ASSIGNMENTS, None, thing(5, spec={}))) == [(Key("desk", "a"), False)]


def test_a_rollback_is_looked_at_by_everybody_because_what_it_names_may_not_exist(cache: Cache) -> None:
    asked = thing(5, spec={"rollout": "nowhere"})
    assert list(concerned(cache, ROLLBACKS, None, asked)) == [(Key("desk", "nowhere"), True)]
