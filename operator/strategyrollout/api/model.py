"""The one base of all API models: frozen, camelCase outside, snake_case inside, unknown fields refused.

Kept apart so that aliases and strictness are decided once. `Rule` carries a CEL validation next to the field or
model that it guards; the schema generator copies it into the CRD.
"""

import contextlib
import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Model(BaseModel):
    """Frozen value object; equality is by content."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    def to_json(self) -> dict[str, Any]:
        """The object as the API server stores it: camelCase, no nulls."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


M = TypeVar("M", bound=Model)


def without(value: Any, paths: Iterable[Sequence[str | int]]) -> Any:
    """A copy of plain data without what is at these paths; those that lead nowhere are passed over."""
    plain = copy.deepcopy(value)
    for *way, last in paths:
        place = plain
        with contextlib.suppress(LookupError, TypeError):
            for part in way:
                place = place[part]
            del place[last]
    return plain


def read_alone(kind: type[M], written: Any) -> M | None:
    """A part of an object, without fields that only a newer operator knows; None when it cannot be read by itself."""
    try:
        return kind.model_validate(written)
    except ValidationError as error:
        unknown = [each["loc"] for each in error.errors() if each["type"] == "extra_forbidden"]
    try:
        return kind.model_validate(without(written, unknown))
    except ValidationError:
        return None


def rule(
    expression: str, message: str, *, message_expression: str | None = None, path: str | None = None
) -> dict[str, str]:
    """One `x-kubernetes-validations` entry. `message` says what to do, not only what is wrong."""
    entry = {"rule": expression, "message": message}
    if message_expression:
        entry["messageExpression"] = message_expression
    if path:
        entry["fieldPath"] = path
    return entry


def rules(*entries: dict[str, str], **extra: Any) -> dict[str, Any]:
    """`json_schema_extra` that carries CEL rules and other `x-kubernetes-*` keys."""
    return {"x-kubernetes-validations": list(entries), **extra}


@dataclass(frozen=True)
class Remedy:
    """The sentence a person reads when a string does not have the pattern that stands beside it."""

    text: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "x-remedy": self.text}


def between(least: str, most: str) -> dict[str, Any]:
    """`json_schema_extra` of a duration that the API server keeps within `least` and `most`, both allowed."""
    return {"x-between": [least, most]}


def refused() -> dict[str, Any]:
    """`json_schema_extra` of a field that is known and not supported yet: any object, for a rule to refuse in words."""
    return {"x-replace": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}


def by_key(key: str) -> dict[str, Any]:
    """`json_schema_extra` of a list whose items are merged, and kept unique, by one of their fields."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
