"""What the operator tells about itself on `/metrics`. Figures name their start and end, so that sums mean something.

sample readable -> decided -> freeze written -> all acknowledged -> target serving
"""

from collections.abc import Callable

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.api.meta import BUCKETS, NOBODY
from strategyrollout.core.buckets import weight
from strategyrollout.ports import Key

BUCKETS_SECONDS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0,
    30.0, 60.0,
)  # fmt: skip

TRAFFIC = Gauge(
    "canary_traffic_percent",
    "Share of the units that a version owns, in percent.",
    ["rollout_namespace", "strategy", "version"],
)
ACTIVATIONS = Counter(
    "version_activations_total",
    "Times a version came to own all units.",
    ["rollout_namespace", "strategy", "version"],
)
SAMPLE_TO_DECIDED = Histogram(
    "strategyrollout_sample_to_decided_seconds",
    "From the deciding sample being readable to the decision to take traffic back.",
    buckets=BUCKETS_SECONDS,
)
DECIDED_TO_FREEZE = Histogram(
    "strategyrollout_decided_to_freeze_written_seconds",
    "From that decision to the answer of the write that stops the revision.",
    buckets=BUCKETS_SECONDS,
)
FREEZE_TO_ACKED = Histogram(
    "strategyrollout_freeze_to_all_acked_seconds",
    "From that write to the last consumer having confirmed it or been timed out.",
    buckets=BUCKETS_SECONDS,
)
FREEZE_TO_SERVING = Histogram(
    "strategyrollout_freeze_to_target_serving_seconds",
    "From that write to the write that gives the units to the target.",
    buckets=BUCKETS_SECONDS,
)
PASSES = Counter("strategyrollout_passes", "Looks at a rollout, by what came of them.", ["result"])
PASS_SECONDS = Histogram(
    "strategyrollout_pass_seconds", "How long one look at a rollout takes.", buckets=BUCKETS_SECONDS
)
QUEUE_SECONDS = Histogram(
    "strategyrollout_queue_seconds",
    "From a rollout being queued to a worker taking it.",
    ["lane"],
    buckets=BUCKETS_SECONDS,
)
DRIFT = Counter(
    "strategyrollout_missed_changes",
    "Changes that a list found and the watches had not reported.",
    ["kind"],
)
ROLLOUTS = Gauge("strategyrollout_rollouts", "Rollouts the operator knows.")
STATE = Gauge(
    "strategyrollout_rollout_state",
    "1 for the state a rollout is in, by the name its status has for it.",
    ["rollout_namespace", "strategy", "state"],
)
BLIND = Gauge(
    "strategyrollout_rollout_blind",
    "1 while no query of a rollout's gates is answered, else 0.",
    ["rollout_namespace", "strategy"],
)
LEADER = Gauge("strategyrollout_is_leader", "1 while this replica leads, 0 while it stands by.")
TRANSITIONS = Gauge("strategyrollout_leader_transitions", "How often the leader's Lease went from one to another.")

_shown: dict[Key, set[str]] = {}
_states: dict[Key, str] = {}


class Live(Collector):
    """Values that others keep, read when asked for. `requests` yields ((verb, resource, status), count)."""

    def __init__(
        self,
        depth: Callable[[], int],
        busy: Callable[[], int],
        retries: Callable[[], int],
        requests: Callable[[], dict[tuple[str, str, str], int]],
    ) -> None:
        self._depth, self._busy, self._retries, self._requests = depth, busy, retries, requests

    def collect(self) -> list[GaugeMetricFamily | CounterMetricFamily]:
        """Called by the exposition."""
        sent = CounterMetricFamily(
            "strategyrollout_api_requests", "Requests to the API server.", labels=["verb", "resource", "status"]
        )
        for labels, count in self._requests().items():
            sent.add_metric(labels, count)
        return [
            GaugeMetricFamily("strategyrollout_queue_depth", "Rollouts waiting for a worker.", value=self._depth()),
            GaugeMetricFamily("strategyrollout_queue_busy", "Rollouts being looked at.", value=self._busy()),
            CounterMetricFamily("strategyrollout_queue_retries", "Looks to be repeated.", value=self._retries()),
            sent,
        ]

    def register(self) -> None:
        """From now on part of `/metrics`."""
        REGISTRY.register(self)


def wrote(
    key: Key, before: AssignmentSpec | None, after: AssignmentSpec, versions: Callable[[str], str], at: int
) -> None:
    """After a write of an assignment returned, at `at` (ms). `versions` names the version of a revision."""
    _times(before, after, at)
    for revision in {r.owner for r in after.ranges} - {NOBODY}:
        held_all = before is not None and weight(before.ranges, revision) == BUCKETS
        if weight(after.ranges, revision) == BUCKETS and not held_all:
            ACTIVATIONS.labels(key.namespace, key.name, versions(revision)).inc()
    show_shares(key, after, versions)


def show_shares(key: Key, table: AssignmentSpec, versions: Callable[[str], str]) -> None:
    """Sets the gauge of each version; one that owns nothing any more is shown as 0 until the rollout is gone."""
    shares: dict[str, float] = dict.fromkeys(_shown.get(key, ()), 0.0)
    for revision in {r.owner for r in table.ranges} - {NOBODY}:
        version = versions(revision)
        shares[version] = shares.get(version, 0.0) + weight(table.ranges, revision) * 100 / BUCKETS
    for version, share in shares.items():
        TRAFFIC.labels(key.namespace, key.name, version).set(share)
    _shown[key] = set(shares)


def show_state(key: Key, state: str, *, blind: bool) -> None:
    """Sets the gauges that alerts are made of; a rollout has one state at a time."""
    before = _states.get(key)
    if before != state:
        if before is not None:
            STATE.remove(key.namespace, key.name, before)
        STATE.labels(key.namespace, key.name, state).set(1)
        _states[key] = state
    BLIND.labels(key.namespace, key.name).set(blind)


def forget(key: Key) -> None:
    """The rollout is gone."""
    if state := _states.pop(key, ""):
        STATE.remove(key.namespace, key.name, state)
        BLIND.remove(key.namespace, key.name)
    for version in _shown.pop(key, set()):
        TRAFFIC.remove(key.namespace, key.name, version)


def _times(before: AssignmentSpec | None, after: AssignmentSpec, at: int) -> None:
    revert = after.record.revert
    earlier = before.record.revert if before is not None else None
    if revert is None or (earlier is not None and earlier.served_at is not None and earlier.id == revert.id):
        return
    if earlier is None or earlier.id != revert.id:
        if revert.cause.sampled_at is not None:
            SAMPLE_TO_DECIDED.observe(max(0, revert.cause.at - revert.cause.sampled_at) / 1000)
        DECIDED_TO_FREEZE.observe(max(0, at - revert.cause.at) / 1000)
        return
    if before is None or revert.served_at is None or before.record.frozen_at is None:
        return
    if revert.stopped_at is not None:
        FREEZE_TO_ACKED.observe(max(0, revert.stopped_at - before.record.frozen_at) / 1000)
    FREEZE_TO_SERVING.observe(max(0, at - before.record.frozen_at) / 1000)
