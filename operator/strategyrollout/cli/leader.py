"""Whether an operator is at work: an override beside one that lives would only be in its way.

As in its own election, a time that another machine wrote is not compared with our clock unless it is minutes old: what
counts is whether the Lease changes while we look. An operator that was ended in order has given it back, and nothing is
waited for.
"""

from __future__ import annotations

from datetime import datetime

from strategyrollout.cli.asking import Asking, Patience
from strategyrollout.cli.failure import WRONG_USE, Failed
from strategyrollout.cli.saying import Saying
from strategyrollout.cluster.client import ApiError, NotFound, resource_path

_LONG_AGO = 60.0
_MARGIN = 0.5


async def must_be_gone(lease: str, asking: Asking, saying: Saying) -> None:
    """Returns when no operator leads, as far as can be seen; raises `Failed` when one does."""
    namespace, _, name = lease.partition("/")
    if not namespace or not name:
        raise Failed(f"--operator-lease {lease!r} is not NAMESPACE/NAME", code=WRONG_USE)
    path = resource_path("coordination.k8s.io/v1", "leases", namespace, name)
    first = await _read(path, lease, asking, saying)
    if first is None:
        return
    holder, stamp, duration = first
    if not holder:
        saying.step("no operator leads: the last one gave its Lease back")
        return
    age = asking.server_time - datetime.fromisoformat(stamp).timestamp()
    if age > duration + _LONG_AGO:
        saying.step(f"no operator leads: {_pod(holder)} renewed its Lease {age:.0f} s ago for the last time")
        return
    saying.step(f"looking for {duration:.0f} s whether operator {_pod(holder)} still renews its Lease {lease}")
    patience = Patience(duration + 60)
    while patience.waited < duration + _MARGIN:
        await patience.pause("cannot tell whether an operator leads")
        again = await _read(path, lease, asking, saying)
        if again is None or not again[0]:
            return
        if again[:2] != (holder, stamp):
            raise alive(f"an operator is alive: {_pod(again[0])} has just renewed its Lease {lease}", asking)
    saying.step(f"no operator leads: {_pod(holder)} has stopped renewing its Lease")


def alive(message: str, asking: Asking) -> Failed:
    """The refusal, with what to do instead."""
    return Failed(
        message,
        f"ask it: kubectl strategyrollout rollback {asking.name} -n {asking.namespace} --reason ...\n"
        "(or repeat with --even-if-operator-alive)",
    )


async def _read(path: str, lease: str, asking: Asking, saying: Saying) -> tuple[str, str, float] | None:
    """Holder, time of the last renewal and duration; None when there is no Lease or it is not ours to read."""
    try:
        spec = (await asking.api.get(path)).get("spec") or {}
    except ApiError as error:
        why = "there is no Lease" if isinstance(error, NotFound) else f"{error.reason} to read Lease"
        saying.note(f"cannot see whether an operator runs: {why} {lease} (--operator-lease names another)")
        return None
    stamp = str(spec.get("renewTime") or "1970-01-01T00:00:00Z")
    return str(spec.get("holderIdentity") or ""), stamp, float(spec.get("leaseDurationSeconds") or 15)


def _pod(holder: str) -> str:
    return holder.partition("_")[0]
