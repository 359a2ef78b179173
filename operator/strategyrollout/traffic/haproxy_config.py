"""The routers' HAProxy configuration: everything about it that does not change while a router lives.

HAProxy decides alone, from one map that the agent swaps as a whole, and compares the deadline of leased ranges with
its own clock. What it cannot decide it refuses: a request is surely for one revision, or it is not let in.
"""

import re

from strategyrollout.core.routing import (
    ADMIT,
    ADMITTING,
    KEY_ADMITTING,
    KEY_NOT_AFTER,
    LEASED,
    SERVERS,
    UNIT_LENGTH,
    UNLISTED,
    backend_names,
    request_limit,
)

REVISION_HEADER = "X-Strategy-Revision"
"""Told to the strategy and to the client: who serves."""
TOKEN_HEADER = "X-Strategy-Token"
"""Told to the strategy: epoch of its grant."""

PORT = 8080
HEALTH_PORT = 8081

_SALT = re.compile(r"[A-Za-z0-9._-]{0,64}")
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_MAP = "${RUN_DIR}/table.map"


def haproxy_config(*, header: str, salt: str, drain: int) -> str:
    """Text of `haproxy.cfg`; `drain` in ms. Raises ValueError where a value could change what the text means."""
    if not _SALT.fullmatch(salt):
        raise ValueError(f"salt {salt!r} may have letters, digits, dots, dashes and underscores only")
    if not _HEADER.fullmatch(header):
        raise ValueError(f"spec.traffic.unit.header {header!r} may have letters, digits and dashes only")
    return "\n".join([_GLOBAL, _defaults(request_limit(drain)), _orders(header, salt), _HEALTH, _backends()])


# One thread: then a swap of the map happens between two requests and never within one, and a backend whose count of
# requests is zero after a swap has none from before it. One thread routes tens of thousands of requests a second.
_GLOBAL = """\
global
    nbthread 1
    maxconn 4096
    no strict-limits
    stats socket "${RUN_DIR}/admin.sock" mode 600 level admin
    stats timeout 1d
    log stdout format raw local0
"""


def _defaults(limit: int) -> str:
    # The time to reach a pod is small against the limit, because the limit starts to count after it. A request is
    # tried again only where no byte of it was sent.
    connect = min(max(limit // 5, 50), 1000)
    return f"""\
defaults
    mode http
    log global
    option httplog
    option dontlog-normal
    no option abortonclose
    timeout http-request 5s
    timeout http-keep-alive 60s
    timeout client {limit + 1000}ms
    timeout connect {connect}ms
    timeout queue {connect}ms
    timeout server {limit}ms
    timeout tunnel {limit}ms
    retries 2
    retry-on conn-failure
    option redispatch 1
    http-reuse safe
    default-server pool-purge-delay 1s
    http-error status 503 content-type text/plain string "no pod of this unit's revision answers; try again\\n"
    http-error status 504 content-type text/plain string "cut: no answer within {limit} ms (traffic.drain)\\n"
"""


def _orders(header: str, salt: str) -> str:
    refuse = "http-request return content-type text/plain"
    return f"""\
frontend orders
    bind "${{POD_IP}}:${{PORT}}"
    http-request set-log-level silent

    # Who it is for: exactly one unit, or nobody.
    {refuse} status 400 string "send {header} exactly once\\n" unless {{ req.fhdr_cnt({header}) eq 1 }}
    http-request set-var(txn.unit) req.fhdr({header})
    {refuse} status 400 string "{header} must be 1 to {UNIT_LENGTH} printable ASCII characters\\n" \
unless {{ var(txn.unit) -m reg '^[ -~]{{1,{UNIT_LENGTH}}}$' }}
    {refuse} status 501 string "connections are not tunnelled: they would outlive the drain\\n" \
if {{ req.hdr_cnt(Upgrade) gt 0 }} or {{ method CONNECT }}

    # The body is awaited before the decision: a slow client must not hold a request open across a move.
    http-request wait-for-body time 5s
    http-request set-var(txn.bucket) str({salt}:),concat(,txn.unit),sha2(256),hex,bytes(0,12),hex2i,mod(10000)
    http-request set-var(txn.row) "var(txn.bucket),map_int({_MAP},{UNLISTED})"
    http-request set-var(txn.admitting) "int({KEY_ADMITTING}),map_int({_MAP},{UNLISTED})"
    http-request set-var(txn.now) date(0,ms)
    http-request set-var(txn.left) "int({KEY_NOT_AFTER}),map_int({_MAP},0),sub(txn.now)"

    # Whether it may: from here on nothing waits until the request has its backend.
    {refuse} status 503 hdr Retry-After 1 hdr Connection close string "this router has no confirmed assignment\\n" \
unless {{ var(txn.admitting) -m str {ADMITTING} }}
    {refuse} status 503 hdr Retry-After 1 string "this unit's bucket is not in the assignment\\n" \
if {{ var(txn.row) -m str {UNLISTED} }}
    {refuse} status 423 hdr Retry-After 1 string "this unit is moving to another revision\\n" \
unless {{ var(txn.row),field(1,:) -m str {ADMIT} }}
    {refuse} status 423 hdr Retry-After 1 string "this unit's revision is on trial and the router is out of touch\\n" \
if {{ var(txn.row),field(5,:) -m str {LEASED} }} {{ var(txn.left) -m int le 0 }}
    http-request set-header {REVISION_HEADER} %[var(txn.row),field(3,:)]
    http-request set-header {TOKEN_HEADER} %[var(txn.row),field(4,:)]
    http-response set-header {REVISION_HEADER} %[var(txn.row),field(3,:)]
    http-request set-log-level info
    use_backend %[var(txn.row),field(2,:)]
"""


# Metrics of HAProxy's own, without its hundreds of servers: the thread that writes them also routes orders.
_HEALTH = f"""\
frontend health
    bind "${{POD_IP}}:${{HEALTH_PORT}}"
    http-request set-log-level silent
    http-request set-query scope=frontend&scope=backend if {{ path /metrics }}
    http-request use-service prometheus-exporter if {{ path /metrics }}
    http-request set-var(txn.admitting) "int({KEY_ADMITTING}),map_int({_MAP},{UNLISTED})"
    http-request return status 200 content-type text/plain string "ok\\n" \
if {{ path /readyz }} {{ var(txn.admitting) -m str {ADMITTING} }}
    http-request return status 503 content-type text/plain string "no confirmed assignment\\n" if {{ path /readyz }}
    http-request return status 404
"""


def _backends() -> str:
    return "\n".join(
        f"backend {name}\n    balance roundrobin\n    server-template s 1-{SERVERS} 0.0.0.0:80 disabled\n"
        for name in backend_names()
    )
