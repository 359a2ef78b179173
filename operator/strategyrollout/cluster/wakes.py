"""Which rollouts a change concerns, and whether they should hurry. Changes that the operator itself causes wake nobody.

Waking too often costs a pass, too seldom a wait until the next resync; nothing depends on it being right.
"""

from collections.abc import Iterable
from typing import Any

from strategyrollout.api.meta import (
    ANNOTATION_ACKED,
    ANNOTATION_CONSUMER,
    ANNOTATION_EMPTY,
    ANNOTATION_ROLLBACK,
    LABEL_ROLLOUT,
    LABEL_ROLLOUT_UID,
)
from strategyrollout.cluster.cache import Body, Cache, labels_of, name_of, uid_of
from strategyrollout.cluster.kinds import (
    ASSIGNMENTS,
    CLUSTER_TEMPLATES,
    CONFIGMAPS,
    LEASES,
    ROLLBACKS,
    ROLLOUTS,
    TEMPLATES,
    Kind,
)
from strategyrollout.ports import Key

_LEASE_WORDS = (ANNOTATION_ACKED, ANNOTATION_EMPTY, ANNOTATION_CONSUMER)


def concerned(cache: Cache, kind: Kind, old: Body | None, new: Body | None) -> Iterable[tuple[Key, bool]]:
    """(rollout, urgent) for each rollout that should be looked at because of a change from `old` to `new`."""
    body = new or old
    if body is None or (old is not None and new is not None and _same(kind, old, new)):
        return []
    namespace, name = name_of(body)
    if kind is ROLLOUTS:
        return [(Key(namespace, name), _asks_for_rollback(old, new))]
    if kind is ASSIGNMENTS:  # of a rollout that is not in the cache it is somebody else's, or about to be collected
        return [(Key(namespace, name), False)] if cache.get(ROLLOUTS, namespace, name) is not None else []
    if kind is ROLLBACKS:
        return [(Key(namespace, str(body.get("spec", {}).get("rollout"))), old is None)]
    if kind is TEMPLATES or kind is CLUSTER_TEMPLATES:
        return [(key, False) for key in cache.users(kind, namespace, name)]
    owner = labels_of(body).get(LABEL_ROLLOUT)
    if kind is CONFIGMAPS and owner is None:
        return [(key, False) for key in cache.users(kind, namespace, name)]
    if owner is None:
        return []
    if not _is_current(cache, Key(namespace, owner), body):
        # The name of what an earlier rollout leaves behind is free once it is deleted.
        waits = new is None and cache.get(ROLLOUTS, namespace, owner) is not None
        return [(Key(namespace, owner), False)] if waits else []
    # An acknowledgement is what a revert waits for, so it counts as urgent; no other news of a child does.
    return [(Key(namespace, owner), kind is LEASES)]


def _is_current(cache: Cache, key: Key, child: Body) -> bool:
    rollout = cache.get(ROLLOUTS, key.namespace, key.name)
    return rollout is not None and labels_of(child).get(LABEL_ROLLOUT_UID) == uid_of(rollout)


def _asks_for_rollback(old: Body | None, new: Body | None) -> bool:
    def words(body: Body | None) -> tuple[Any, Any]:
        body = body or {}
        annotations = body.get("metadata", {}).get("annotations") or {}
        return annotations.get(ANNOTATION_ROLLBACK), body.get("spec", {}).get("rollback")

    return old is not None and words(old) != words(new) and any(words(new))


def _same(kind: Kind, old: Body, new: Body) -> bool:
    """Whether nothing changed that a pass would look at."""
    if uid_of(old) != uid_of(new):
        return False
    before, after = old["metadata"], new["metadata"]
    if kind is LEASES:
        return _words(before) == _words(after)
    if kind is ROLLOUTS or kind is ROLLBACKS:  # their status is our own report
        looked_at = ("generation", "annotations", "labels", "deletionTimestamp")
        return all(before.get(field) == after.get(field) for field in looked_at)
    if kind is ASSIGNMENTS:
        return bool(old.get("spec") == new.get("spec"))
    looked_at = ("spec", "data", "binaryData", "status")
    return before.get("labels") == after.get("labels") and all(old.get(f) == new.get(f) for f in looked_at)


def _words(meta: dict[str, Any]) -> tuple[str | None, ...]:
    annotations = meta.get("annotations") or {}
    return tuple(annotations.get(word) for word in _LEASE_WORDS)
