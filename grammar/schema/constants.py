"""JSON values as hashable constants that are equal exactly when JSON Schema says so, and formulas that name them.

A `Constant` is (kind, content): 1, 1.0 and 1e0 are one number, true is not 1, and the order of an object's keys does
not matter. This is how `uniqueItems` remembers items.
"""

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from grammar.errors import GrammarTooLarge
from grammar.formula import Formula, Formulas
from grammar.schema.atoms import (
    ARRAY,
    FALSE_VALUE,
    NULL,
    NUMBER,
    OBJECT,
    STRING,
    TRUE_VALUE,
    Constant,
    OfType,
    OneOfArrays,
    OneOfNumbers,
    OneOfObjects,
    OneOfStrings,
)


def constant_of(value: Any) -> Constant:
    """The constant of a decoded JSON value, whose floats were read as `Decimal`."""
    if value is None:
        return NULL, None
    if isinstance(value, bool):
        return (TRUE_VALUE if value else FALSE_VALUE), None
    if isinstance(value, str):
        return STRING, value
    if isinstance(value, dict):
        return OBJECT, frozenset((key, constant_of(each)) for key, each in value.items())
    if isinstance(value, list):
        return ARRAY, tuple(constant_of(each) for each in value)
    return NUMBER, Decimal(value)


def constant_in(text: bytes) -> Constant:
    """The constant that a JSON text spells."""
    try:
        return constant_of(json.loads(text, parse_float=Decimal))
    except RecursionError:
        raise GrammarTooLarge("an item of uniqueItems nests too deeply to be remembered") from None


def equal_to(pool: Formulas, constants: Iterable[Constant]) -> Formula:
    """The formula that the value equals one of these."""
    contents: dict[str, set[Any]] = {}
    for kind, content in constants:
        contents.setdefault(kind, set()).add(content)
    parts = []
    for kind in sorted(contents):
        typed = pool.literal(OfType(frozenset([kind])))
        atom = _ONE_OF.get(kind)
        parts.append(typed if atom is None else pool.all_of([typed, pool.literal(atom(frozenset(contents[kind])))]))
    return pool.any_of(parts)


_ONE_OF: dict[str, Any] = {
    STRING: OneOfStrings,
    NUMBER: OneOfNumbers,
    OBJECT: OneOfObjects,
    ARRAY: OneOfArrays,
}
