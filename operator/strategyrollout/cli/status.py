"""`status`: where a rollout is, told from the table first and the operator's report second.

The table is the truth about traffic. The report may be old: when the operator is down, and a moment after every write;
what it says is therefore shown with that warning, and shares always come from the table.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from strategyrollout.api.meta import BUCKETS, NOBODY
from strategyrollout.cli.asking import Asking
from strategyrollout.cli.failure import DONE
from strategyrollout.cli.saying import Saying, table
from strategyrollout.cluster.client import Body

_EVERY = 1.0
_NEXT = {
    "Reverted": "fix forward with a new version, or: kubectl strategyrollout retry {name} -n {namespace}",
    "RolledBack": "fix forward with a new version, or: kubectl strategyrollout retry {name} -n {namespace}",
    "Quarantined": "kubectl strategyrollout retry {name} -n {namespace}, or apply a fix",
    "AwaitingResume": "kubectl strategyrollout resume {name} -n {namespace}",
    "WaitingForConsumer": "mend that router or delete its pod; if its node is gone: docs/runbooks/on-call.md",
    "Pinned": "take spec.rollback away to let new versions start",
}


async def run(arguments: argparse.Namespace, asking: Asking, saying: Saying) -> int:
    """Says it once, or with `--watch` whenever it changes."""
    before = ""
    while True:
        rollout, assignment = await asyncio.gather(asking.rollout(), asking.assignment())
        facts = summary(rollout, assignment)
        text = "" if saying.as_json else "\n".join(sentences(facts, time.time()))
        if repr(facts) != before:
            saying.result(text + ("\n" if arguments.watch else ""), facts)
        before = repr(facts)
        if not arguments.watch:
            return DONE
        await asyncio.sleep(_EVERY)


def summary(rollout: Body, assignment: Body | None) -> dict[str, Any]:
    """Everything there is to know, for programs: the status with what the table says put right."""
    meta, status, spec = rollout["metadata"], rollout.get("status") or {}, rollout.get("spec") or {}
    held = assignment["spec"] if assignment else None
    facts = {
        "namespace": meta["namespace"],
        "name": meta["name"],
        "version": spec.get("version", ""),
        "generation": meta.get("generation"),
        **{field: value for field, value in status.items() if field not in ("conditions", "selector", "image")},
        "conditions": status.get("conditions") or [],
    }
    facts["reportIsOld"] = _is_old(rollout, held)
    if held is not None:
        facts["table"] = {"epoch": held["epoch"], "cause": held.get("cause"), "frozen": _share(_frozen(held))}
        facts["revisions"] = _revisions(status, held)
        facts["lastRevert"] = _revert(held) or status.get("lastRevert")
    return facts


def _is_old(rollout: Body, held: Body | None) -> str:
    """Why the report is not about how things are now; empty when it is."""
    status, generation = rollout.get("status") or {}, rollout["metadata"].get("generation")
    if not status:
        return "the operator has not looked at it yet"
    if held is not None and held["epoch"] != status.get("epoch"):
        return f"the table was changed since (epoch {held['epoch']}, the report is about {status.get('epoch')})"
    if status.get("observedGeneration") != generation:
        return "the spec was changed since"
    return ""


def _frozen(held: Body) -> int:
    return sum(r["to"] - r["from"] + 1 for r in held.get("ranges") or [] if r.get("next"))


def _share(buckets: int) -> str:
    return f"{buckets * 100 / BUCKETS:g}%"


def _revisions(status: Body, held: Body) -> list[dict[str, Any]]:
    """The revisions of the report with the shares of the table, and those that only the table knows."""
    shares: dict[str, int] = {}
    for r in held.get("ranges") or []:
        if not r.get("next"):
            shares[r["owner"]] = shares.get(r["owner"], 0) + r["to"] - r["from"] + 1
    known = [{**r, "weight": _share(shares.pop(r["revision"], 0))} for r in status.get("revisions") or []]
    rest = [{"revision": name, "version": name, "weight": _share(n)} for name, n in shares.items() if name != NOBODY]
    return known + rest


def _revert(held: Body) -> dict[str, Any] | None:
    revert = (held.get("record") or {}).get("revert")
    if revert is None:
        return None
    cause = revert["cause"]
    times = {"decidedAt": cause["at"], "stoppedAt": revert.get("stoppedAt"), "servedAt": revert.get("servedAt")}
    return {
        **{"away": revert["away"], "to": revert["to"], "weight": _share(revert["weight"])},
        **{"reason": cause["kind"], "message": cause.get("message", ""), "by": cause.get("by")},
        **{name: None if at is None else _instant(at) for name, at in times.items()},
    }


def _instant(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def sentences(facts: dict[str, Any], now: float) -> list[str]:
    """The same for people."""
    name, state = f"{facts['name']} in {facts['namespace']}", facts.get("state") or "not reported yet"
    lines = [f"{name}: {state}" + (f" (step {facts['step']})" if facts.get("step") else "")]
    lines += [f"  {facts['message']}"] if facts.get("message") else []
    lines += _warnings(facts)
    revisions = table(("VERSION", "REVISION", "ROLE", "SHARE", "PODS", ""), map(_row, facts.get("revisions") or []))
    gates = table(
        ("GATE", "VERDICT", "VALUE", "LIMIT", "SAMPLED", ""), (_gate(g, now) for g in facts.get("gates") or [])
    )
    lines += _block(revisions) + _block(gates) + _block([*_routers(facts), *_last_revert(facts), *_next(facts)])
    return lines


def _block(lines: Sequence[str]) -> list[str]:
    return ["", *(f"  {line}" for line in lines)] if lines else []


def _warnings(facts: dict[str, Any]) -> list[str]:
    lines = (
        [f"  ! this report is old: {facts['reportIsOld']}; is the operator running?"] if facts["reportIsOld"] else []
    )
    frozen = (facts.get("table") or {}).get("frozen", "0%")
    return lines + (
        [f"  ! {frozen} of the accounts are frozen: refused (423) until they are granted"] * (frozen != "0%")
    )


def _row(revision: dict[str, Any]) -> tuple[str, ...]:
    pods = f"{revision['ready']}/{revision['replicas']}" if "replicas" in revision else ""
    name, role = str(revision["revision"]), str(revision.get("role", "")).lower()
    return str(revision["version"]), name, role, revision["weight"], pods, str(revision.get("message", ""))


def _gate(gate: dict[str, Any], now: float) -> tuple[str, ...]:
    words = str(gate.get("message", "")) if gate["verdict"] != "Pass" else ""
    value, limit = str(gate.get("value") or "-"), str(gate.get("limit", ""))
    return str(gate["name"]), str(gate["verdict"]), value, limit, _ago(gate.get("sampledAt"), now), words


def _ago(stamp: str | None, now: float) -> str:
    if not stamp:
        return "never"
    seconds = max(0.0, now - datetime.fromisoformat(stamp).timestamp())
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{seconds / 60:.0f} min ago"


def _routers(facts: dict[str, Any]) -> list[str]:
    traffic = facts.get("traffic") or {}
    waiting = [f"{c['pod']} (confirmed {c.get('acked', 0)})" for c in traffic.get("waitingFor") or []]
    lines = [f"waiting for   {', '.join(waiting)}"] if waiting else []
    held = facts.get("table")
    return [f"table         epoch {held['epoch']}: {_cause(held)}", *lines] if held else lines


def _cause(held: dict[str, Any]) -> str:
    cause = held.get("cause") or {}
    return f"{cause.get('kind', '')}, {cause['message']}" if cause.get("message") else str(cause.get("kind", ""))


def _last_revert(facts: dict[str, Any]) -> list[str]:
    revert = facts.get("lastRevert")
    if not revert:
        return []
    known = {r["revision"]: str(r["version"]) for r in facts.get("revisions") or []}
    away, to = (known.get(str(revert[side]), str(revert[side])) for side in ("away", "to"))
    lines = [f"last revert   {away} -> {to}: {revert['reason']}, {revert['message']}"]
    begun = revert.get("decidedAt")
    told = [f"decided {begun}"] if begun else []
    told += [f"{word} {_after(begun, at)}" for word, at in _moments(revert) if at and begun]
    told += [] if revert.get("servedAt") else ["NOT FINISHED"]
    return [*lines, f"              {', '.join(told)}"]


def _moments(revert: dict[str, Any]) -> Iterable[tuple[str, str | None]]:
    return (("stopped", revert.get("stoppedAt")), ("target serving", revert.get("servedAt")))


def _after(begun: str, at: str) -> str:
    seconds = (datetime.fromisoformat(at) - datetime.fromisoformat(begun)).total_seconds()
    return f"+{seconds * 1000:.0f} ms" if seconds < 10 else f"+{seconds:.0f} s"


def _next(facts: dict[str, Any]) -> list[str]:
    words = _NEXT.get(str(facts.get("state")))
    return [f"next          {words.format(name=facts['name'], namespace=facts['namespace'])}"] if words else []
