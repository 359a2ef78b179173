"""A router that loses its agent, its proxy, the API server, the object or its Lease: what it goes on serving."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Callable

import pytest
import pytest_asyncio

from strategyrollout.core.routing import bucket_of
from tests.router.fake_api import FakeApi
from tests.router.router import (
    CANDIDATE,
    LEASE,
    SALT,
    STABLE,
    UID,
    Router,
    Strategy,
    assignment,
    span,
    statuses,
    until,
)

OF_STABLE = next(str(n) for n in range(99) if bucket_of(SALT, str(n)) >= 5000)
OF_CANDIDATE = next(str(n) for n in range(99) if bucket_of(SALT, str(n)) < 5000)
SPLIT = (span(0, 4999, CANDIDATE, leased=True), span(5000, 9999, STABLE))
SERVED = {OF_STABLE: 200, OF_CANDIDATE: 200}
RUN_OUT = {OF_STABLE: 200, OF_CANDIDATE: 423}


@pytest_asyncio.fixture
async def serving(router: Router, api: FakeApi) -> Router:
    """A router with the candidate at 50 %, leased for `LEASE`."""
    api.put_assignment(assignment(10, *SPLIT))
    await router.acked(10)
    assert await statuses(router, SERVED) == SERVED
    return router


async def runs_out(router: Router) -> float:
    """Seconds until the last order of the leased range that was served was sent; the rest is served all the while."""
    started = last = sent = time.monotonic()
    while (answer := await statuses(router, SERVED)) == SERVED:
        assert sent - started < LEASE + 0.5, "leased range still served"
        last = sent
        await asyncio.sleep(0.02)
        sent = time.monotonic()
    assert answer == RUN_OUT
    return last - started


async def comes_back(router: Router, within: float = 3.0) -> float:
    started = time.monotonic()
    while await statuses(router, SERVED) != SERVED:
        assert time.monotonic() - started < within, "not served again"
        await asyncio.sleep(0.02)
    return time.monotonic() - started


async def test_reads_keep_a_leased_range_open(serving: Router, api: FakeApi) -> None:
    began = len(api.reads)
    started = time.monotonic()
    while time.monotonic() - started < 2 * LEASE:
        assert await statuses(serving, SERVED) == SERVED
        await asyncio.sleep(0.2)
    # Three a lease, neither fewer nor many more.
    assert 5 <= len(api.reads) - began <= 9


async def test_nothing_leased_means_no_reads(serving: Router, api: FakeApi) -> None:
    api.put_assignment(assignment(11, span(0, 9999, STABLE)))
    await serving.acked(11)
    await asyncio.sleep(0.1)
    began = len(api.reads)
    await asyncio.sleep(LEASE)
    assert len(api.reads) == began


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
async def test_without_its_agent_the_proxy_itself_closes_leased_ranges_and_serves_the_rest(
    serving: Router, number: signal.Signals
) -> None:
    serving.signal_agent(number)
    assert LEASE * 0.6 <= await runs_out(serving) <= LEASE + 0.2
    if number == signal.SIGSTOP:
        serving.signal_agent(signal.SIGCONT)
    else:
        await serving.start_agent()
    await comes_back(serving)


def hang(api: FakeApi) -> None:
    api.answering.clear()


def delete(api: FakeApi) -> None:
    api.put_assignment(None)


def bring_back_older(api: FakeApi) -> None:
    api.put_assignment(assignment(9, span(0, 9999, CANDIDATE)))


def bring_back_other(api: FakeApi) -> None:
    api.put_assignment(assignment(10, span(0, 9999, CANDIDATE)))


def another_rollout(api: FakeApi) -> None:
    api.put_assignment({**assignment(11, span(0, 9999, CANDIDATE)), "rolloutUID": f"not-{UID}"})


@pytest.mark.parametrize("fault", [hang, delete, bring_back_older, bring_back_other, another_rollout])
async def test_what_is_no_consistent_read_of_a_newer_table_confirms_nothing(
    serving: Router, api: FakeApi, fault: Callable[[FakeApi], None]
) -> None:
    fault(api)
    assert await runs_out(serving) <= LEASE + 0.2
    assert serving.lease["acked-epoch"] == "10"
    await asyncio.sleep(0.3)
    assert await statuses(serving, SERVED) == RUN_OUT
    api.answering.set()
    api.put_assignment(assignment(12, *SPLIT))
    await comes_back(serving)
    await serving.acked(12)


async def test_watch_events_prolong_nothing(serving: Router, api: FakeApi) -> None:
    api.answering.clear()
    started = time.monotonic()
    while time.monotonic() - started < LEASE + 0.3:
        api.put_assignment(assignment(10, *SPLIT))
        await asyncio.sleep(0.1)
    assert await statuses(serving, SERVED) == RUN_OUT


async def test_events_of_newer_tables_prolong_nothing_either(serving: Router, api: FakeApi) -> None:
    api.answering.clear()
    started = time.monotonic()
    for epoch in itertools.count(11):
        api.put_assignment(assignment(epoch, *SPLIT))
        await asyncio.sleep(0.1)
        if time.monotonic() - started > LEASE + 0.3:
            break
    assert await statuses(serving, SERVED) == RUN_OUT


async def test_an_event_of_a_table_with_a_shorter_lease_ends_the_right_that_a_longer_one_gave(
    serving: Router, api: FakeApi
) -> None:
    api.put_assignment({**assignment(11, *SPLIT), "lease": "60s"})
    await serving.acked(11)
    await asyncio.sleep(0.3)  # the read that follows the event
    api.answering.clear()
    api.put_assignment(assignment(12, *SPLIT))
    assert await runs_out(serving) <= LEASE + 0.2


async def test_a_freeze_is_in_force_by_its_event_alone_while_no_read_is_answered(serving: Router, api: FakeApi) -> None:
    api.answering.clear()
    started = time.monotonic()
    api.put_assignment(assignment(11, span(0, 4999, CANDIDATE, to=STABLE, leased=True), span(5000, 9999, STABLE)))
    while await statuses(serving, SERVED) != RUN_OUT:
        assert time.monotonic() - started < LEASE / 2, "not frozen"
        await asyncio.sleep(0.02)
    api.answering.set()
    await serving.acked(11)


async def test_what_is_leased_and_frozen_is_not_read_about_again_and_again(serving: Router, api: FakeApi) -> None:
    api.put_assignment(assignment(11, span(0, 4999, CANDIDATE, to=STABLE, leased=True), span(5000, 9999, STABLE)))
    await serving.acked(11)
    await asyncio.sleep(0.1)
    began = len(api.reads)
    await asyncio.sleep(LEASE)
    assert len(api.reads) == began


async def test_a_watch_that_fell_silent_is_made_up_for_while_anything_is_leased(serving: Router, api: FakeApi) -> None:
    api.telling = False
    api.put_assignment(assignment(11, span(0, 4999, CANDIDATE, to=STABLE), span(5000, 9999, STABLE)))
    await serving.acked(11, within=LEASE / 3 + 0.3)
    assert await statuses(serving, SERVED) == RUN_OUT


async def test_a_watch_that_ended_is_begun_again_and_nothing_in_between_is_missed(
    serving: Router, api: FakeApi, stable: Strategy, candidate: Strategy
) -> None:
    api.put_assignment(assignment(11, span(0, 9999, STABLE)))
    await serving.acked(11)
    for epoch in range(12, 16):
        api.end_watches()
        await asyncio.sleep(0)
        api.put_assignment(assignment(epoch, span(0, 9999, CANDIDATE)))
        api.put_pods(CANDIDATE, {candidate.host: epoch % 2 == 1}, candidate.port)
        await serving.acked(epoch, within=1.0)
    assert (await serving.send()).by == CANDIDATE


async def test_an_agent_that_comes_up_before_it_reaches_the_proxy_waits_for_it(serving: Router, api: FakeApi) -> None:
    # Another agent in the same pod gave out the backends in this order; a new one must not guess another.
    api.put_assignment(assignment(11, span(0, 9999, CANDIDATE)))
    await serving.acked(11)
    serving.signal_agent(signal.SIGKILL)
    os.kill(serving.haproxy_pid(), signal.SIGSTOP)
    await serving.start_agent()
    await asyncio.sleep(1.0)
    assert "epoch 11 confirmed" not in serving.said
    os.kill(serving.haproxy_pid(), signal.SIGCONT)
    await until(lambda: "epoch 11 confirmed" in serving.said, "the table")
    assert (await serving.send()).by == CANDIDATE


async def test_frozen_stays_frozen_when_the_router_is_cut_off(serving: Router, api: FakeApi) -> None:
    api.put_assignment(assignment(11, span(0, 4999, STABLE), span(5000, 9999, STABLE, to=CANDIDATE)))
    await serving.acked(11)
    api.answering.clear()
    api.telling = False
    api.put_assignment(assignment(12, span(0, 9999, STABLE)))
    await asyncio.sleep(LEASE + 0.2)
    assert await statuses(serving, SERVED) == {OF_CANDIDATE: 200, OF_STABLE: 423}


async def test_a_restarted_proxy_admits_nobody_until_an_agent_has_confirmed(serving: Router) -> None:
    serving.signal_agent(signal.SIGSTOP)
    os.kill(serving.haproxy_pid(), signal.SIGKILL)
    await until(lambda: "haproxy ended with -9" in (serving.folder / "proxy.log").read_text(), "a restart")
    await asyncio.sleep(0.3)
    assert await statuses(serving, SERVED) == {OF_STABLE: 503, OF_CANDIDATE: 503}
    assert await serving.ready() == 503
    serving.signal_agent(signal.SIGCONT)
    await comes_back(serving)


async def test_a_living_agent_tells_a_restarted_proxy_at_once(serving: Router, api: FakeApi) -> None:
    # Also with the API server gone: the agent's own memory is good, its deadline included.
    api.answering.clear()
    await asyncio.sleep(1.0)
    os.kill(serving.haproxy_pid(), signal.SIGKILL)
    started = time.monotonic()
    while (await serving.send(OF_STABLE)).status != 200:
        assert time.monotonic() - started < 1.0
        await asyncio.sleep(0.01)
    await asyncio.sleep(LEASE - 1.0)
    assert await statuses(serving, SERVED) == RUN_OUT


async def test_a_restarted_agent_goes_on_and_believes_nothing_older(serving: Router, api: FakeApi) -> None:
    serving.signal_agent(signal.SIGKILL)
    assert (await serving.send(OF_STABLE)).status == 200
    bring_back_older(api)
    await serving.start_agent()
    await serving.says("epoch 9 does not follow")
    assert (await serving.send(OF_STABLE)).by == STABLE
    assert serving.lease["acked-epoch"] == "10"
    api.put_assignment(assignment(11, *SPLIT))
    await serving.acked(11)
    assert await statuses(serving, SERVED) == SERVED


async def test_an_older_table_is_not_believed_either_when_only_the_disk_remembers(
    serving: Router, api: FakeApi
) -> None:
    serving.signal_agent(signal.SIGKILL)
    os.kill(serving.haproxy_pid(), signal.SIGKILL)
    bring_back_older(api)
    await serving.start_agent()
    await serving.says("epoch 9 does not follow")
    await asyncio.sleep(0.2)
    assert await statuses(serving, SERVED) == {OF_STABLE: 503, OF_CANDIDATE: 503}


async def test_a_deleted_lease_stops_everything_until_it_is_open_again_and_the_table_was_read(
    serving: Router, api: FakeApi
) -> None:
    del api.leases[serving.pod_uid]
    # Noticed by the next write.
    api.put_assignment(assignment(11, *SPLIT))
    await serving.says("was deleted")
    await until(lambda: len(api.opened) == 2, "the Lease is open again")
    await serving.acked(11)
    acked = next(at for at, epoch, _ in reversed(api.acks) if epoch == 11)
    assert any(api.opened[1] < read < acked for read in api.reads)
    await comes_back(serving)
    assert serving.lease["consumer"] == "Open"


async def test_a_closed_lease_is_never_reopened(serving: Router, api: FakeApi) -> None:
    stored = api.leases[serving.pod_uid]
    stored["metadata"]["annotations"]["strategyrollout.io/consumer"] = "Closed"
    stored["metadata"]["resourceVersion"] = "9999"
    api.put_assignment(assignment(11, *SPLIT))
    assert serving.agent
    assert await asyncio.wait_for(serving.agent.wait(), 5) == 1
    await serving.start_agent()
    assert await asyncio.wait_for(serving.agent.wait(), 5) == 1
    assert await statuses(serving, SERVED) == {OF_STABLE: 503, OF_CANDIDATE: 503}
    assert serving.lease["consumer"] == "Closed"


async def test_a_table_that_cannot_be_enforced_changes_nothing(serving: Router, api: FakeApi, stable: Strategy) -> None:
    many = [span(n, n, f"{n:010x}") for n in range(9)]
    api.put_assignment(assignment(11, *many))
    await serving.says("a router serves 8 at a time")
    assert serving.lease["acked-epoch"] == "10"
    assert (await serving.send(OF_STABLE)).by == STABLE
    # Revisions come and go; a backend is used again once no table names the old one.
    for epoch in range(12, 24):
        revision = f"{epoch:010x}"
        api.put_pods(revision, {stable.host: True}, stable.port)
        await serving.says(f"ready pods of {revision}")
        api.put_assignment(assignment(epoch, span(0, 4999, revision), span(5000, 9999, STABLE)))
        await serving.acked(epoch)
        assert (await serving.send(OF_CANDIDATE)).by == revision
    assert "no free backend" not in serving.said.partition("epoch 12 confirmed")[2]
