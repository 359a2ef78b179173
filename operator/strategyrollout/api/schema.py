"""The kinds of the API and their CustomResourceDefinitions: names, columns and subresources around the models."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.api.gates import GateTemplateSpec
from strategyrollout.api.meta import GROUP, VERSION
from strategyrollout.api.model import rule
from strategyrollout.api.rollback import RollbackSpec, RollbackStatus
from strategyrollout.api.rollout import RolloutSpec
from strategyrollout.api.scalars import SERVICE_PATTERN
from strategyrollout.api.status import RolloutStatus
from strategyrollout.api.structural import Schema, structural

CATEGORY = "strategyrollout-io"
NAME_LIMIT = 40
"""Longest name of a rollout. Names of Deployments, routers and Services are made from it, and labels end at 63."""


@dataclass(frozen=True)
class Column:
    """One column of `kubectl get`. `wide` columns need `-o wide`."""

    name: str
    path: str
    type: Literal["string", "integer", "date"] = "string"
    wide: bool = False


@dataclass(frozen=True)
class Kind:
    """One kind of the API group. Without `status` there is no status subresource."""

    name: str
    plural: str
    summary: str
    spec: type[BaseModel]
    status: type[BaseModel] | None = None
    scope: Literal["Namespaced", "Cluster"] = "Namespaced"
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = (CATEGORY,)
    columns: tuple[Column, ...] = ()
    scale: bool = False
    rules: tuple[dict[str, str], ...] = ()

    @property
    def file_name(self) -> str:
        """Name of the file under `crds/`."""
        return f"{self.plural}.yaml"


_AGE = Column("Age", ".metadata.creationTimestamp", "date")
_GATE_COLUMNS = (
    Column("Severity", ".spec.severity"),
    Column("Interval", ".spec.interval"),
    Column("Above", ".spec.limit.above"),
    Column("Below", ".spec.limit.below"),
    _AGE,
    Column("Summary", ".spec.summary", wide=True),
)

KINDS: tuple[Kind, ...] = (
    Kind(
        "StrategyRollout",
        "strategyrollouts",
        "A trading strategy and how its new versions get their traffic.",
        RolloutSpec,
        RolloutStatus,
        short_names=("sro",),
        categories=("all", CATEGORY),
        scale=True,
        columns=(
            Column("Version", ".spec.version"),
            Column("State", ".status.state"),
            Column("Step", ".status.step"),
            Column("Weight", ".status.weight"),
            Column("Gates", ".status.gatesPassing"),
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
            _AGE,
            Column("Image", ".status.image", wide=True),
            Column("Stable", ".status.stableVersion", wide=True),
            Column("Message", ".status.message", wide=True),
        ),
        rules=(
            rule(
                f"self.metadata.name.size() <= {NAME_LIMIT} && self.metadata.name.matches(r'{SERVICE_PATTERN}')",
                f"metadata.name must have at most {NAME_LIMIT} characters, only lower-case letters, digits and '-',"
                " and begin with a letter; names of Services and labels are made from it",
            ),
        ),
    ),
    Kind(
        "GateTemplate",
        "gatetemplates",
        "A reusable gate for the rollouts of one namespace.",
        GateTemplateSpec,
        short_names=("gt",),
        columns=_GATE_COLUMNS,
    ),
    Kind(
        "ClusterGateTemplate",
        "clustergatetemplates",
        "A reusable gate for the rollouts of every namespace.",
        GateTemplateSpec,
        scope="Cluster",
        short_names=("cgt",),
        columns=_GATE_COLUMNS,
    ),
    Kind(
        "TrafficAssignment",
        "trafficassignments",
        "Who gets what: the commit record of a rollout. Written by the operator only.",
        AssignmentSpec,
        short_names=("ta",),
        columns=(
            Column("Epoch", ".spec.epoch", "integer"),
            Column("Cause", ".spec.cause.kind"),
            _AGE,
            Column("Message", ".spec.cause.message", wide=True),
        ),
    ),
    Kind(
        "Rollback",
        "rollbacks",
        "A request to take a rollout back. It acts once; its status tells the outcome.",
        RollbackSpec,
        RollbackStatus,
        columns=(
            Column("Rollout", ".spec.rollout"),
            Column("To", ".spec.to"),
            Column("Outcome", ".status.outcome"),
            Column("Reason", ".spec.reason"),
            _AGE,
            Column("Message", ".status.message", wide=True),
        ),
    ),
)


def root_schema(kind: Kind) -> Schema:
    """The schema of a whole object of that kind."""
    properties: Schema = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        # The length is the API server's own; said here, the cost of a rule about the name can be estimated.
        "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}},
        "spec": structural(kind.spec),
    }
    if kind.status:
        properties["status"] = structural(kind.status)
    schema: Schema = {
        "type": "object",
        "description": kind.summary,
        "required": ["spec"],
        "properties": properties,
    }
    if kind.rules:
        schema["x-kubernetes-validations"] = list(kind.rules)
    return schema


def crd(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind."""
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root_schema(kind)},
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
    }
    subresources: dict[str, Any] = {"status": {}} if kind.status else {}
    if kind.scale:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    if subresources:
        version["subresources"] = subresources
    names: dict[str, Any] = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.name.lower(),
        "categories": list(kind.categories),
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": kind.scope, "versions": [version]},
    }


def crd_documents() -> list[dict[str, Any]]:
    """Every CustomResourceDefinition of the API, ready to be applied."""
    return [crd(kind) for kind in KINDS]


def _column(column: Column) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.wide:
        entry["priority"] = 1
    return entry
