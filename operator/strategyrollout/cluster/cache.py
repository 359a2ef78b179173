"""The latest known state of every object that matters, fed by watches and put right by lists.

Watches are edges and get lost: Kopf never reports an object that was deleted while its stream was down. So nothing is
trusted to arrive: whoever lists a kind hands the names to `keep_only`, which removes what is gone. An object only ever
moves forward in time here, whichever of watch, list or own write brings it first.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from strategyrollout.api.meta import LABEL_MANAGED_BY, LABEL_ROLE, LABEL_ROLLOUT_UID, MANAGED_BY, ROLE_ROUTER
from strategyrollout.cluster.kinds import (
    CLUSTER_TEMPLATES,
    CONFIGMAPS,
    DEPLOYMENTS,
    REVISIONS,
    ROLLOUTS,
    ROUTERS,
    TEMPLATES,
    WATCHED,
    Kind,
)
from strategyrollout.cluster.sharing import Sharing
from strategyrollout.ports import Key

Body = dict[str, Any]
Name = tuple[str, str]
Reference = tuple[Kind, str, str]
"""Kind, namespace (empty for cluster-wide kinds) and name of something that a rollout's spec mentions."""
Change = Callable[[Kind, Body | None, Body | None], None]

_REMEMBERED_UIDS = 10_000
_UNSEEN = {"managedFields", "selfLink", "generateName"}
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_APPLIED_BY_PEOPLE = {ROLLOUTS, TEMPLATES, CLUSTER_TEMPLATES}
_COUNTS = ("replicas", "readyReplicas")


def name_of(body: Body) -> Name:
    """Namespace (empty for cluster-wide kinds) and name."""
    meta = body["metadata"]
    return meta.get("namespace") or "", meta["name"]


def uid_of(body: Body) -> str:
    """The object's identity over time."""
    return str(body["metadata"].get("uid") or "")


def version_of(body: Body) -> int:
    """The resourceVersion as the number that it is on every server since 1.35 by promise and before in fact."""
    text = str(body["metadata"].get("resourceVersion") or "")
    return int(text) if text.isdigit() else 0


def labels_of(body: Body) -> dict[str, str]:
    """The labels; empty when there are none."""
    return body["metadata"].get("labels") or {}


def data_of(revision: Body) -> Body:
    """What a ControllerRevision keeps, also where it is kept packed here."""
    data = revision.get("data") or {}
    unpacked: Body = orjson.loads(data) if isinstance(data, bytes) else data
    return unpacked


class Cache:
    """Objects by kind, namespace and name. Bodies are shared: whoever reads them must not change them.

    `references` names what a rollout mentions; `changed` is called after each change with what was and what is.
    """

    def __init__(self, references: Callable[[Body], Iterable[Reference]], changed: Change) -> None:
        self._references = references
        self._changed = changed
        self._objects: dict[Kind, dict[Name, Body]] = {kind: {} for kind in WATCHED}
        self._children: dict[tuple[Kind, str], set[Name]] = {}
        self._users: dict[Reference, set[Name]] = {}
        self._mentions: dict[Name, frozenset[Reference]] = {}
        self._gone: dict[str, int] = {}  # UID -> no word of it counts up to this version
        self._sharing = Sharing()

    def get(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """The latest known state, or None."""
        return self._objects[kind].get((namespace if kind.namespaced else "", name))

    def count(self, kind: Kind) -> int:
        """How many objects of a kind there are."""
        return len(self._objects[kind])

    def all(self, kind: Kind, namespace: str | None = None) -> list[Body]:
        """Every object of a kind, of one namespace or of all."""
        items = self._objects[kind].items()
        return [body for (where, _), body in items if namespace is None or where == namespace]

    def children(self, kind: Kind, uid: str) -> Iterator[Body]:
        """Objects labelled as belonging to the rollout with this UID."""
        for name in sorted(self._children.get((kind, uid), ())):
            yield self._objects[kind][name]

    def users(self, kind: Kind, namespace: str, name: str) -> set[Key]:
        """Rollouts that mention an object, whether it exists or not."""
        reference = (kind, "" if kind is CLUSTER_TEMPLATES else namespace, name)
        return {Key(*user) for user in self._users.get(reference, ())}

    def put(self, kind: Kind, body: Body, *, own: bool = False) -> None:
        """Takes a state in, unless a newer one is known.

        `own`: the answer to a write of ours. It is news only if it tells of a status that no watch has told of yet; the
        watch, being behind it then, never will.
        """
        name, uid = name_of(body), uid_of(body)
        old = self._objects[kind].get(name)
        if old is not None:
            age = version_of(body) - version_of(old)
            if age < 0 or (age == 0 and uid_of(old) == uid):
                return
        if not self.wants(kind, body):
            if old is not None:
                self._forget(kind, name)
            return
        body = self._sharing.share(_looked_at(kind, body))
        if old is not None:
            self._unindex(kind, name, old)
        self._objects[kind][name] = body
        self._index(kind, name, body)
        if not own or (old is not None and old.get("status") != body.get("status")):
            self._changed(kind, old, body)

    def shared(self, body: Body) -> Body:
        """An equal body, made of parts that objects here are made of too; for what is kept beside them."""
        made: Body = self._sharing.share(body)
        return made

    def remove(self, kind: Kind, body: Body, version: int = 0) -> None:
        """The object of this UID is gone, as of `version` or its own; for good, unless it is a rollout."""
        uid = uid_of(body)
        if uid:
            # A rollout may have left by its labels and come back by them, which a watch tells like an end.
            self._gone[uid] = max(version, version_of(body)) if kind is ROLLOUTS else sys.maxsize
            if len(self._gone) > _REMEMBERED_UIDS:
                del self._gone[next(iter(self._gone))]
        old = self._objects[kind].get(name_of(body))
        if old is not None and uid_of(old) == uid:
            self._forget(kind, name_of(body))
            self._changed(kind, old, None)

    def wants(self, kind: Kind, body: Body) -> bool:
        """Whether an object would be kept: all but ConfigMaps that are neither ours nor mentioned by a rollout."""
        if version_of(body) <= self._gone.get(uid_of(body), -1):
            return False
        ours = labels_of(body).get(LABEL_MANAGED_BY) == MANAGED_BY
        return kind is not CONFIGMAPS or ours or (CONFIGMAPS, *name_of(body)) in self._users

    def keep_only(self, kind: Kind, namespace: str | None, uids: set[str], version: int) -> int:
        """Removes what a complete list of the kind, as of `version`, does not have. Returns how many."""
        stale = [b for b in self.all(kind, namespace) if uid_of(b) not in uids and version_of(b) <= version]
        for body in stale:
            self.remove(kind, body, version)
        return len(stale)

    def _forget(self, kind: Kind, name: Name) -> None:
        self._unindex(kind, name, self._objects[kind].pop(name))

    def _index(self, kind: Kind, name: Name, body: Body) -> None:
        if uid := labels_of(body).get(LABEL_ROLLOUT_UID):
            self._children.setdefault((kind, uid), set()).add(name)
        if kind is ROLLOUTS:
            self._mentions[name] = frozenset(self._references(body))
            for reference in self._mentions[name]:
                self._users.setdefault(reference, set()).add(name)

    def _unindex(self, kind: Kind, name: Name, body: Body) -> None:
        if uid := labels_of(body).get(LABEL_ROLLOUT_UID):
            _discard(self._children, (kind, uid), name)
        if kind is ROLLOUTS:
            for reference in self._mentions.pop(name, frozenset()):
                _discard(self._users, reference, name)


def _looked_at(kind: Kind, body: Body) -> Body:
    """An object without what nobody here looks at, which is most of it in bytes."""
    meta = {key: value for key, value in body["metadata"].items() if key not in _UNSEEN}
    if kind in _APPLIED_BY_PEOPLE and _LAST_APPLIED in (meta.get("annotations") or {}):
        meta["annotations"] = {k: v for k, v in meta["annotations"].items() if k != _LAST_APPLIED}
    if kind is ROUTERS:
        return _how_it_ends(body, meta)
    if kind is REVISIONS and labels_of(body).get(LABEL_ROLE) == ROLE_ROUTER:
        # Manifests, looked at once in a while and as large as all other revisions together: JSON is smaller and, when
        # thousands are read at a start, made in a twentieth of the time that finding their equal parts takes.
        return {**body, "metadata": meta, "data": orjson.dumps(body.get("data"))}
    if kind is DEPLOYMENTS:
        status = body.get("status") or {}
        return {**body, "metadata": meta, "status": {key: status[key] for key in _COUNTS if key in status}}
    return {**body, "metadata": meta}


def _how_it_ends(pod: Body, meta: Body) -> Body:
    """Of a router's pod: whose it is, and whether it has ended."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    containers = [{"name": c.get("name")} for c in spec.get("containers") or []]
    states = [{"state": c.get("state")} for c in status.get("containerStatuses") or []]
    return {
        "metadata": {key: value for key, value in meta.items() if key not in {"ownerReferences", "annotations"}},
        "spec": {"restartPolicy": spec.get("restartPolicy"), "containers": containers},
        "status": {"phase": status.get("phase"), "containerStatuses": states},
    }


def _discard(index: dict[Any, set[Name]], key: Any, name: Name) -> None:
    names = index.get(key, set())
    names.discard(name)
    if not names:
        index.pop(key, None)
