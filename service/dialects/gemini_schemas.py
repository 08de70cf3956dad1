"""Gemini's schemas as JSON Schema.

What it is for: `responseSchema` and the `parameters` of functions, which are OpenAPI's with types in capitals. What may
not enter: a request's other words.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from schemas.gemini import GeminiSchema
from service.errors import InvalidBody

_KEYWORDS = {
    "title": "title",
    "description": "description",
    "default": "default",
    "required": "required",
    "pattern": "pattern",
    "minimum": "minimum",
    "maximum": "maximum",
    "min_properties": "minProperties",
    "max_properties": "maxProperties",
    "min_items": "minItems",
    "max_items": "maxItems",
    "min_length": "minLength",
    "max_length": "maxLength",
}
_COUNTS = frozenset(name for name in _KEYWORDS if name.startswith(("min_", "max_")))
_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
_NOTES = frozenset({"enum", "float", "double"})  # formats that say nothing more than the type does


def json_schema_of(schema: GeminiSchema, param: str) -> dict[str, Any]:
    """The JSON Schema that means the same; property order is kept, since the output's comes from it."""
    told: dict[str, Any] = {}
    if schema.type is not None and schema.type != "TYPE_UNSPECIFIED":
        told["type"] = schema.type.lower()
    for name, keyword in _KEYWORDS.items():
        if (value := getattr(schema, name)) is not None:
            told[keyword] = int(value) if name in _COUNTS else value
    if schema.enum is not None:
        told["enum"] = list(schema.enum)
    if schema.ref is not None:
        told["$ref"] = schema.ref.replace("#/defs/", "#/$defs/", 1)
    told |= _formatted(schema.format)
    told |= _inner(schema, param)
    return _nullable(told) if schema.nullable else told


def _inner(schema: GeminiSchema, param: str) -> dict[str, Any]:
    """The schemas inside of it."""
    told: dict[str, Any] = {}
    if schema.properties is not None:
        names = _ordered(schema.properties, schema.property_ordering, param)
        told["properties"] = {
            name: json_schema_of(schema.properties[name], f"{param}.properties.{name}") for name in names
        }
    elif schema.property_ordering:
        raise InvalidBody("there are no properties to be ordered", param=f"{param}.propertyOrdering")
    if isinstance(schema.additional_properties, GeminiSchema):
        told["additionalProperties"] = json_schema_of(schema.additional_properties, f"{param}.additionalProperties")
    elif schema.additional_properties is not None:
        told["additionalProperties"] = schema.additional_properties
    if schema.items is not None:
        told["items"] = json_schema_of(schema.items, f"{param}.items")
    if schema.any_of is not None:
        told["anyOf"] = [json_schema_of(each, f"{param}.anyOf.{i}") for i, each in enumerate(schema.any_of)]
    if schema.defs is not None:
        told["$defs"] = {name: json_schema_of(each, f"{param}.defs.{name}") for name, each in schema.defs.items()}
    return told


def _ordered(names: Iterable[str], order: list[str] | None, param: str) -> list[str]:
    """The names in the order that is wanted; those that it leaves out come last."""
    known, wanted = list(names), order or []
    if unknown := next((name for name in wanted if name not in known), None):
        raise InvalidBody(f"{unknown[:80]!r} is none of the properties", param=f"{param}.propertyOrdering")
    return list(dict.fromkeys([*wanted, *known]))


def _formatted(name: str | None) -> dict[str, Any]:
    if name is None or name in _NOTES:
        return {}
    if name in _RANGES:
        least, most = _RANGES[name]
        return {"allOf": [{"minimum": least, "maximum": most}]}
    return {"format": name}


def _nullable(told: dict[str, Any]) -> dict[str, Any]:
    """The schema, or null."""
    if told.keys() & {"anyOf", "$ref"}:
        definitions = {"$defs": told.pop("$defs")} if "$defs" in told else {}
        return {"anyOf": [told, {"type": "null"}], **definitions}
    if "enum" in told:
        told["enum"].append(None)
    if "type" in told:
        told["type"] = [told["type"], "null"]
    return told
