"""The objects that make a revision run, as they should be. Plain dicts out of plain values; nothing here can fail.

Each object is a function of the revision and the number of pods alone, so an object that differs in the cluster was
changed by somebody, and one that is gone can be made again.
"""

import hashlib
from collections.abc import Mapping
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
"""Port of every Service we make; it leads to the container port of the name in `spec.traffic.port`."""
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
    labels = {
        LABEL_REVISION: revision.hash,
        LABEL_VERSION: label_version(revision.version).rstrip("-_."),
        LABEL_ROLE: ROLE_STRATEGY,
    }
    annotations = {ANNOTATION_VERSION: revision.version}
    copies = {source: copy_name(owner, revision.hash, source) for source in content.configmaps}
    return Children(
        record={
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": owned(owner, name, labels, annotations),
            "revision": 1,
            "data": stored_data(content, revision),
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
            "spec": {"selector": selector(owner, revision.hash), "ports": [service_port(port)]},
        },
        deployment={
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": owned(owner, name, labels, annotations),
            "spec": _deployment_spec(owner, revision, content, labels, replicas),
        },
    )


def service_port(port: str) -> Body:
    """The one port of a Service, by the name of the container port."""
    return {"name": port, "port": SERVICE_PORT, "targetPort": port, "protocol": "TCP"}


def _deployment_spec(
    owner: Owner, revision: Revision, content: Content, labels: Mapping[str, str], replicas: int
) -> Body:
    # Every referenced name is rewritten, also of an optional ConfigMap that is missing: else it would come alive later
    # in a revision that was tried without it.
    names = _copied_names(owner, revision.hash, content)
    template = rewrite_references(content.template, names)
    given = template.get("metadata") or {}
    pod_annotations = {**(given.get("annotations") or {}), ANNOTATION_VERSION: revision.version}
    if config := config_hash(content):
        pod_annotations[ANNOTATION_CONFIG] = config
    return {
        "replicas": replicas,
        "selector": {"matchLabels": selector(owner, revision.hash)},
        "revisionHistoryLimit": 0,
        "progressDeadlineSeconds": _DEADLINE_SECONDS,
        # The template of a revision never changes; this is for `kubectl rollout restart`.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {
                "labels": {
                    **(given.get("labels") or {}),
                    **labels,
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


def gate_snapshot_name(owner: Owner, templates: Mapping[str, Body]) -> str:
    """Name under which these gate templates are kept."""
    return f"{owner.name}-gates-{hashlib.sha256(canonical_json(templates)).hexdigest()[:10]}"


def gate_snapshot(owner: Owner, templates: Mapping[str, Body]) -> Body:
    """ControllerRevision that keeps gate templates (`Kind/name` -> spec) as an attempt uses them."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": owned(owner, gate_snapshot_name(owner, templates), {}),
        "revision": 1,
        "data": dict(templates),
    }
