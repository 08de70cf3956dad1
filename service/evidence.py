"""Where a quoted value stands in the input: the offsets of strings under `"x-source": "input"`.

What it is for: a schema, a value's place in it and the request's texts, to a message and characters in it. What may not
enter: seeing to it that the value is a quotation (the grammar has done that), dialects.

The idea: only strings that the schema marks are looked up, so a word that happens to stand in the input is no evidence.
Which subschemas a value is under is read off the schema alone: where alternatives differ, the value is looked up if any
of them marks it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from service.constraints import Constraint

KEYWORD = "x-source"
BETWEEN = "\0"  # no quotation reaches over it
_APPLICATORS = ("allOf", "anyOf", "oneOf", "if", "then", "else", "$ref", "$dynamicRef", "not")


@dataclass(frozen=True, slots=True)
class Texts:
    """What may be quoted: each text with its place in the request."""

    parts: tuple[tuple[int, str], ...]

    def find(self, value: str) -> dict[str, int] | None:
        """The first place where the value stands, in characters, and how many there are."""
        found = [(message, at) for message, text in self.parts for at in _places(text, value)]
        if not found:
            return None
        message, start = found[0]
        return {"message": message, "start": start, "end": start + len(value), "count": len(found)}


def quoting(constraint: Constraint | None, texts: Texts) -> Constraint | None:
    """The constraint with the texts to quote from, if anything in it quotes."""
    if constraint is None or not any(f'"{KEYWORD}"' in part for part in (constraint.source, constraint.options)):
        return constraint
    source = BETWEEN.join(text.replace(BETWEEN, " ") for _, text in texts.parts)
    options = json.dumps({**json.loads(constraint.options), "source": source}, ensure_ascii=False)
    return replace(constraint, options=options)


def quoted_at(schema: Any, path: str, value: Any, texts: Texts) -> dict[str, int] | None:
    """Where the value at this JSON Pointer was quoted from; None if the schema does not mark it."""
    if not isinstance(value, str) or not value:
        return None
    steps = [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]
    marked = any(isinstance(each, dict) and KEYWORD in each for each in _reached(schema, steps))
    return texts.find(value) if marked else None


def _reached(root: Any, steps: Sequence[str]) -> Iterator[Any]:
    """The subschemas that a place is under."""
    here = list(_same_place(root, [root]))
    for step in steps:
        here = list(_same_place(root, [child for each in here for child in _children(each, step)]))
    yield from here


def _same_place(root: Any, schemas: list[Any]) -> Iterator[Any]:
    """These and what they apply to the same value, each once."""
    seen: set[int] = set()
    while schemas:
        schema = schemas.pop()
        if not isinstance(schema, dict) or id(schema) in seen:
            continue
        seen.add(id(schema))
        yield schema
        for keyword in _APPLICATORS:
            value = schema.get(keyword)
            if isinstance(value, list):
                schemas += value
            elif isinstance(value, str):
                schemas.append(_referred(root, value))
            elif value is not None:
                schemas.append(value)
        schemas += (schema.get("dependentSchemas") or {}).values()


def _children(schema: dict[str, Any], step: str) -> Iterator[Any]:
    if step in (properties := schema.get("properties") or {}):
        yield properties[step]
    for pattern, child in (schema.get("patternProperties") or {}).items():
        if _matches(pattern, step):
            yield child
    for keyword in ("additionalProperties", "unevaluatedProperties", "items", "additionalItems", "unevaluatedItems"):
        value = schema.get(keyword)
        yield from value if isinstance(value, list) else (value,)
    yield schema.get("contains")
    yield from schema.get("prefixItems") or ()


def _matches(pattern: str, key: str) -> bool:
    try:
        return re.search(pattern, key) is not None
    except re.error:  # ECMA's syntax: what Python cannot read may match
        return True


def _referred(root: Any, reference: str) -> Any:
    """What a local reference names, by pointer or anchor."""
    if not reference.startswith("#"):
        return None
    if reference == "#" or not reference.startswith("#/"):
        return root if reference == "#" else _anchored(root, reference[1:])
    value = root
    for step in reference[2:].split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            return None
    return value


def _anchored(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        if name in (value.get("$anchor"), value.get("$dynamicAnchor")):
            return value
        value = list(value.values())
    if isinstance(value, list):
        return next((found for each in value if (found := _anchored(each, name)) is not None), None)
    return None


def _places(text: str, value: str) -> Iterator[int]:
    at = text.find(value)
    while at >= 0:
        yield at
        at = text.find(value, at + 1)
