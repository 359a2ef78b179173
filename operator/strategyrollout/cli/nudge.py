"""`retry`, `resume`, `promote`: one annotation each, with a value that is new every time, and what came of it."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from strategyrollout.api.meta import GROUP
from strategyrollout.cli.asking import Asking, Patience
from strategyrollout.cli.failure import DONE, Failed
from strategyrollout.cli.saying import Saying
from strategyrollout.cluster.client import Body
from strategyrollout.cluster.kinds import ROLLOUTS


async def run(arguments: argparse.Namespace, asking: Asking, saying: Saying) -> int:
    """Asks, and waits until the operator has latched it."""
    rollout, verb = await asking.rollout(), str(arguments.command)
    if verb == "retry":
        _must_be_asked_for(rollout, arguments.revision)
    user = await asking.identify()
    value = f"{datetime.now(UTC).isoformat(timespec='milliseconds')} by {user}"
    value += f": {arguments.reason}" if arguments.reason else ""
    annotation = f"{GROUP}/{verb}"
    path = ROLLOUTS.path(asking.namespace, asking.name)
    await asking.api.merge(path, {"metadata": {"annotations": {annotation: value[:500]}}})
    saying.step(f"asked to {verb} {asking.name}")
    facts: dict[str, object] = {"namespace": asking.namespace, "name": asking.name, "verb": verb, "value": value[:500]}

    if not arguments.wait:
        saying.result(
            f"see what becomes of it: kubectl strategyrollout status {asking.name} -n {asking.namespace}", facts
        )
        return DONE
    patience = Patience(arguments.timeout)
    while not _latched(await patience.try_on(asking.assignment(), saying), annotation, value[:500]):
        await patience.pause(
            f"the operator has not taken up the {verb}", "it stays asked for; is the operator running?"
        )
    status = (await asking.rollout()).get("status") or {}
    facts |= {"takenUp": True, "state": status.get("state"), "message": status.get("message")}
    saying.result(f"the operator has taken it up; {status.get('state')}: {status.get('message')}", facts)
    return DONE


def _latched(assignment: Body | None, annotation: str, value: str) -> bool:
    handled = (((assignment or {}).get("spec") or {}).get("record") or {}).get("handled") or {}
    return bool(handled.get(annotation) == value)


def _must_be_asked_for(rollout: Body, revision: str | None) -> None:
    """A retry tries what the spec asks for; a name says which one the person has in mind."""
    status, version = rollout.get("status") or {}, (rollout.get("spec") or {}).get("version")
    pending = (status.get("pending") or {}).get("revision")
    if revision is None or revision in (version, pending):
        return
    raise Failed(
        f"{revision} is not what {rollout['metadata']['name']} asks for: its spec says {version}",
        f"apply {revision} to try that one; retry without a name tries {version}",
    )
