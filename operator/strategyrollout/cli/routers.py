"""`--close-router`: a person's word that a router's process has ended, so that nobody waits for it any more.

The word is believed: a router that is not gone after all goes on serving by its last table. So its pod is looked at
first, and one that plainly lives is refused.
"""

from __future__ import annotations

from strategyrollout.api.meta import ANNOTATION_CONSUMER, CONSUMER_CLOSED, LABEL_ROLLOUT_UID
from strategyrollout.cli.asking import Asking
from strategyrollout.cli.failure import Failed
from strategyrollout.cli.saying import Saying
from strategyrollout.cluster.cache import Body, uid_of
from strategyrollout.cluster.client import ApiError
from strategyrollout.cluster.consumers import ANNOTATION_CLOSED_BY, is_open, pod_of
from strategyrollout.cluster.kinds import LEASES, PODS


async def close(router: str, reason: str, asking: Asking, saying: Saying) -> str:
    """Closes the Lease of the router of this pod name or UID; returns the pod's name."""
    rollout = await asking.rollout()
    found = await asking.api.list(LEASES.path(asking.namespace), labels=f"{LABEL_ROLLOUT_UID}={uid_of(rollout)}")
    leases = [lease for lease in found.get("items") or [] if router in (pod_of(lease), lease["metadata"]["name"])]
    still = [lease for lease in leases if is_open(lease)]
    if not leases:
        names = ", ".join(sorted(pod_of(lease) for lease in found.get("items") or [] if is_open(lease))) or "none"
        raise Failed(f"{asking.name} has no router {router}", f"open Leases are of: {names}")
    if len(still) > 1:
        uids = ", ".join(str(lease["metadata"]["name"]) for lease in still)
        raise Failed(f"several processes were called {router}", f"name the one that has ended by its pod's UID: {uids}")
    if not still:
        saying.step(f"the Lease of {router} is closed already")
        return pod_of(leases[0])
    await _must_not_live(still[0], asking)
    words = {ANNOTATION_CONSUMER: CONSUMER_CLOSED, ANNOTATION_CLOSED_BY: f"{asking.user}: {reason}"}
    path = LEASES.path(asking.namespace, still[0]["metadata"]["name"])
    await asking.api.merge(path, {"metadata": {"annotations": words}})
    saying.step(f"closed the Lease of {pod_of(still[0])} on your word")
    return pod_of(still[0])


async def _must_not_live(lease: Body, asking: Asking) -> None:
    try:
        pod = await asking.api.get(PODS.path(asking.namespace, pod_of(lease)))
    except ApiError:  # gone, or not ours to see
        return
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    if uid_of(pod) == lease["metadata"]["name"] and ready:
        raise Failed(
            f"router {pod_of(lease)} is ready: it is serving",
            f"delete the pod first if it must go: kubectl delete pod {pod_of(lease)} -n {asking.namespace}",
        )
