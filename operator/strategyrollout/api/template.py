"""The pod template of a rollout: a real PodTemplateSpec of which only what our own rules must reach has a schema.

Vendoring the whole PodTemplateSpec would make the CRD half a megabyte and tie it to one Kubernetes version. The rest is
kept as the user wrote it, and a strict dry run of the Deployment judges it before anything starts.
"""

from typing import Annotated, Any

from pydantic import Field

from strategyrollout.api.meta import GROUP
from strategyrollout.api.model import by_key, rule
from strategyrollout.api.scalars import DIGEST_PATTERN

_DIGEST_RULE = rule(
    f"self.matches(r'{DIGEST_PATTERN}')",
    "image must be pinned by digest (name@sha256:<64 hex>); a tag can change under a running strategy",
    message_expression="'image ' + self + ' must be pinned by digest (name@sha256:<64 hex>)'",
)
_RESERVED_RULE = rule(
    f"!self.exists(k, k.startsWith('{GROUP}/'))",
    f"keys that begin with {GROUP}/ are reserved for the operator; remove them",
)
_EPHEMERAL_RULE = rule(
    "!has(self.ephemeralContainers)",
    "ephemeralContainers cannot be part of a template; remove them and use kubectl debug on a pod",
)

_OPEN: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_CONTAINER_SCHEMA: dict[str, Any] = {
    **_OPEN,
    "required": ["name", "image"],
    "properties": {
        "name": {"type": "string", "maxLength": 63, "minLength": 1},
        "image": {
            "type": "string",
            "maxLength": 512,
            "x-kubernetes-validations": [_DIGEST_RULE],
            "description": "Pinned by digest: name@sha256:<64 hex>.",
        },
        "ports": {
            "type": "array",
            "maxItems": 32,
            "x-kubernetes-list-type": "atomic",
            "items": {**_OPEN, "properties": {"name": {"type": "string", "maxLength": 15}}},
        },
    },
}


def _containers(**bounds: int) -> dict[str, Any]:
    return {"type": "array", "maxItems": 16, **bounds, "items": _CONTAINER_SCHEMA, **by_key("name")}


def _strings(longest: int) -> dict[str, Any]:
    return {
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": longest},
        "x-kubernetes-validations": [_RESERVED_RULE],
    }


_TEMPLATE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "metadata": {"type": "object", "properties": {"labels": _strings(63), "annotations": _strings(16384)}},
        "spec": {
            **_OPEN,
            "required": ["containers"],
            "properties": {
                "containers": _containers(minItems=1),
                "initContainers": _containers(),
                "ephemeralContainers": {"type": "array", "maxItems": 16, "items": _OPEN, "description": "Refused."},
            },
            "x-kubernetes-validations": [_EPHEMERAL_RULE],
        },
    },
}

PodTemplate = Annotated[
    dict[str, Any],
    Field(
        json_schema_extra={"x-replace": _TEMPLATE_SCHEMA},
        description="A PodTemplateSpec, every image pinned by digest. Its ConfigMaps are part of the revision.",
    ),
]
"""A real PodTemplateSpec, kept as the user wrote it; `x-replace` tells the schema generator its shape."""
