"""`rollback`: makes a Rollback object and tells what becomes of it.

Everything is the operator's to do; this only asks and looks. So whoever may create a Rollback may use it, and killing
it changes nothing.
"""

from __future__ import annotations

import argparse
from typing import Any

from strategyrollout.api.meta import API_VERSION
from strategyrollout.cli.asking import Asking, Patience, version_of
from strategyrollout.cli.failure import DONE, FAILED, Failed
from strategyrollout.cli.saying import Saying
from strategyrollout.cluster.client import Body
from strategyrollout.cluster.kinds import ROLLBACKS, ROLLOUTS

_IGNORED_FOR = 4.0
_OUTCOMES = {"Succeeded", "NothingToDo", "Refused"}


async def run(arguments: argparse.Namespace, asking: Asking, saying: Saying) -> int:
    """Creates it and, unless told otherwise, waits for its outcome."""
    rollout = await asking.rollout()
    _must_exist(rollout, arguments.to, asking.namespace)
    body = {
        "apiVersion": API_VERSION,
        "kind": "Rollback",
        "metadata": {"generateName": f"{asking.name}-", "namespace": asking.namespace},
        "spec": {"rollout": asking.name, "to": arguments.to, "reason": arguments.reason},
    }
    created = await asking.api.create(ROLLBACKS.path(asking.namespace), body)
    name = str(created["metadata"]["name"])
    saying.step(f"created Rollback {name}: {arguments.reason}")
    if not arguments.wait:
        saying.result(f"see what becomes of it: kubectl get rollback {name} -n {asking.namespace}", _facts(created, {}))
        return DONE
    return await _followed(name, arguments.timeout, asking, saying)


def _must_exist(rollout: Body, to: str, namespace: str) -> None:
    """A typing error must not take a candidate back, which any rollback does first."""
    known = (rollout.get("status") or {}).get("revisions") or []
    if to == "Previous" or not known or any(to in (r["revision"], r["version"]) for r in known):
        return
    there = ", ".join(f"{r['version']} ({r['revision']}, {str(r['role']).lower()})" for r in known)
    raise Failed(f"{rollout['metadata']['name']} in {namespace} has no revision {to}", f"there are {there}")


async def _followed(name: str, timeout: float, asking: Asking, saying: Saying) -> int:
    patience, told = Patience(timeout), False
    hint = f"it stays asked for; look again with: kubectl get rollback {name} -n {asking.namespace} -o yaml"
    while True:
        asked = await patience.try_on(asking.api.get(ROLLBACKS.path(asking.namespace, name)), saying)
        rollout = await patience.try_on(asking.api.get(ROLLOUTS.path(asking.namespace, asking.name)), saying) or {}
        status = (asked or {}).get("status") or {}
        if asked is not None and status.get("outcome") in _OUTCOMES:
            return _ended(asked, rollout, saying)
        if status.get("outcome"):
            saying.step(str((rollout.get("status") or {}).get("message", "")))
        elif not told and patience.waited > _IGNORED_FOR:
            told = True
            saying.step("nobody has taken it up yet; is the operator running?")
            hint = f"if it is down: kubectl strategyrollout override {asking.name} -n {asking.namespace} --to ..."
        await patience.pause(f"Rollback {name} is not done", hint)


def _ended(asked: Body, rollout: Body, saying: Saying) -> int:
    status = asked["status"]
    outcome, message = status["outcome"], status.get("message", "")
    facts = _facts(asked, status)
    if outcome == "Refused":
        raise Failed(f"refused: {message}", **facts)
    if outcome == "NothingToDo":
        saying.result(f"nothing to do: {message}", facts)
        return DONE
    serving = version_of(rollout, status.get("revision"))
    saying.result(f"done: {serving} serves everything ({_times(status)})", facts)
    return DONE if outcome == "Succeeded" else FAILED


def _times(status: dict[str, Any]) -> str:
    told = {"decided": "decidedAt", "stopped": "stoppedAt", "serving": "servedAt"}
    return (
        ", ".join(f"{word} {status[field]}" for word, field in told.items() if status.get(field)) or "no traffic moved"
    )


def _facts(asked: Body, status: dict[str, Any]) -> dict[str, Any]:
    meta, spec = asked["metadata"], asked["spec"]
    named = {"namespace": meta["namespace"], "rollback": meta["name"], "rollout": spec["rollout"], "to": spec.get("to")}
    return {**named, "reason": spec.get("reason"), **status}
