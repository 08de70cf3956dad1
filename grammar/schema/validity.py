"""Whether a schema is well formed: the shape that each keyword's value must have, by draft.

Checked for every subschema as its document is indexed, so before any of it means anything. This is what the drafts'
metaschemas say, as one table and one pass: validating against the metaschema itself costs as much as compiling. Where
schemas at large deviate and can only mean one thing, they may: draft 4's boolean `exclusiveMinimum` in any draft,
draft 3's boolean `required`, `type: "any"` and string dependency, repeated names in `required`.
"""

# ruff: noqa: ARG001  (all shapes have one signature)
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final

from grammar.errors import GrammarError
from grammar.schema.contents import is_content
from grammar.schema.documents import Draft, Place

Shape = tuple[str, Callable[[Any, Draft], bool]]
"""What the value must be, in words, and whether it is."""

TYPE_NAMES: Final = frozenset(["array", "boolean", "integer", "null", "number", "object", "string", "any"])


def is_number(value: object) -> bool:
    """Whether a JSON value is a number (booleans are not; nor are infinities, which JSON cannot spell)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite_number(value)


def isfinite_number(value: float) -> bool:
    """Whether a number is one that JSON has."""
    return isinstance(value, int) or isfinite(value)


def check(place: Place) -> None:
    """Refuse a schema object one of whose keywords has a value of the wrong shape."""
    raw, draft = place.raw, place.draft
    if not isinstance(raw, dict):
        return
    if draft <= Draft.DRAFT7 and isinstance(raw.get("$ref"), str):
        return  # its siblings are ignored
    for keyword, value in raw.items():
        shape = SHAPES.get(keyword)
        if shape is None or draft < shape[0] or shape[1][1](value, draft):
            continue
        expected = shape[1][0]
        raise GrammarError(
            f"{keyword} must be {expected}, not {repr(value)[:80]}",
            pointer=f"{place.pointer}/{keyword}",
            keyword=keyword,
            reason=f"the value of {keyword} is not {expected}",
        )


def _is_schema(value: Any, draft: Draft) -> bool:
    return isinstance(value, (dict, bool))


def _is_schema_list(value: Any, draft: Draft) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_schema(each, draft) for each in value)


def _is_schema_or_list(value: Any, draft: Draft) -> bool:
    return _is_schema(value, draft) or (isinstance(value, list) and all(_is_schema(each, draft) for each in value))


def _is_schema_map(value: Any, draft: Draft) -> bool:
    return isinstance(value, dict) and all(_is_schema(each, draft) for each in value.values())


def _is_names(value: Any, draft: Draft) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_required(value: Any, draft: Draft) -> bool:
    return _is_names(value, draft) or (isinstance(value, bool) and draft is Draft.DRAFT4)


def _is_names_map(value: Any, draft: Draft) -> bool:
    return isinstance(value, dict) and all(_is_names(each, draft) for each in value.values())


def _is_dependencies(value: Any, draft: Draft) -> bool:
    return isinstance(value, dict) and all(
        _is_schema(each, draft) or _is_names(each, draft) or isinstance(each, str) for each in value.values()
    )


def _is_type(value: Any, draft: Draft) -> bool:
    names = value if isinstance(value, list) else [value]
    unions = draft is Draft.DRAFT4 and isinstance(value, list)
    return bool(names) and all(
        (isinstance(name, str) and name in TYPE_NAMES) or (unions and isinstance(name, dict)) for name in names
    )


def _is_bound(value: Any, draft: Draft) -> bool:
    return is_number(value) or isinstance(value, bool)


def _is_natural(value: Any, draft: Draft) -> bool:
    return is_number(value) and value >= 0 and value == int(value)


def _is_json(value: Any, draft: Draft) -> bool:
    """Walks without recursion: a constant may nest deeper than Python's stack."""
    todo = [value]
    while todo:
        each = todo.pop()
        if isinstance(each, dict):
            todo.extend(each.values())
        elif isinstance(each, list):
            todo.extend(each)
        elif isinstance(each, float) and not isfinite(each):
            return False
    return True


_SCHEMA: Final[Shape] = ("a schema", _is_schema)
_SCHEMAS: Final[Shape] = ("a list of at least one schema", _is_schema_list)
_SCHEMA_MAP: Final[Shape] = ("an object of schemas", _is_schema_map)
_NATURAL: Final[Shape] = ("a non-negative integer", _is_natural)
_BOUND: Final[Shape] = ("a number", _is_bound)
_NUMBER: Final[Shape] = ("a number", lambda value, _: is_number(value))
_STRING: Final[Shape] = ("a string", lambda value, _: isinstance(value, str))
_VALUE: Final[Shape] = ("a JSON value", _is_json)

_4, _6, _7, _2019, _2020 = Draft
SHAPES: Final[Mapping[str, tuple[Draft, Shape]]] = {
    "$ref": (_4, _STRING),
    "$dynamicRef": (_2020, _STRING),
    "$recursiveRef": (_2019, _STRING),
    "$id": (_6, _STRING),
    "$anchor": (_2019, _STRING),
    "$dynamicAnchor": (_2020, _STRING),
    "$defs": (_2019, _SCHEMA_MAP),
    "definitions": (_4, _SCHEMA_MAP),
    "type": (_4, (f"among {', '.join(sorted(TYPE_NAMES))}, or a list of them", _is_type)),
    "enum": (_4, ("a list of JSON values", lambda value, draft: isinstance(value, list) and _is_json(value, draft))),
    "const": (_6, _VALUE),
    "minLength": (_4, _NATURAL),
    "maxLength": (_4, _NATURAL),
    "pattern": (_4, _STRING),
    "format": (_4, _STRING),
    "minimum": (_4, _NUMBER),
    "maximum": (_4, _NUMBER),
    "exclusiveMinimum": (_4, _BOUND),
    "exclusiveMaximum": (_4, _BOUND),
    "multipleOf": (_4, ("a positive number", lambda value, _: is_number(value) and value > 0)),
    "properties": (_4, _SCHEMA_MAP),
    "patternProperties": (_4, _SCHEMA_MAP),
    "additionalProperties": (_4, _SCHEMA),
    "required": (_4, ("a list of strings", _is_required)),
    "propertyNames": (_6, _SCHEMA),
    "minProperties": (_4, _NATURAL),
    "maxProperties": (_4, _NATURAL),
    "dependencies": (_4, ("an object of schemas or lists of names", _is_dependencies)),
    "dependentRequired": (_2019, ("an object of lists of names", _is_names_map)),
    "dependentSchemas": (_2019, _SCHEMA_MAP),
    "unevaluatedProperties": (_2019, _SCHEMA),
    "prefixItems": (_2020, _SCHEMAS),
    "items": (_4, ("a schema or a list of schemas", _is_schema_or_list)),
    "additionalItems": (_4, _SCHEMA),
    "minItems": (_4, _NATURAL),
    "maxItems": (_4, _NATURAL),
    "uniqueItems": (_4, ("a boolean", lambda value, _: isinstance(value, bool))),
    "contains": (_6, _SCHEMA),
    "minContains": (_2019, _NATURAL),
    "maxContains": (_2019, _NATURAL),
    "unevaluatedItems": (_2019, _SCHEMA),
    "allOf": (_4, _SCHEMAS),
    "anyOf": (_4, _SCHEMAS),
    "oneOf": (_4, _SCHEMAS),
    "not": (_4, _SCHEMA),
    "if": (_7, _SCHEMA),
    "x-source": (_4, ("'input', the text given along", lambda value, _: value == "input")),
    "x-grammar": (_4, ("a grammar, or an object of definition, syntax and start", lambda value, _: is_content(value))),
    "then": (_7, _SCHEMA),
    "else": (_7, _SCHEMA),
}
"""Keyword → since which draft, and the shape of its value."""
