"""The objects that make a revision run, as they should be. Plain dicts out of plain values; nothing here can fail.

Each object is a function of the revision and the number of pods alone, so an object that differs in the cluster was
changed by somebody, and one that is gone can be made again.

What decides how pods run is rendered once, when the revision is new, and kept in its ControllerRevision. A newer
operator that would render it differently goes by what is kept, so its upgrade restarts nothing.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strategyrollout.api.meta import (
    ANNOTATION_VERSION,
    API_VERSION,
    GROUP,
    LABEL_MANAGED_BY,
    LABEL_REVISION,
    LABEL_ROLE,
    LABEL_ROLLOUT,
    LABEL_ROLLOUT_UID,
    LABEL_VERSION,
    MANAGED_BY,
    ROLE_ROUTER,
    ROLE_STRATEGY,
    label_version,
)
from strategyrollout.core.observed import Revision
from strategyrollout.core.revision import (
    Content,
    canonical_json,
    config_hash,
    configmap_references,
    rewrite_references,
    stored_data,
)

Body = dict[str, Any]

ANNOTATION_CONFIG = f"{GROUP}/config"
SERVICE_PORT = 80
"""Port of every Service we make."""
ROUTED_PORT = "orders"
"""Name by which routers know the port of a revision's Service, and Services that of a router. Never changes, because
revisions and routers of different age, with different `spec.traffic.port`, must find each other."""
_RENDERED = "rendered"
_LONGEST_NAME = 253
_DEADLINE_SECONDS = 600


@dataclass(frozen=True)
class Owner:
    """The rollout that objects are made for."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class Children:
    """Everything one revision needs, in the order in which it must be made."""

    record: Body
    """The ControllerRevision: without it nobody would know afterwards what the others are."""
    copies: tuple[Body, ...]
    service: Body
    deployment: Body

    def with_replicas(self, replicas: int) -> Body:
        """The Deployment with another number of pods."""
        return {**self.deployment, "spec": {**self.deployment["spec"], "replicas": replicas}}


def child_name(owner: Owner, revision: str) -> str:
    """Name of a revision's ControllerRevision, Service and Deployment."""
    return f"{owner.name}-{revision}"


def copy_name(owner: Owner, revision: str, configmap: str) -> str:
    """Name of a revision's copy of a ConfigMap. Carries the rollout's name: two rollouts may run the same content."""
    name = f"{owner.name}-{revision}-{configmap}"
    if len(name) <= _LONGEST_NAME:
        return name
    tail = hashlib.sha256(configmap.encode()).hexdigest()[:10]
    return f"{name[: _LONGEST_NAME - 11].rstrip('-.')}-{tail}"


def owned(owner: Owner, name: str, labels: Mapping[str, str], annotations: Mapping[str, str] | None = None) -> Body:
    """`metadata` of an object that belongs to the rollout and goes with it."""
    meta: Body = {
        "name": name,
        "namespace": owner.namespace,
        "labels": {
            LABEL_ROLLOUT: owner.name,
            LABEL_ROLLOUT_UID: owner.uid,
            LABEL_MANAGED_BY: MANAGED_BY,
            **labels,
        },
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": "StrategyRollout",
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    if annotations:
        meta["annotations"] = dict(annotations)
    return meta


def selector(owner: Owner, revision: str) -> dict[str, str]:
    """Labels that exactly the pods of a revision have."""
    return {LABEL_ROLLOUT: owner.name, LABEL_REVISION: revision}


def children(owner: Owner, revision: Revision, content: Content, *, port: str, replicas: int = 0) -> Children:
    """All objects of a revision."""
    name = child_name(owner, revision.hash)
    labels = _labels(revision)
    annotations = {ANNOTATION_VERSION: revision.version}
    copies = {source: copy_name(owner, revision.hash, source) for source in content.configmaps}
    rendered = _rendered(owner, revision, content, port)
    data = content.kept
    if data is None:
        data = {**stored_data(content, revision), _RENDERED: rendered}
    return Children(
        record={
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": owned(owner, name, labels, annotations),
            "revision": 1,
            "data": data,
        },
        copies=tuple(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": owned(owner, copies[source], labels, annotations),
                "immutable": True,
                **content.configmaps[source],
            }
            for source in sorted(copies)
        ),
        service={
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": owned(owner, name, labels, annotations),
            "spec": rendered["service"],
        },
        deployment={
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": owned(owner, name, labels, annotations),
            "spec": {"replicas": replicas, **rendered["deployment"]},
        },
    )


def service_port(port: str, target: str | None = None) -> Body:
    """The one port of a Service; `target` is the name of the container port when it is another one."""
    return {"name": port, "port": SERVICE_PORT, "targetPort": target or port, "protocol": "TCP"}


def target_port(content: Content | None, default: str) -> str:
    """The container port that takes a revision's requests: `spec.traffic.port` as it was when the revision was new."""
    kept = content.kept if content is not None else None
    return str(kept[_RENDERED]["service"]["ports"][0]["targetPort"]) if kept and _RENDERED in kept else default


def _labels(revision: Revision) -> dict[str, str]:
    return {
        LABEL_REVISION: revision.hash,
        LABEL_VERSION: label_version(revision.version).rstrip("-_."),
        LABEL_ROLE: ROLE_STRATEGY,
    }


def _rendered(owner: Owner, revision: Revision, content: Content, port: str) -> Body:
    """Specs of the Deployment (without `replicas`) and of the Service, as kept if they are."""
    if content.kept is not None and _RENDERED in content.kept:
        return dict(content.kept[_RENDERED])
    return {
        "deployment": _deployment_spec(owner, revision, content),
        "service": {"selector": selector(owner, revision.hash), "ports": [service_port(ROUTED_PORT, port)]},
    }


def _deployment_spec(owner: Owner, revision: Revision, content: Content) -> Body:
    # Every referenced name is rewritten, also of an optional ConfigMap that is missing: else it would come alive later
    # in a revision that was tried without it.
    names = _copied_names(owner, revision.hash, content)
    template = rewrite_references(content.template, names)
    given = template.get("metadata") or {}
    pod_annotations = {**(given.get("annotations") or {}), ANNOTATION_VERSION: revision.version}
    if config := config_hash(content):
        pod_annotations[ANNOTATION_CONFIG] = config
    return {
        "selector": {"matchLabels": selector(owner, revision.hash)},
        "revisionHistoryLimit": 0,
        "progressDeadlineSeconds": _DEADLINE_SECONDS,
        # The template of a revision never changes; this is for `kubectl rollout restart`.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {
                "labels": {
                    **(given.get("labels") or {}),
                    **_labels(revision),
                    LABEL_ROLLOUT: owner.name,
                    LABEL_ROLLOUT_UID: owner.uid,
                },
                "annotations": pod_annotations,
            },
            "spec": template["spec"],
        },
    }


def _copied_names(owner: Owner, revision: str, content: Content) -> dict[str, str]:
    from_template = {reference.name for reference in configmap_references(content.template)}
    return {name: copy_name(owner, revision, name) for name in from_template | set(content.configmaps)}


def routers_snapshot(owner: Owner, bodies: Sequence[Body]) -> Body:
    """ControllerRevision that keeps what the routers are made of, named by that."""
    tail = hashlib.sha256(canonical_json(list(bodies))).hexdigest()[:10]
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": owned(owner, f"{owner.name}-routers-{tail}", {LABEL_ROLE: ROLE_ROUTER}),
        "revision": 1,
        "data": {"objects": list(bodies)},
    }


def gate_snapshot_name(owner: Owner, kept: Mapping[str, Any]) -> str:
    """Name under which this is kept."""
    return f"{owner.name}-gates-{hashlib.sha256(canonical_json(kept)).hexdigest()[:10]}"


def gate_snapshot(owner: Owner, kept: Mapping[str, Any]) -> Body:
    """ControllerRevision that keeps what an attempt is judged by (`resolve.judged_by`), named by that."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": owned(owner, gate_snapshot_name(owner, kept), {}),
        "revision": 1,
        "data": dict(kept),
    }
