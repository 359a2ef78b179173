"""What a real HAProxy does with requests under a table that a real agent put into force."""

from __future__ import annotations

import asyncio
import itertools
import socket
from typing import Any

import pytest

from strategyrollout.core.routing import bucket_of
from tests.router.fake_api import FakeApi
from tests.router.router import CANDIDATE, HEADER, SALT, STABLE, Router, Strategy, assignment, span, until

UNITS = [
    *(f"ACC-{number:08d}" for number in range(700)),
    *(f"{number * 2654435761 % 2**64:016x}" for number in range(700)),
    *(str(number * 37) for number in range(596)),
    "a b",
    "a,b:c",
    "~" * 128,
    '"quoted" \\ %[var(txn.b)]',
]


async def served_by(router: Router) -> dict[str, str]:
    """Who serves each of the units, asked over a few connections."""
    found: dict[str, str] = {}
    queue = iter(UNITS)

    async def ask() -> None:
        for unit in queue:
            reply = await router.send(unit)
            assert reply.status == 200, (unit, reply)
            found[unit] = reply.by

    await asyncio.gather(*(ask() for _ in range(16)))
    return found


async def test_two_thousand_units_go_where_the_reference_says_and_none_leaves_a_growing_share(
    router: Router, api: FakeApi
) -> None:
    before: set[str] = set()
    for epoch, share in enumerate((1, 10, 100, 1000, 2500, 5000, 9999), start=1):
        ranges = (span(0, share - 1, CANDIDATE), span(share, 9999, STABLE))
        api.put_assignment(assignment(epoch, *ranges))
        await router.acked(epoch)
        found = await served_by(router)
        expected = {unit: CANDIDATE if bucket_of(SALT, unit) < share else STABLE for unit in UNITS}
        assert found == expected
        chosen = {unit for unit, revision in found.items() if revision == CANDIDATE}
        assert before <= chosen
        before = chosen


async def test_a_table_of_many_ranges_is_in_force_to_the_last_bucket(router: Router, api: FakeApi) -> None:
    owners = (STABLE, CANDIDATE)
    edges = [round(i * 10_000 / 512) for i in range(513)]
    ranges = [span(a, b - 1, owners[i % 2], token=10**13 + i) for i, (a, b) in enumerate(itertools.pairwise(edges))]
    api.put_assignment(assignment(1, *ranges))
    await router.acked(1)
    found = await served_by(router)
    index = {bucket: i for i, (a, b) in enumerate(itertools.pairwise(edges)) for bucket in range(a, b)}
    assert found == {unit: owners[index[bucket_of(SALT, unit)] % 2] for unit in UNITS}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 400),
        ([(HEADER, "42"), (HEADER, "42")], 400),
        ([(HEADER, "")], 400),
        ([(HEADER, "a" * 129)], 400),
        ([(HEADER, "caf\xe9")], 400),
        ([(HEADER, "a\tb")], 400),
        ([(HEADER, "42"), ("Upgrade", "ticks"), ("Connection", "Upgrade")], 501),
        ([(HEADER, "42")], 200),
        ([(HEADER, "  42  ")], 200),
        ([(HEADER, "a" * 128)], 200),
        # What a client says about itself is not passed on; the strategy sees each header once.
        ([(HEADER, "42"), ("X-Strategy-Token", "999"), ("X-Strategy-Revision", CANDIDATE)], 200),
    ],
)
async def test_a_request_without_exactly_one_proper_unit_is_refused(
    router: Router, api: FakeApi, headers: list[tuple[str, str]], status: int
) -> None:
    api.put_assignment(assignment(3, span(0, 9999, STABLE, token=2)))
    await router.acked(3)
    lines = [f"{name}: {value}" for name, value in headers]
    request = "\r\n".join(["GET /orders HTTP/1.1", "Host: x", "Connection: close", *lines, "", ""])
    if status == 501:
        request = request.replace("Connection: close\r\n", "")
    reply = await raw(router, request.encode("latin-1"))
    assert reply.startswith(f"HTTP/1.1 {status} ")
    if status == 200:
        assert '"token": "2"' in reply
        assert f'"told": "{STABLE}"' in reply


async def raw(router: Router, request: bytes) -> str:
    reader, writer = await asyncio.open_connection(router.host, router.port)
    writer.write(request)
    reply = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    length = next(
        (int(line.split(b":")[1]) for line in reply.lower().splitlines() if line.startswith(b"content-length")), 0
    )
    reply += await reader.readexactly(length)
    writer.close()
    return reply.decode()


@pytest.mark.parametrize(
    ("ranges", "status", "retry"),
    [
        ([span(0, 9999, STABLE)], 200, None),
        ([span(0, 9999, STABLE, to=CANDIDATE)], 423, "1"),
        ([span(0, 9999, CANDIDATE, to=STABLE, leased=True)], 423, "1"),
        ([span(0, 9999, "nobody")], 423, "1"),
        ([span(0, 9999, "nobody", to=STABLE)], 423, "1"),
        ([span(0, 9999, CANDIDATE, leased=True)], 200, None),
        ([span(0, 99, STABLE)], 503, "1"),
        ([], 503, "1"),
        ([span(0, 9999, "cccccccccc")], 503, None),
    ],
)
async def test_what_is_not_surely_somebodys_is_refused(
    router: Router, api: FakeApi, ranges: list[Any], status: int, retry: str | None
) -> None:
    api.put_assignment(assignment(1, *ranges))
    await router.acked(1)
    reply = await router.send("42")
    assert (reply.status, reply.headers.get("Retry-After")) == (status, retry)


async def test_nothing_is_served_before_an_assignment_was_read(router: Router, api: FakeApi) -> None:
    await until(lambda: router.lease.get("consumer") == "Open", "an open lease")
    assert router.lease["acked-epoch"] == "0"
    await until(lambda: len(api.reads) > 2, "reads")
    assert (await router.send()).status == 503
    assert await router.ready() == 503
    api.put_assignment(assignment(1, span(0, 9999, STABLE)))
    await router.acked(1)
    assert (await router.send()).status == 200
    assert await router.ready() == 200


async def test_what_lasts_longer_than_the_drain_is_cut(router: Router, api: FakeApi) -> None:
    api.put_assignment(assignment(1, span(0, 9999, STABLE)))
    await router.acked(1)
    assert (await router.send(query="for=0.35")).status == 200
    reply = await router.send(query="for=0.8")
    assert (reply.status, reply.text) == (504, "cut: no answer within 500 ms (traffic.drain)\n")


async def test_only_ready_pods_are_sent_to_and_a_dead_one_costs_no_order(
    router: Router, api: FakeApi, stable: Strategy
) -> None:
    async with Strategy(STABLE, port=stable.port).running() as second:
        api.put_pods(STABLE, {stable.host: True, second.host: False, "127.1.1.1": False}, stable.port)
        api.put_assignment(assignment(1, span(0, 9999, STABLE)))
        await router.acked(1)
        assert [(await router.send()).status for _ in range(10)] == [200] * 10
        assert (len(stable.orders), len(second.orders)) == (10, 0)
        api.put_pods(STABLE, {stable.host: False, second.host: True}, stable.port)
        await router.says("ready pods of aaaaaaaaaa: " + second.host)
        await asyncio.sleep(0.05)
        assert [(await router.send()).status for _ in range(10)] == [200] * 10
        assert (len(stable.orders), len(second.orders)) == (10, 10)
        # Its process is gone and nobody has noticed yet: the connection is refused, another pod takes the order.
        api.put_pods(STABLE, {"127.1.1.2": True, second.host: True}, stable.port)
        await router.says("ready pods of aaaaaaaaaa: 127.1.1.2")
        await asyncio.sleep(0.05)
        assert [(await router.send()).status for _ in range(10)] == [200] * 10
        assert len(second.orders) == 20


async def test_a_body_that_does_not_come_is_not_waited_for_after_the_decision(router: Router, api: FakeApi) -> None:
    api.put_assignment(assignment(1, span(0, 9999, STABLE)))
    await router.acked(1)
    reader, writer = await asyncio.open_connection(router.host, router.port)
    writer.write(f"POST / HTTP/1.1\r\nHost: x\r\n{HEADER}: 42\r\nContent-Length: 5\r\n\r\nab".encode())
    await asyncio.sleep(0.2)
    # The decision comes when the body is whole, by the table of that moment.
    api.put_assignment(assignment(2, span(0, 9999, CANDIDATE)))
    await router.acked(2)
    writer.write(b"cde")
    reply = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert f"x-strategy-revision: {CANDIDATE}" in reply.decode().lower()
    writer.close()


async def test_only_the_pods_own_address_listens(router: Router, api: FakeApi) -> None:
    await until(lambda: router.lease.get("consumer") == "Open", "an open lease")
    assert (await router.send()).status == 503
    with socket.socket() as other:
        assert other.connect_ex(("127.0.0.1", router.port)) != 0
