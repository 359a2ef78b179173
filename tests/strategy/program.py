"""A trading strategy as small as an honest one can be: takes orders, fills them, makes and loses money, shows metrics.

One file of the standard library alone, because this file is the content of the example's container image: its digest
names exactly what runs. It can be told to misbehave, by `MISBEHAVE` when it starts or by `POST /misbehave` while it
runs, so that gates have something to find. With `ORDER_LOG` it writes one line of JSON for every order, by the one
clock of the machine, so that a test can judge at the strategies themselves who served whom and when: into that file, or
to standard output with `-`, where `kubectl logs` finds it.

Ports: 8080 orders (`POST /orders`, `GET /readyz`, `POST /misbehave`), 9100 metrics (`GET /metrics`).
"""

import asyncio
import bisect
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable

ORDERS_PORT, METRICS_PORT = 8080, 9100
KINDS = ("rejects", "drawdown", "slow", "crash", "silent-metrics", "memory")
OUTCOMES = ("accepted", "filled", "rejected")
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_CAPITAL = 1_000_000.0
_TICK_SECONDS = 0.1
_LONGEST_REQUEST = 65_536
_HOARD_BYTES = 1 << 29
_SLOW_FACTOR, _SLOW_LEAST_MS = 20, 200.0
_REJECTED_WHEN_BROKEN = 0.6
_LOSS_OF_EACH_FILL = 0.002
_REASONS = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    404: "Not Found",
    411: "Length Required",
    422: "Unprocessable Content",
    503: "Service Unavailable",
}


class Setting(ValueError):
    """A variable that cannot be read; the message names it."""


def number(name: str, default: float, least: float = 0.0, most: float = float("inf")) -> float:
    """A number from the environment. Raises Setting."""
    text = os.environ.get(name, "") or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value <= most:
        raise Setting(f"{name}={text!r} must be a number from {least:g} to {most:g}")
    return value


class Fault:
    """Which misbehaviour is on, and since when (seconds since 1970)."""

    def __init__(self, kind: str, since: float) -> None:
        self._set(kind, since)

    def _set(self, kind: str, since: float) -> None:
        if kind and kind not in KINDS:
            raise Setting(f"misbehaviour {kind!r} is not known; one of {', '.join(KINDS)}, or none")
        self.kind, self.since = kind, since

    def change(self, kind: str, since: float) -> None:
        """Begin another one at that time; an empty kind ends all. Raises Setting."""
        self._set(kind, since)

    def on(self, kind: str) -> bool:
        """Whether this one is on now."""
        return self.kind == kind and time.time() >= self.since


class Desk:
    """The simulated trading: prices move, orders are filled near them, and equity follows."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._rejected = number("REJECT_RATE", 0.0, most=1.0)
        self.price = 100.0
        self.ticked_at = time.time()
        self.equity = self.high_water = _CAPITAL
        self.counts = dict.fromkeys(OUTCOMES, 0)
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def tick(self) -> None:
        """A new price."""
        self.price *= 1.0 + random.gauss(0.0, 0.0002)
        self.ticked_at = time.time()

    def execute(self) -> str:
        """What becomes of an order: rejected by the risk check, filled, or accepted and left in the book."""
        if random.random() < (_REJECTED_WHEN_BROKEN if self._fault.on("rejects") else self._rejected):
            self.counts["rejected"] += 1
            return "rejected"
        self.counts["accepted"] += 1
        if random.random() < 0.05:
            return "accepted"
        self.counts["filled"] += 1
        self._earn()
        return "filled"

    def _earn(self) -> None:
        if self._fault.on("drawdown"):
            self.equity *= 1.0 - _LOSS_OF_EACH_FILL
        else:
            self.equity += random.gauss(0.4, 4.0)
        self.high_water = max(self.high_water, self.equity)

    def took(self, seconds: float) -> None:
        """An order was answered after so long."""
        self.buckets[bisect.bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def metrics(self, who: dict[str, str]) -> str:
        """All of it in the text format of Prometheus."""
        lines = ["# TYPE strategy_orders_total counter"]
        lines += [f'strategy_orders_total{{outcome="{name}"}} {count}' for name, count in self.counts.items()]
        gauges = {
            "strategy_equity": self.equity,
            "strategy_equity_high_water": self.high_water,
            "strategy_market_data_timestamp_seconds": self.ticked_at,
        }
        for name, value in gauges.items():
            lines += [f"# TYPE {name} gauge", f"{name} {value:.6f}"]
        lines.append("# TYPE strategy_order_seconds histogram")
        total = 0
        for bound, count in zip([*map(str, BOUNDS), "+Inf"], self.buckets, strict=True):
            total += count
            lines.append(f'strategy_order_seconds_bucket{{le="{bound}"}} {total}')
        lines += [f"strategy_order_seconds_sum {self.seconds:.6f}", f"strategy_order_seconds_count {total}"]
        # Not `version` and `revision`: Prometheus puts those on every series, from the labels of the pod.
        lines += [
            "# TYPE strategy_build_info gauge",
            f'strategy_build_info{{build="{os.environ.get("BUILD", "")}"}} 1',
            "",
        ]
        return "\n".join(lines)


def _order_log(path: str) -> int:
    if path == "-":
        return sys.stdout.fileno()
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


class Strategy:
    """Who this pod is, what it does, and which orders are being worked on."""

    def __init__(self) -> None:
        environment = os.environ.get
        self.who = {
            "revision": environment("REVISION", ""),
            "version": environment("VERSION", ""),
            "pod": environment("POD_NAME") or environment("HOSTNAME", ""),
        }
        since = time.time() + number("MISBEHAVE_AFTER_SECONDS", 0.0)
        self.fault = Fault(environment("MISBEHAVE", ""), since)
        self.desk = Desk(self.fault)
        self.milliseconds = number("ORDER_MS", 2.0, most=600_000)
        self.ending = False
        self._working = 0
        self.idle = asyncio.Event()
        self.idle.set()
        path = environment("ORDER_LOG", "")
        self._log = _order_log(path) if path else None

    def duration(self, asked: str) -> float:
        """Milliseconds an order takes; a request may ask for its own."""
        base = float(asked) if asked.replace(".", "", 1).isdigit() else self.milliseconds
        return max(base * _SLOW_FACTOR, _SLOW_LEAST_MS) if self.fault.on("slow") else base

    def record(self, account: str, started: float, ended: float, outcome: str) -> None:
        """One line in the log of orders, in one write, so that pods may share the file."""
        if self._log is None:
            return
        line = {"account": account, **self.who, "started": started, "ended": ended, "outcome": outcome}
        os.write(self._log, json.dumps(line).encode() + b"\n")

    def working(self, change: int) -> None:
        """So many orders more, or less, are being worked on."""
        self._working += change
        if self._working:
            self.idle.clear()
        else:
            self.idle.set()

    def _hoard(self) -> None:
        """More memory than any limit of a test, so that the kernel ends it."""
        self._hoarded = b"x" * _HOARD_BYTES

    def misbehave(self, body: bytes) -> tuple[int, dict[str, object]]:
        """Change the fault. `since` in seconds since 1970, now by default."""
        try:
            wish = json.loads(body or b"{}")
            kind = str(wish.get("kind") or "")
            self.fault.change("" if kind == "none" else kind, float(wish.get("since") or time.time()))
        except (ValueError, AttributeError, TypeError) as error:
            return 400, {"error": str(error)}
        delay = max(0.0, self.fault.since - time.time())
        if self.fault.kind == "crash":
            asyncio.get_running_loop().call_later(delay, os._exit, 3)
        if self.fault.kind == "memory":
            asyncio.get_running_loop().call_later(delay, self._hoard)
        return 200, {"kind": self.fault.kind, "since": self.fault.since, **self.who}


class Order:
    """One order being worked on."""

    def __init__(self, strategy: Strategy, account: str, asked: str, answer: Callable[[int, bytes], None]) -> None:
        self._strategy = strategy
        self._account = account
        self._answer = answer
        self._started = time.time()
        strategy.working(+1)
        seconds = strategy.duration(asked) / 1000
        self._timer = asyncio.get_running_loop().call_later(seconds, self._finish)

    def _finish(self) -> None:
        strategy = self._strategy
        outcome = strategy.desk.execute()
        ended = self._end(outcome)
        strategy.desk.took(ended - self._started)
        status = 422 if outcome == "rejected" else 200
        self._answer(status, json.dumps({"outcome": outcome, **strategy.who}).encode())

    def _end(self, outcome: str) -> float:
        ended = time.time()
        self._strategy.working(-1)
        # Before the answer: whoever has the answer may look into the log.
        self._strategy.record(self._account, self._started, ended, outcome)
        return ended

    def cancel(self) -> None:
        """Nobody waits for it any more: it must not trade after its router has cut it off."""
        self._timer.cancel()
        self._end("cancelled")


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, one request after the other; just what HAProxy and Prometheus send."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._buffer = b""
        self._order: Order | None = None
        self._close = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """An order whose connection ends is cancelled."""
        if self._order is not None:
            self._order.cancel()
            self._order = None

    def data_received(self, data: bytes) -> None:
        """Work on every request that is complete."""
        self._buffer += data
        self._next()

    def _next(self) -> None:
        while self._order is None and not self._transport.is_closing():
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > _LONGEST_REQUEST:
                    self._transport.abort()
                return
            first, *rest = self._buffer[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
            if "transfer-encoding" in headers:
                self._close = True
                self._reply(411, b'{"error": "send a Content-Length"}')
                return
            length = int(headers.get("content-length") or 0)
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            method, path, _version = (*first.split(" "), "", "")[:3]
            self._close = headers.get("connection", "").lower() == "close" or first.endswith("HTTP/1.0")
            self._handle(f"{method} {path.partition('?')[0]}", headers, body)

    def _handle(self, what: str, headers: dict[str, str], body: bytes) -> None:
        strategy = self._strategy
        if what == "POST /orders":
            account = headers.get("x-account-id", "")
            if not account:
                self._reply(400, b'{"error": "header X-Account-Id is missing"}')
            else:
                self._order = Order(strategy, account, headers.get("x-order-millis", ""), self._answered)
        elif what == "GET /metrics" and not strategy.fault.on("silent-metrics"):
            self._reply(200, strategy.desk.metrics(strategy.who).encode(), "text/plain; version=0.0.4")
        elif what == "GET /readyz":
            self._reply(503 if strategy.ending else 200, json.dumps(strategy.who).encode())
        elif what == "POST /misbehave":
            status, answer = strategy.misbehave(body)
            self._reply(status, json.dumps(answer).encode())
        else:
            self._reply(404, b'{"error": "not found"}')

    def _answered(self, status: int, body: bytes) -> None:
        self._order = None
        self._reply(status, body)
        self._next()

    def _reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
        close = self._close or self._strategy.ending
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            f"{'Connection: close' if close else 'Connection: keep-alive'}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        if close:
            self._transport.close()


async def serve() -> None:
    """Until SIGTERM, a little longer until routers know, and until no order is left; the grace period bounds that."""
    strategy = Strategy()
    linger = number("LINGER_SECONDS", 0.5, most=60)
    address = os.environ.get("POD_IP") or "0.0.0.0"
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    servers = [
        await loop.create_server(lambda: Connection(strategy), address, port, backlog=1024)
        for port in (ORDERS_PORT, METRICS_PORT)
    ]
    if strategy.fault.kind == "crash":
        loop.call_later(max(0.0, strategy.fault.since - time.time()), os._exit, 3)
    print(f"strategy {strategy.who} takes orders on {address}:{ORDERS_PORT}", flush=True)
    while not stop.is_set():
        strategy.desk.tick()
        try:
            await asyncio.wait_for(stop.wait(), _TICK_SECONDS)
        except TimeoutError:
            continue
    strategy.ending = True
    await asyncio.sleep(linger)
    for server in servers:
        server.close()
    await strategy.idle.wait()


if __name__ == "__main__":
    try:
        asyncio.run(serve())
    except Setting as bad:
        sys.exit(f"strategy: {bad}")
