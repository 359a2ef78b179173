"""When "nothing is in flight" is proven, and when it only looks so."""

from __future__ import annotations

import pytest

from strategyrollout.router.flight import Flight, Sample, begun_before, requests_so_far, samples_in

DRAIN = 1.0
IDLE, BUSY = Sample(0, 0), Sample(2, 0)


def watched(until: float = 10.0) -> Flight:
    """One that has seen an idle proxy for long."""
    flight = Flight()
    for second in range(int(until)):
        flight.observe({"slot0": IDLE}, float(second), DRAIN)
    return flight


@pytest.mark.parametrize(
    ("seen", "over"),
    [
        pytest.param([(10.01, IDLE)], True, id="idle"),
        pytest.param([(10.01, BUSY)], False, id="busy"),
        pytest.param([(10.01, BUSY), (10.2, IDLE)], True, id="became idle"),
        pytest.param([(10.01, BUSY), (10.99, BUSY)], False, id="busy all along"),
        pytest.param([(10.01, BUSY), (11.01, BUSY)], True, id="cut when the drain is over"),
        pytest.param([(10.01, Sample(0, 1))], False, id="a request was broken off and may go on at the strategy"),
        pytest.param([(10.01, Sample(0, 1)), (10.9, Sample(0, 1))], False, id="broken off lately"),
    ],
)
def test_in_flight_zero_is_said_only_when_it_is_proven(seen: list[tuple[float, Sample]], over: bool) -> None:
    flight = watched()
    flight.leave(frozenset({"slot0"}), 10.0)
    assert not flight.over
    for at, sample in seen:
        flight.observe({"slot0": sample}, at, DRAIN)
    assert flight.over is over


def test_after_a_restart_of_the_proxy_nothing_is_proven_for_a_drain() -> None:
    flight = watched()
    flight.forget()
    flight.leave(frozenset({"slot0"}), 10.0)
    flight.observe({"slot0": IDLE}, 10.1, DRAIN)
    flight.leave(frozenset({"slot0"}), 10.5)
    flight.observe({"slot0": IDLE}, 10.9, DRAIN)
    assert not flight.over
    flight.observe({"slot0": IDLE}, 11.1, DRAIN)
    assert flight.over


def test_what_an_earlier_table_left_is_waited_for_too() -> None:
    flight = watched()
    flight.leave(frozenset({"slot1"}), 10.0)
    flight.leave(frozenset({"slot0"}), 10.1)
    flight.observe({"slot0": IDLE, "slot1": BUSY}, 10.2, DRAIN)
    assert not flight.over


def test_samples_are_read_by_column_name() -> None:
    text = "# pxname,svname,qcur,scur,eresp,cli_abrt,srv_abrt,\nslot0,BACKEND,1,2,3,4,5,\nslot1,BACKEND,,0,,,,\n"
    assert samples_in(text) == {"slot0": Sample(3, 12), "slot1": Sample(0, 0)}
    assert samples_in("") == {}


def test_streams_are_chosen_by_backend_and_by_when_their_request_began() -> None:
    text = "\n".join(
        f"{stream}: [21/Nov/2026:03:51:48.000001] id={number} proto=tcpv4 source=127.0.0.1:1\n"
        f"  flags=0x8, conn_retries=0\n  backend={backend} (id=5 mode=http) addr=127.0.0.1:2"
        for stream, number, backend in [("0xa1", 9, "slot1"), ("0xa2", 10, "slot1"), ("0xa3", 9, "slot10")]
    )
    assert begun_before(text, frozenset({"slot1"}), requests_so_far("Uptime: 1\nCumReq: 10\nMaxconn: 3")) == ["0xa1"]
