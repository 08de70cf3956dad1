"""The `jsonschema` library as a judge, with exact numbers: floats never round, exponents never overflow."""

import json
import sys
from fractions import Fraction
from typing import Any

import jsonschema
from referencing.jsonschema import EMPTY_REGISTRY, SchemaRegistry, specification_with

# The library writes the instance into its messages, and exact numbers with exponents have thousands of digits.
sys.set_int_max_str_digits(0)

DRAFTS: dict[str, Any] = {
    "draft4": jsonschema.Draft4Validator,
    "draft6": jsonschema.Draft6Validator,
    "draft7": jsonschema.Draft7Validator,
    "draft2019-09": jsonschema.Draft201909Validator,
    "draft2020-12": jsonschema.Draft202012Validator,
}


def exact_number(text: str) -> int | Fraction:
    """A JSON number with a point or an exponent, by its value."""
    value = Fraction(text)
    return value.numerator if value.denominator == 1 else value


def repeated_key(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, which must not say anything twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key comes twice: {pairs}")
    return found


def no_constant(name: str) -> None:
    """NaN and Infinity are not JSON."""
    raise ValueError(name)


def decode(text: bytes | str) -> Any:
    """A JSON text, strictly."""
    text = text.decode() if isinstance(text, bytes) else text
    return json.loads(text, parse_float=exact_number, object_pairs_hook=repeated_key, parse_constant=no_constant)


def validator(
    schema: Any, *, draft: str = "draft2020-12", formats: bool = False, documents: dict[str, Any] | None = None
) -> Any:
    """A validator for the schema's own draft (else the one named)."""
    schema = decode(json.dumps(schema))
    kind = jsonschema.validators.validator_for(schema, default=DRAFTS[draft])
    registry: SchemaRegistry = EMPTY_REGISTRY
    if documents:
        dialect = str(kind.META_SCHEMA["$schema"])
        pairs = [(uri, decode(json.dumps(document))) for uri, document in documents.items()]
        specification = specification_with(dialect)
        registry = EMPTY_REGISTRY.with_resources((uri, specification.create_resource(d)) for uri, d in pairs)
    return kind(schema, registry=registry, format_checker=kind.FORMAT_CHECKER if formats else None)


def is_valid(schema: Any, value: Any, **options: Any) -> bool:
    """Does the decoded value satisfy the schema?"""
    return bool(validator(schema, **options).is_valid(value))
