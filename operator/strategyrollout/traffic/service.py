"""Provider `service`: one Service whose selector is the revision that the assignment names. For blue/green only.

A Service knows no units, confirms nothing and keeps established connections, so this provider cannot keep the rules
that need acknowledgement: for as long as the cluster's proxies take, two revisions may serve. It says so in `KEEPS`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from strategyrollout.api.assignment import AssignmentSpec, Range
from strategyrollout.api.meta import NOBODY
from strategyrollout.core.build import Owner, owned, selector, service_port
from strategyrollout.traffic.guarantees import Guarantees

KEEPS = Guarantees(
    acknowledged=False,
    by_unit=False,
    drained=False,
    note="Established connections outlive the switch; pods of a reverted revision are ended at once because of that.",
)


def served(ranges: Sequence[Range]) -> str:
    """The revision all requests go to: the owner of the ranges; of several the one with most buckets.

    What is frozen on its way to another revision goes to nobody: a revert whose target has no pod must still stop what
    it takes away. What is frozen towards its own owner (a repair) keeps being served.
    """
    buckets: Counter[str] = Counter()
    for part in ranges:
        stopped = part.next is not None and part.next != part.owner
        buckets[NOBODY if stopped else part.owner] += part.end - part.start + 1
    return min(buckets, key=lambda name: (-buckets[name], name)) if buckets else NOBODY


def service(
    owner: Owner, name: str, port: str, assignment: AssignmentSpec, *, target: str | None = None
) -> dict[str, Any]:
    """The Service as it should be. With nobody to serve it selects no pod at all.

    `target` is the container port of who is served, where it is not called like the Service's own.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owned(owner, name, {}),
        "spec": {"selector": selector(owner, served(assignment.ranges)), "ports": [service_port(port, target)]},
    }
