"""Kopf is asked to watch and for nothing else; anything more would write to users' objects or run without end."""

from __future__ import annotations

import itertools

import kopf

from strategyrollout import handlers
from strategyrollout.cluster.access import Access
from strategyrollout.cluster.cache import Cache
from strategyrollout.cluster.kinds import LEASES, WATCHED


def test_the_registry_has_nothing_but_events_and_a_login() -> None:
    cache = Cache(lambda body: [], lambda kind, old, new: None)
    registry = handlers.registry(cache, lambda: Access("https://nowhere"))
    assert len(list(registry._watching.get_all_handlers())) == len(WATCHED)
    for part in (registry._changing, registry._spawning, registry._indexing, registry._webhooks):
        assert list(part.get_all_handlers()) == []
    assert [handler.id for handler in registry._activities.get_all_handlers()] == ["registry.<locals>.login"]


def test_the_settings_keep_kopf_from_writing_and_from_ending_a_watch_in_silence() -> None:
    made = handlers.settings()
    assert made.peering.standalone
    assert not made.posting.enabled
    assert made.watching.inactivity_timeout > 1e8
    assert made.queueing.worker_limit is None
    assert made.watching.server_timeout < made.watching.client_timeout
    body = kopf.Body({"metadata": {"name": "a"}, "spec": {"b": 1}})
    assert made.persistence.diffbase_storage.build(body=body) == {}
    assert made.persistence.progress_storage.fetch(key="k", body=body) is None
    assert made.watching.label_selectors[LEASES.group, LEASES.version, LEASES.plural] == LEASES.selector


def test_requests_of_kopf_are_repeated_without_end_and_not_in_a_rush() -> None:
    delays = list(itertools.islice(handlers.EndlessDelays(), 200))
    assert len(delays) == 200
    assert all(0.1 < delay < 13 for delay in delays)
