"""The work queue against a table of stories and against random histories."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from strategyrollout.cluster.workqueue import Closed, WorkQueue


class Clock:
    """Time that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def taken(queue: WorkQueue[str]) -> list[str]:
    """Everything that can be had at this moment, each left in processing."""
    names = []
    while (key := queue._pop()) is not None:
        names.append(key)
    return names


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
async def queue(clock: Clock) -> AsyncIterator[WorkQueue[str]]:
    made: WorkQueue[str] = WorkQueue(clock=clock)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ("+a +b +a", "a b"),
        ("+a +b !c", "c a b"),
        ("+a +b !b", "b a"),
        ("!a +a", "a"),
        ("!a !b +c !a", "a b c"),
        ("+a +b !b !a", "b a"),
    ],
)
async def test_keys_come_once_each_urgent_first_then_oldest(queue: WorkQueue[str], story: str, expected: str) -> None:
    for word in story.split():
        queue.add(word[1:], urgent=word[0] == "!")
    assert taken(queue) == expected.split()
    assert queue.depth() == 0


async def test_a_key_in_a_worker_is_not_given_out_again_until_it_is_done(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a", urgent=True)
    assert taken(queue) == []
    queue.done("a")
    assert taken(queue) == ["a"]
    queue.done("a")
    assert taken(queue) == []


async def test_only_an_urgent_wish_presses_a_running_pass(queue: WorkQueue[str]) -> None:
    queue.add("a")
    await queue.get()
    pressed = asyncio.create_task(queue.pressed("a"))
    queue.add("a")
    queue.add("b", urgent=True)
    await asyncio.sleep(0.01)
    assert not pressed.done()
    queue.add("a", urgent=True)
    await asyncio.wait_for(pressed, 1)
    await asyncio.wait_for(queue.pressed("a"), 1)


async def test_nobody_is_pressed_by_what_was_urgent_before_the_pass(queue: WorkQueue[str]) -> None:
    queue.add("a", urgent=True)
    await queue.get()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.pressed("a"), 0.01)
    queue.add("a", urgent=True)
    await asyncio.wait_for(queue.pressed("a"), 1)


async def test_a_key_that_became_urgent_in_a_worker_goes_first_afterwards(queue: WorkQueue[str]) -> None:
    queue.add("a")
    await queue.get()
    queue.add("b")
    queue.add("a", urgent=True)
    queue.done("a")
    assert taken(queue) == ["a", "b"]


async def test_of_several_times_the_earliest_wins_and_urgency_stays(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 10, urgent=True)
    queue.add_after("a", 5)
    queue.add_after("a", 20)
    queue.add_after("b", 5)
    clock.now += 4.9
    queue.fire()
    assert taken(queue) == []
    clock.now += 0.2
    queue.fire()
    assert taken(queue) == ["a", "b"]
    clock.now += 60
    queue.fire()
    queue.done("a")
    queue.done("b")
    assert taken(queue) == []


async def test_a_time_already_past_is_now(queue: WorkQueue[str]) -> None:
    queue.add_after("a", -1)
    assert taken(queue) == ["a"]


async def test_failures_back_off_from_50_ms_to_30_s_and_start_over_after_success(
    queue: WorkQueue[str], clock: Clock
) -> None:
    assert [queue.fail("a") for _ in range(12)] == [
        0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0,
    ]  # fmt: skip
    assert queue.fail("b") == 0.05
    queue.forget("a")
    assert queue.fail("a") == 0.05
    clock.now += 0.06
    queue.fire()
    assert taken(queue) == ["a", "b"]


async def test_the_queue_wakes_itself_when_a_key_is_due() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("late", 30)
    queue.add_after("soon", 0.02)
    assert await asyncio.wait_for(queue.get(), 1) == "soon"
    queue.close()


async def test_waiting_workers_get_one_key_each(queue: WorkQueue[str]) -> None:
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    for key in ("a", "b", "c"):
        queue.add(key)
    assert sorted(await asyncio.gather(*workers)) == ["a", "b", "c"]


async def test_a_cancelled_worker_passes_its_wake_up_on(queue: WorkQueue[str]) -> None:
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await asyncio.wait_for(second, 1) == "a"


async def test_a_worker_for_urgent_keys_takes_nothing_else(queue: WorkQueue[str]) -> None:
    reserved = asyncio.create_task(queue.get(only_urgent=True))
    await asyncio.sleep(0)
    queue.add("a")
    queue.add("b")
    assert await asyncio.wait_for(queue.get(), 1) == "a"
    assert not reserved.done()
    queue.add("b", urgent=True)
    assert await asyncio.wait_for(reserved, 1) == "b"


async def test_a_revert_finds_a_worker_although_all_others_hang(queue: WorkQueue[str]) -> None:
    hanging = [asyncio.create_task(queue.get()) for _ in range(3)]
    reserved = asyncio.create_task(queue.get(only_urgent=True))
    for key in ("a", "b", "c", "d"):
        queue.add(key)
    await asyncio.gather(*hanging)
    queue.add("d", urgent=True)
    assert await asyncio.wait_for(reserved, 1) == "d"


async def test_closing_ends_every_worker_and_takes_no_more(queue: WorkQueue[str]) -> None:
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.close()
    with pytest.raises(Closed):
        await worker
    queue.add("a")
    queue.add_after("a", 1)
    with pytest.raises(Closed):
        await queue.get()


async def test_a_dropped_key_leaves_no_timer_behind(queue: WorkQueue[str], clock: Clock) -> None:
    queue.fail("a")
    queue.add_after("a", 5)
    queue.drop("a")
    clock.now += 10
    queue.fire()
    assert taken(queue) == []
    assert queue.fail("a") == 0.05


async def test_the_waiting_time_is_reported_with_its_lane(queue: WorkQueue[str], clock: Clock) -> None:
    seen: list[tuple[float, bool]] = []
    queue.counters.waited = lambda seconds, urgent: seen.append((seconds, urgent))
    queue.add("a")
    clock.now += 2
    queue.add("b", urgent=True)
    clock.now += 1
    assert taken(queue) == ["b", "a"]
    assert seen == [(1.0, True), (3.0, False)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 1000)), max_size=300))
@settings(deadline=None, max_examples=50)
def test_replaced_times_do_not_pile_up(wishes: list[tuple[str, int]]) -> None:
    async def run() -> None:
        queue: WorkQueue[str] = WorkQueue(clock=Clock())
        for key, seconds in wishes:
            queue.add_after(key, seconds)
        assert len(queue._heap) <= 2 * len(queue._due) + 65
        for key in "abc":
            expected = min((s for k, s in wishes if k == key), default=None)
            assert queue._due.get(key, (None,))[0] == (None if expected is None else 100.0 + expected)
        queue.close()

    asyncio.run(run())


class Histories(RuleBasedStateMachine):
    """A plain model beside the queue: what is wanted, what is in a worker, what is timed."""

    keys = st.sampled_from(["a", "b", "c", "d"])

    @initialize()
    def start(self) -> None:
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.queue: WorkQueue[str] = WorkQueue(clock=self.clock)
        self.wanted: dict[str, bool] = {}
        self.working: set[str] = set()
        self.timed: dict[str, tuple[float, bool]] = {}

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.queue.close)
            self.runner.close()

    def run(self, call: object, *args: object, **kwargs: object) -> object:
        async def inside() -> object:
            return call(*args, **kwargs)  # type: ignore[operator]

        return self.runner.run(inside())

    @rule(key=keys, urgent=st.booleans())
    def add(self, key: str, urgent: bool) -> None:
        self.run(self.queue.add, key, urgent=urgent)
        self.wanted[key] = self.wanted.get(key, False) or urgent

    @rule(key=keys, seconds=st.integers(1, 20), urgent=st.booleans())
    def add_after(self, key: str, seconds: int, urgent: bool) -> None:
        self.run(self.queue.add_after, key, seconds, urgent=urgent)
        due, was = self.timed.get(key, (float("inf"), False))
        self.timed[key] = (min(due, self.clock.now + seconds), was or urgent)

    @rule(seconds=st.integers(1, 25))
    def time_passes(self, seconds: int) -> None:
        self.clock.now += seconds
        self.run(self.queue.fire)
        for key, (due, urgent) in list(self.timed.items()):
            if due <= self.clock.now:
                del self.timed[key]
                self.wanted[key] = self.wanted.get(key, False) or urgent

    @rule()
    def take(self) -> None:
        free = {k: u for k, u in self.wanted.items() if k not in self.working}
        key = self.run(self.queue._pop)
        if not free:
            assert key is None
            return
        assert isinstance(key, str)
        assert key in free, "only what is wanted and not in a worker"
        assert free[key] == any(free.values()), "urgent keys first"
        del self.wanted[key]
        self.working.add(key)

    @rule(key=keys)
    def finish(self, key: str) -> None:
        if key in self.working:
            self.working.discard(key)
            self.run(self.queue.done, key)

    @invariant()
    def the_counts_agree(self) -> None:
        if hasattr(self, "queue"):
            assert self.queue.depth() == len([k for k in self.wanted if k not in self.working])
            assert self.queue.busy() == len(self.working)
            assert {k: v[:2] for k, v in self.queue._due.items()} == self.timed


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
