"""The query plane and everything that can go wrong on the way to an answer."""

import asyncio
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from strategyrollout.core.gates import judge
from strategyrollout.metrics.poll import pause_after
from strategyrollout.metrics.prometheus import patience
from strategyrollout.ports import Key
from tests.cluster.processes import until
from tests.metrics.conftest import GREEN, KEY, Faulty, Watch, asking, now, number

BLUE = "00000000b1"


async def test_a_thousand_rollouts_are_one_query(faulty: Faulty, watching: Watch) -> None:
    keys = [Key(f"desk-{n % 7}", f"strategy-{n}") for n in range(1_000)]
    faulty.reactions["q"] = faulty.vector(*((key, str(n)) for n, key in enumerate(keys)))
    tight, loose = asking("q", name="tight"), asking("q", name="loose", above=None, below=Decimal(0))
    watcher = await watching(faulty.address)
    for key in keys:
        watcher.plane.watch(key, (GREEN, BLUE), (tight, loose))

    async def asked_thrice() -> bool:
        return len(faulty.asked) >= 3

    await until("the query was asked three times", asked_thrice, 20)
    assert set(faulty.asked) == {"q"}
    for n, key in enumerate(keys):
        assert number(watcher.recent(tight, key)[-1]) == n
        assert watcher.recent(loose, key) == watcher.recent(tight, key)
        assert watcher.recent(loose, key, BLUE)[-1].values == ()
    # Once a rollout for its first samples; the steady verdicts after that wake nobody.
    firsts = [key for key, _ in watcher.woken[: len(keys)]]
    assert sorted(firsts) == sorted(keys)


async def test_a_steady_verdict_wakes_nobody_and_a_breach_does_at_once(faulty: Faulty, watching: Watch) -> None:
    gate = asking("q")
    watcher = await watching(faulty.address)
    watcher.plane.watch(KEY, (GREEN,), (gate,))
    first = await watcher.sample(gate)
    await watcher.sample(gate, after=first.at + 300)
    assert watcher.woken == [(KEY, False)]
    faulty.reactions["q"] = faulty.says("0.09")
    await watcher.becomes("a breach", gate, lambda s: number(s) == Decimal("0.09"))
    assert watcher.woken[:2] == [(KEY, False), (KEY, True)]
    faulty.reactions["q"] = faulty.vector()
    await watcher.becomes("silence", gate, lambda s: not s.values)
    assert judge(gate, watcher.recent(gate), now()).verdict == "Breach"  # not taken back by silence


async def test_the_breaching_rollouts_are_woken_before_the_others(faulty: Faulty, watching: Watch) -> None:
    keys = [Key("desk", f"strategy-{n}") for n in range(20)]
    faulty.reactions["q"] = faulty.vector(*((key, "0.09" if n % 5 == 4 else "0.01") for n, key in enumerate(keys)))
    gate = asking("q", interval=60_000)
    watcher = await watching(faulty.address)
    for key in keys:
        watcher.plane.watch(key, (GREEN,), (gate,))

    async def all_woken() -> bool:
        return len(watcher.woken) == len(keys)

    await until("everybody was woken", all_woken, 10)
    assert watcher.woken[:4] == [(key, True) for key in keys[4::5]]


async def test_what_prometheus_is_sent(faulty: Faulty, watching: Watch) -> None:
    gate = asking("up > bool 0", interval=2_000, max_age=1_500, source={"headers": {"X-Scope-OrgID": "desk"}})
    watcher = await watching(faulty.address + "/")
    watcher.plane.watch(KEY, (GREEN,), (gate,))
    await watcher.sample(gate)
    assert faulty.forms["up > bool 0"] == {"query": "up > bool 0", "lookback_delta": "1500ms", "timeout": "4000ms"}
    assert faulty.headers["up > bool 0"]["X-Scope-OrgID"] == "desk"


async def test_watching_the_same_again_changes_nothing(faulty: Faulty, watching: Watch) -> None:
    gate = asking("q", of=3)
    watcher = await watching(faulty.address)
    watcher.plane.watch(KEY, (GREEN,), (gate,))
    await watcher.sample(gate)
    before = watcher.recent(gate)
    watcher.plane.watch(KEY, [GREEN, GREEN], [replace(gate)])
    assert watcher.recent(gate)[: len(before)] == before
    watcher.plane.watch(KEY, (BLUE, GREEN), (gate, asking("p")))
    assert watcher.recent(gate)[: len(before)] == before
    watcher.plane.watch(KEY, (BLUE, GREEN), (replace(gate, above=Decimal(1)),))
    assert watcher.recent(gate) == ()
    assert watcher.recent(replace(gate, above=Decimal(1))) == ()


async def test_a_query_ends_with_its_last_watcher(faulty: Faulty, watching: Watch) -> None:
    gate, other = asking("q"), asking("other")
    watcher = await watching(faulty.address)
    second = Key("desk-b", "momentum")
    watcher.plane.watch(KEY, (GREEN,), (gate,))
    watcher.plane.watch(second, (GREEN,), (gate, other))
    await watcher.sample(gate)
    watcher.plane.watch(KEY, (), ())
    assert watcher.recent(gate) == ()
    asked = len(faulty.asked)

    async def asked_more() -> bool:
        return faulty.asked[asked:].count("q") >= 2

    await until("it is still asked for the other rollout", asked_more, 10)
    watcher.plane.watch(second, (GREEN,), (other,))
    await asyncio.sleep(0.15)  # one question may be on its way
    asked = len(faulty.asked)

    async def others_asked() -> bool:
        return len(faulty.asked) >= asked + 4

    await until("the other query goes on", others_asked, 10)
    assert set(faulty.asked[asked:]) == {"other"}


async def test_a_hanging_query_delays_no_other(faulty: Faulty, watching: Watch) -> None:
    hanging, ticking = asking("hanging"), asking("ticking")
    faulty.reactions["hanging"] = faulty.hang
    watcher = await watching(faulty.address)
    watcher.plane.watch(KEY, (GREEN,), (hanging, ticking))
    await watcher.becomes("blind", hanging, lambda s: s.blind)
    assert faulty.asked.count("hanging") == 1
    assert faulty.asked.count("ticking") >= 3  # in the second that the other one was waited for
    assert watcher.recent(hanging)[-1].problem.endswith("did not answer within 1 s")
    assert watcher.plane.blind_since([hanging]) is not None
    assert watcher.plane.blind_since([hanging, ticking]) is None


async def test_hanging_queries_do_not_use_up_the_connections_of_a_source(faulty: Faulty, watching: Watch) -> None:
    hanging = [asking(f"hanging-{n}") for n in range(48)]
    for gate in hanging:
        faulty.reactions[gate.name] = faulty.hang
    watcher = await watching(faulty.address)
    watcher.plane.watch(Key("desk-b", "noisy"), (GREEN,), hanging)

    async def all_blind() -> bool:
        return watcher.plane.blind_since(hanging) is not None

    await until("all of them are blind", all_blind, 20)
    ticking = asking("ticking")
    watcher.plane.watch(KEY, (GREEN,), (ticking,))
    await watcher.sample(ticking)
    asked, began = len(faulty.asked), asyncio.get_running_loop().time()

    async def ticked() -> bool:
        return faulty.asked.count("ticking") >= 12

    await until("the healthy query ticks", ticked, 20)
    seconds = asyncio.get_running_loop().time() - began
    others = [query for query in faulty.asked[asked:] if query != "ticking"]
    assert len(others) <= 4 * (seconds + 2)  # four at a time, each for a second
    assert not any(sample.blind for sample in watcher.recent(ticking))


async def test_a_fast_gate_keeps_its_rate_and_makes_up_for_nothing(faulty: Faulty, watching: Watch) -> None:
    gate = asking("q")
    watcher = await watching(faulty.address)
    began = asyncio.get_running_loop().time()
    watcher.plane.watch(KEY, (GREEN,), (gate,))

    async def asked_twenty_times() -> bool:
        return len(faulty.asked) >= 20

    await until("it was asked 20 times", asked_twenty_times, 20, 0.01)
    ticks = (asyncio.get_running_loop().time() - began) / 0.1
    assert len(faulty.asked) <= ticks + 2  # never more often than its interval; how much less is up to the machine
    slow = asyncio.Event()

    async def late(request: Any) -> Any:
        await slow.wait()
        return await faulty.says("0.01")(request)

    faulty.reactions["q"] = late
    asked = len(faulty.asked)
    await asyncio.sleep(0.6)
    assert len(faulty.asked) <= asked + 2  # one at a time, so not six
    faulty.reactions.clear()
    asked, began = len(faulty.asked), asyncio.get_running_loop().time()
    slow.set()
    await asyncio.sleep(0.35)
    assert len(faulty.asked) - asked <= (asyncio.get_running_loop().time() - began) / 0.1 + 1


@pytest.mark.parametrize(
    ("status", "text", "problem"),
    [
        pytest.param(
            503, json.dumps({"error": "query timed out"}), "answered status 503: query timed out", id="overloaded"
        ),
        pytest.param(
            502, "<html>Bad Gateway</html>", "answered status 502: the body is not the JSON of a", id="an error page"
        ),
        pytest.param(429, "{}", "answered status 429", id="too many requests"),
        pytest.param(404, "nothing here", "answered status 404", id="no such page"),
        pytest.param(401, "{}", "answered status 401", id="not let in"),
        pytest.param(302, "", "answered status 302", id="elsewhere"),
        pytest.param(
            200, "hello", "answered status 200: the body is not the JSON of a Prometheus", id="another service"
        ),
        pytest.param(
            400, "plain HTTP to HTTPS port", "answered status 400", id="a bad request that is not about the query"
        ),
        pytest.param(200, '{"items": []}', "check source.address", id="another API"),
    ],
)
async def test_without_an_answer_it_is_blind(
    status: int, text: str, problem: str, faulty: Faulty, watching: Watch
) -> None:
    gate = asking("q")
    faulty.reactions["q"] = faulty.status(status, text)
    watcher = await watching(faulty.address)
    watcher.plane.watch(KEY, (GREEN,), (gate,))
    before = now()
    sample = await watcher.sample(gate)
    assert (sample.blind, sample.values) == (True, ())
    assert problem in sample.problem
    since = watcher.plane.blind_since([gate])
    assert since is not None
    assert before - 1_000 <= since <= sample.at
    assert watcher.plane.problems([gate]) == ()
    faulty.reactions.clear()
    await watcher.becomes("answered again", gate, lambda s: not s.blind)
    assert watcher.plane.blind_since([gate]) is None


@pytest.mark.parametrize(
    ("text", "source", "problem"),
    [
        pytest.param(
            json.dumps({"errorType": "execution", "error": "found duplicate series"}),
            {},
            "Prometheus refuses the query: found duplicate series; correct the query",
            id="a query that cannot be executed",
        ),
        pytest.param(
            "{}",
            {"address": "http://x:99999999"},
            "correct source.address or source.headers",
            id="an address that is none",
        ),
        pytest.param(
            "{}",
            {"headers": {"X-Tenant": "a\r\nb"}},
            "correct source.address or source.headers",
            id="a header that is none",
        ),
        pytest.param(" " * 9_000_000, {}, "the answer is larger than 8 MiB; aggregate in the query", id="far too much"),
    ],
)
async def test_what_only_a_person_can_mend_is_a_problem_of_the_gate(
    text: str, source: dict[str, Any], problem: str, faulty: Faulty, watching: Watch
) -> None:
    gate, good = asking("q", source=source), asking("good")
    faulty.reactions["q"] = faulty.status(422, text)
    watcher = await watching(faulty.address)
    watcher.plane.watch(KEY, (GREEN,), (gate, good))
    sample = await watcher.sample(gate)
    assert (sample.blind, sample.values) == (False, ())
    assert problem in sample.problem
    (found,) = watcher.plane.problems([good, gate])
    assert (found.reason, found.path) == ("InvalidGate", "spec.gates[q]")
    assert found.message == f"spec.gates[q]: {sample.problem}"
    assert watcher.plane.blind_since([gate]) is None


@pytest.mark.parametrize("nowhere", [None, ""])
async def test_a_gate_without_any_address_says_where_to_set_one(nowhere: str | None, watching: Watch) -> None:
    gate = asking("q")
    watcher = await watching(nowhere)
    watcher.plane.watch(KEY, (GREEN,), (gate,))
    sample = await watcher.sample(gate)
    assert sample.problem == ("no Prometheus to ask: set source.address, or STRATEGYROLLOUT_PROMETHEUS of the operator")
    assert len(watcher.plane.problems([gate])) == 1


async def test_nobody_listening_is_blind_and_keeps_passwords_to_itself(watching: Watch) -> None:
    gate = asking("q")
    watcher = await watching("http://desk:secret@127.0.0.1:1")
    watcher.plane.watch(KEY, (GREEN,), (gate,))
    sample = await watcher.sample(gate)
    assert sample.blind
    assert sample.problem.startswith("Prometheus at http://127.0.0.1:1 cannot be asked: ")
    assert "secret" not in sample.problem


async def test_an_idle_connection_closed_by_the_other_side_is_no_blindness(faulty: Faulty, watching: Watch) -> None:
    gate = asking("q")
    watcher = await watching(faulty.address)
    watcher.plane.watch(KEY, (GREEN,), (gate,))
    await watcher.sample(gate)

    async def once(request: Any) -> Any:
        faulty.reactions.clear()
        return await faulty.hang_up(request)

    faulty.reactions["q"] = once
    faulty.asked.clear()

    async def asked() -> bool:
        return len(faulty.asked) >= 4

    await until("it is asked again", asked, 10)
    assert watcher.woken == [(KEY, False)]


@pytest.mark.parametrize(
    ("interval", "failures", "pause"),
    [
        (100, 0, 100),
        (100, 1, 200),
        (100, 3, 800),
        (100, 9, 5_000),
        (100, 10_000, 5_000),
        (10_000, 0, 10_000),
        (10_000, 9, 10_000),
    ],
)
def test_a_failing_query_is_asked_less_often_and_yet_soon_again(interval: int, failures: int, pause: int) -> None:
    assert pause_after(interval, failures) == pause


@pytest.mark.parametrize(("interval", "seconds"), [(100, 1), (1_000, 2), (10_000, 5)])
def test_an_answer_is_waited_for(interval: int, seconds: float) -> None:
    assert patience(asking("q", interval=interval).query) == seconds
