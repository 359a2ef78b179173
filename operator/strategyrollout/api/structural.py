"""Turns a pydantic model into the structural OpenAPI v3 schema that a CustomResourceDefinition demands.

The models stay the only place where a field is described, bounded, defaulted and ruled; the API server then keeps the
same promises as the program, before anything is stored. Whatever cannot be expressed, or is not bounded (the API
server would refuse its CEL rules as too dear), fails here with the path of the field.
"""

import re
from copy import deepcopy
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import SchemaSerializer, core_schema

from strategyrollout.api.model import rule

Schema = dict[str, Any]

_KEPT = frozenset(
    {"type", "format", "description", "default", "enum", "required", "properties", "items", "additionalProperties"}
    | {"pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems"}
    | {"minProperties", "maxProperties"}
)
_DROPPED = frozenset({"title", "examples", "x-remedy", "x-between", "exclusiveMaximum", "exclusiveMinimum", "const"})
_NOT_RE2 = re.compile(r"\(\?(=|!|<=|<!|>)|\\[1-9]")
_INT32 = 2**31 - 1


class SchemaError(ValueError):
    """A model cannot be expressed as a structural schema; the message begins with the path of the field."""


class _Generator(GenerateJsonSchema):
    """Pydantic's generator without nulls, and with the defaults as they are written in YAML."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        node = self.generate_inner(schema["schema"])
        default = schema["default"] if "default" in schema else schema["default_factory"]()  # type: ignore[call-arg]
        if isinstance(default, BaseModel):
            plain: Any = _without_empty(default.model_dump(by_alias=True, exclude_none=True, mode="json"))
            return {**node, "default": plain}
        if default is None or default in ([], {}):
            return node  # absent and empty mean the same
        plain = SchemaSerializer(schema["schema"]).to_python(default, mode="json", by_alias=True)
        return {**node, "default": plain}


def _without_empty(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {k: _without_empty(v) for k, v in value.items() if v not in ([], {})}


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of `model`. Raises `SchemaError` for what the API server would refuse."""
    schema = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    return _convert(schema, schema.pop("$defs", {}), "", ())


def _convert(node: Schema, defs: dict[str, Schema], path: str, trail: tuple[str, ...]) -> Schema:
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        if name in trail:
            raise SchemaError(f"{path}: {name} contains itself; structural schemas cannot recur")
        return _convert(_overlay(defs[name], node), defs, path, (*trail, name))
    if "x-replace" in node:
        return deepcopy({**node["x-replace"], **{k: node[k] for k in ("description",) if k in node}})
    result = {k: deepcopy(v) for k, v in node.items() if k in _KEPT or k.startswith("x-kubernetes-")}
    unknown = node.keys() - result.keys() - _DROPPED
    if unknown:
        raise SchemaError(f"{path}: {', '.join(sorted(unknown))} cannot be part of a structural schema")
    if "const" in node:
        result["enum"] = [node["const"]]
    if "exclusiveMaximum" in node:  # numbers are whole here
        result["maximum"] = node["exclusiveMaximum"] - 1
    if "exclusiveMinimum" in node:
        result["minimum"] = node["exclusiveMinimum"] + 1
    if result.get("additionalProperties") is False:
        del result["additionalProperties"]
    if "properties" in result:
        result["properties"] = {
            key: _convert(value, defs, f"{path}.{key}", trail) for key, value in node["properties"].items()
        }
    for key, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if key in result:
            result[key] = _convert(node[key], defs, path + suffix, trail)
    return _bounded(_ruled(result, node), path)


def _overlay(target: Schema, reference: Schema) -> Schema:
    """What stands beside a `$ref` overrides the target; rules of both hold."""
    merged = {**target, **{k: v for k, v in reference.items() if k != "$ref"}}
    key = "x-kubernetes-validations"
    if key in target and key in reference:
        merged[key] = [*target[key], *reference[key]]
    return merged


def _ruled(result: Schema, node: Schema) -> Schema:
    """Adds the rule whose message says in words what a pattern or a pair of bounds only implies."""
    remedy, bounds = node.get("x-remedy"), node.get("x-between")
    if remedy is None:
        return result
    condition = f"self.matches(r'{node['pattern']}')"
    if bounds:
        least, most = bounds
        condition += f" && duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"
        remedy = f"must be a duration from {least} to {most}, written like 250ms, 10s, 5m or 1h30m"
    rules = result.get("x-kubernetes-validations", [])
    return {**result, "x-kubernetes-validations": [rule(condition, remedy), *rules]}


def _bounded(node: Schema, path: str) -> Schema:
    match node.get("type"):
        case "string" if "enum" not in node and "maxLength" not in node:
            raise SchemaError(f"{path}: a string needs max_length")
        case "array" if "maxItems" not in node:
            raise SchemaError(f"{path}: a list needs max_length")
        case "array" if "x-kubernetes-list-type" not in node:
            node["x-kubernetes-list-type"] = "atomic"
        case "object" if "additionalProperties" in node and "maxProperties" not in node:
            raise SchemaError(f"{path}: a mapping needs max_length")
        case "integer":
            node.setdefault("format", "int32" if node.get("maximum", _INT32 + 1) <= _INT32 else "int64")
        case "number":
            raise SchemaError(f"{path}: the API has no floats; use DecimalString, Percent or an integer")
        case None:
            raise SchemaError(f"{path}: a node needs a type")
    if _NOT_RE2.search(node.get("pattern", "")):
        raise SchemaError(f"{path}: the pattern uses what RE2 does not have")
    return node
