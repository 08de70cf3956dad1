"""What differs between the drafts of JSON Schema, each case from its specification and agreed on by the library."""

# ruff: noqa: E501  (a case is a line, so that they can be compared)
import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar import GrammarTooLarge, UnsatisfiableConstraint
from tests.grammar.rules.test_lark import accepts as takes
from tests.grammar.walking import compiled
from tests.oracles.validation import decode, is_valid
from tests.strategies import schemas

D4, D6, D7, D2019, D2020 = "draft4", "draft6", "draft7", "draft2019-09", "draft2020-12"
URIS = {
    D4: "http://json-schema.org/draft-04/schema#",
    D6: "http://json-schema.org/draft-06/schema#",
    D7: "http://json-schema.org/draft-07/schema#",
    D2019: "https://json-schema.org/draft/2019-09/schema",
    D2020: "https://json-schema.org/draft/2020-12/schema",
}
ALL = tuple(URIS)
Case = tuple[str, tuple[str, ...], dict[str, Any], list[Any], list[Any]]

LEAF = {"$id": "http://t/leaf", "$recursiveAnchor": True, "type": "object", "properties": {"n": {"$recursiveRef": "#"}}}
STRICT = {"$id": "http://t/strict", "$recursiveAnchor": True, "$ref": "leaf", "unevaluatedProperties": False}

CASES: list[Case] = [
    # Numbers.
    ("boolean bounds", (D4,), {"minimum": 3, "exclusiveMinimum": True}, [3.5, "x"], [3, 2]),
    ("boolean bounds alone", (D4,), {"exclusiveMaximum": True}, [3, -3], []),
    ("numeric bounds", (D6, D7, D2019, D2020), {"minimum": 2, "exclusiveMinimum": 3}, [3.5], [3, 2]),
    ("integers", (D4,), {"type": "integer"}, [1], [1.5]),
    ("integers by value", (D6, D7, D2019, D2020), {"type": "integer"}, [1, 1.0], [1.5]),
    # Keywords that a draft does not have are annotations.
    ("const", (D4,), {"const": 1}, [1, 2], []),
    ("const", (D6, D7, D2019, D2020), {"const": 1}, [1, 1.0], [2, True]),
    ("contains", (D4,), {"contains": {"type": "null"}}, [[1], []], []),
    ("contains", (D6, D7), {"contains": {"type": "null"}, "minContains": 0, "maxContains": 1}, [[None, None], 3], [[], [1]]),
    ("contains", (D2019, D2020), {"contains": {"type": "null"}, "minContains": 2, "maxContains": 2}, [[None, 1, None]], [[None], [None] * 3]),
    ("contains", (D2019, D2020), {"contains": {"type": "null"}, "minContains": 0}, [[], [1], [None]], []),
    ("contains", (D2019, D2020), {"minContains": 2, "maxContains": 1}, [[], [1, 2, 3]], []),
    ("propertyNames", (D4,), {"propertyNames": False}, [{"a": 1}], []),
    ("propertyNames", (D6, D7, D2019, D2020), {"propertyNames": {"maxLength": 1}}, [{"a": 1}], [{"ab": 1}]),
    ("conditions", (D4, D6), {"if": {"type": "null"}, "then": False, "else": False}, [None, 1], []),
    ("conditions", (D7, D2019, D2020), {"if": {"type": "null"}, "then": False}, [1], [None]),
    ("dependencies", (D4, D6, D7), {"dependencies": {"a": ["b"], "c": {"required": ["d"]}}}, [{"a": 1, "b": 2}, {"c": 1, "d": 2}, {}], [{"a": 1}, {"c": 1}]),
    ("dependencies", (D6, D7), {"dependencies": {"a": True, "b": False}}, [{"a": 1}, {}], [{"b": 1}, {"a": 1, "b": 1}]),
    ("dependentRequired", (D4, D6, D7), {"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"a": False}}, [{"a": 1}], []),
    ("dependentRequired", (D2019, D2020), {"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"c": False}}, [{"a": 1, "b": 1}], [{"a": 1}, {"c": 1}]),
    ("unevaluated", (D4, D6, D7), {"unevaluatedProperties": False, "unevaluatedItems": False}, [{"a": 1}, [1]], []),
    # Items.
    ("lists of items", (D4, D6, D7, D2019), {"items": [{"type": "null"}, {}], "additionalItems": {"type": "string"}}, [[None, 1, "x"], [], [None]], [[1], [None, 1, 1]]),
    ("additionalItems alone", (D4, D6, D7, D2019), {"additionalItems": False}, [[1, 2]], []),
    ("additionalItems beside a schema", (D4, D6, D7, D2019), {"items": {}, "additionalItems": False}, [[1, 2]], []),
    ("no items", (D6, D7, D2019, D2020), {"items": False}, [[], 3], [[1]]),
    ("prefixItems", (D4, D6, D7, D2019), {"prefixItems": [{"type": "null"}]}, [[1]], []),
    ("prefixItems", (D2020,), {"prefixItems": [{"type": "null"}], "items": {"type": "string"}}, [[None, "x"], [None]], [[1], [None, 1]]),
    ("additionalItems", (D2020,), {"prefixItems": [{}], "additionalItems": False}, [[1, 2]], []),
    # What was evaluated.
    ("a list of items is evaluated", (D2019,), {"items": [{}], "unevaluatedItems": False}, [[1], []], [[1, 2]]),
    ("additionalItems evaluates the rest", (D2019,), {"items": [{}], "additionalItems": True, "unevaluatedItems": False}, [[1, 2]], []),
    ("additionalItems alone evaluates nothing", (D2019,), {"additionalItems": {"type": "number"}, "unevaluatedItems": {"type": "string"}}, [["x"]], [[1]]),
    ("contains evaluates", (D2020,), {"contains": {"type": "null"}, "unevaluatedItems": False}, [[None]], [[None, 1]]),
    ("branches evaluate", (D2019, D2020), {"anyOf": [{"properties": {"a": {"type": "null"}}}, {"properties": {"b": {}}}], "unevaluatedProperties": False}, [{"a": None}, {"b": 1}, {"a": None, "b": 1}], [{"a": 1}, {"c": 1}]),
    ("nested lists evaluate", (D2019,), {"allOf": [{"items": [{}]}, {"items": [{}, {"type": "null"}]}], "unevaluatedItems": False}, [[1, None]], [[1, 1], [1, None, 1]]),
    # References.
    ("siblings are ignored", (D4, D6, D7), {"properties": {"a": {"$ref": "#/definitions/n", "maximum": 1}}, "definitions": {"n": {"type": "number"}}}, [{"a": 9}], [{"a": "x"}]),
    ("siblings count", (D2019, D2020), {"properties": {"a": {"$ref": "#/$defs/n", "maximum": 1}}, "$defs": {"n": {"type": "number"}}}, [{"a": 1}], [{"a": 9}, {"a": "x"}]),
    ("definitions in later drafts", (D2019, D2020), {"$ref": "#/definitions/n", "definitions": {"n": {"type": "null"}}}, [None], [1]),
    ("a property of the name $ref", ALL, {"properties": {"$ref": {"type": "null"}}}, [{"$ref": None}], [{"$ref": "a"}]),
    ("an identifier beside a reference", (D6, D7), {"$id": "http://t/", "definitions": {"a": {"$id": "http://t/a", "type": "null"}, "b": {"$id": "http://t/b/", "$ref": "a"}}, "properties": {"p": {"$ref": "#/definitions/b"}}}, [{"p": None}], [{"p": 1}]),
    ("a base below", (D4,), {"id": "http://t/x/", "definitions": {"a": {"id": "y/", "definitions": {"b": {"id": "z", "type": "null"}}}}, "properties": {"p": {"$ref": "y/z"}}}, [{"p": None}], [{"p": 1}]),
    ("a base below", (D6, D7, D2019, D2020), {"$id": "http://t/x/", "definitions": {"a": {"$id": "y/", "definitions": {"b": {"$id": "z", "type": "null"}}}}, "properties": {"p": {"$ref": "y/z"}}}, [{"p": None}], [{"p": 1}]),
    ("id is no identifier", (D6, D7), {"definitions": {"a": {"id": "http://t/a", "type": "null"}}, "properties": {"p": {"$ref": "#/definitions/a"}}}, [{"p": None}], [{"p": 1}]),
    ("names of places", (D4,), {"definitions": {"a": {"id": "#here", "type": "null"}}, "properties": {"p": {"$ref": "#here"}}}, [{"p": None}], [{"p": 1}]),
    ("names of places", (D6, D7), {"definitions": {"a": {"$id": "#here", "type": "null"}}, "properties": {"p": {"$ref": "#here"}}}, [{"p": None}], [{"p": 1}]),
    ("names of places", (D2019, D2020), {"$defs": {"a": {"$anchor": "here", "type": "null"}}, "properties": {"p": {"$ref": "#here"}}}, [{"p": None}], [{"p": 1}]),
    ("names by URN", (D6, D7, D2019, D2020), {"$id": "urn:uuid:deadbeef-1234-00ff-ff00-4321feebdaed", "properties": {"p": {"$ref": "urn:uuid:deadbeef-1234-00ff-ff00-4321feebdaed#/definitions/a"}}, "definitions": {"a": {"type": "null"}}}, [{"p": None}], [{"p": 1}]),
    ("escapes in pointers", ALL, {"definitions": {"a/b": {"type": "null"}, "c~d": {"type": "string"}, "e%f": {"type": "array"}}, "properties": {"x": {"$ref": "#/definitions/a~1b"}, "y": {"$ref": "#/definitions/c~0d"}, "z": {"$ref": "#/definitions/e%25f"}}}, [{"x": None, "y": "s", "z": []}], [{"x": 1}, {"y": 1}, {"z": 1}]),
    ("an identifier in a value is none", (D6, D7, D2019, D2020), {"$id": "http://t/", "definitions": {"a": {"enum": [{"$id": "http://t/b", "type": "null"}]}, "b": {"$id": "http://t/b", "type": "string"}}, "properties": {"p": {"$ref": "b"}}}, [{"p": "x"}], [{"p": None}]),
    # Recursion that follows the outermost resource.
    ("without an anchor it is a reference", (D2019,), {"properties": {"a": {"$recursiveRef": "#"}}, "additionalProperties": False}, [{"a": {"a": {}}}], [{"a": {"b": 1}}]),
    ("an anchor that is off", (D2019,), {"$id": "http://t/strict", "$ref": "leaf", "unevaluatedProperties": False, "$defs": {"l": {**LEAF, "$recursiveAnchor": False}}}, [{"n": {"x": 1}}], [{"x": 1}]),
    ("the outermost anchor", (D2019,), {**STRICT, "$defs": {"l": LEAF}}, [{"n": {"n": {}}}], [{"n": {"x": 1}}, {"x": 1}]),
    ("not beyond the outermost anchor", (D2019,), {"$id": "http://t/outer", "properties": {"p": {"$ref": "strict"}}, "$defs": {"s": STRICT, "l": LEAF}}, [{"x": 1, "p": {"n": {}}}], [{"p": {"n": {"x": 1}}}]),
    ("$recursiveRef is of its draft", (D2020,), {"properties": {"a": {"$recursiveRef": "#"}}, "additionalProperties": False}, [{"a": {"b": 1}}], [{"b": 1}]),
    ("$dynamicRef is of its draft", (D2019,), {"properties": {"a": {"$dynamicRef": "#"}}, "additionalProperties": False}, [{"a": {"b": 1}}], [{"b": 1}]),
    # The drafts' own metaschemas.
    ("draft 4's metaschema", ALL, {"$ref": "http://json-schema.org/draft-04/schema#"}, [{"minLength": 1}], [{"minLength": -1}, {"required": []}]),
    ("draft 6's metaschema", ALL, {"$ref": "http://json-schema.org/draft-06/schema#"}, [{"minLength": 1}, True], [{"minLength": -1}, {"items": 1}]),
    ("2019-09's metaschema", ALL, {"$ref": "https://json-schema.org/draft/2019-09/schema"}, [{"properties": {"a": {"minLength": 1}}}], [{"properties": {"a": {"minLength": -1}}}, {"$defs": {"a": {"type": 1}}}]),
    ("2020-12's metaschema", ALL, {"$ref": "https://json-schema.org/draft/2020-12/schema"}, [{"properties": {"a": {"minLength": 1}}}], [{"properties": {"a": {"minLength": -1}}}, {"$defs": {"a": {"type": 1}}}]),
]  # fmt: skip
LISTED = [(name, draft, schema, yes, no) for name, drafts, schema, yes, no in CASES for draft in drafts]


@pytest.mark.parametrize(("name", "draft", "schema", "yes", "no"), LISTED, ids=[f"{c[0]}: {c[1]}" for c in LISTED])
def test_as_the_draft_has_it(name: str, draft: str, schema: dict[str, Any], yes: list[Any], no: list[Any]) -> None:
    """By example; where the grammar accepts nothing at all, everything named is invalid."""
    whole = {"$schema": URIS[draft], **schema}
    try:
        grammar = compiled(whole)
    except UnsatisfiableConstraint:
        assert not yes
        return
    for value, expected in [*((value, True) for value in yes), *((value, False) for value in no)]:
        assert is_valid(whole, decode(json.dumps(value))) == expected, f"the library on {value!r}"
        assert takes(grammar, json.dumps(value)) == expected, value


def test_contains_evaluates_nothing_in_2019_09() -> None:
    """Section 9.3.1.3 names items and additionalItems; the library goes by the later draft here."""
    with pytest.raises(UnsatisfiableConstraint, match="contains, unevaluatedItems and type together"):
        compiled({"$schema": URIS[D2019], "contains": {"type": "null"}, "unevaluatedItems": False, "type": "array"})


def test_each_document_is_read_by_its_own_draft() -> None:
    """A reference into another draft takes its rules along: siblings of $ref, lists of items, const."""
    old = {
        "$schema": URIS[D7],
        "items": [{"$ref": "#/definitions/n", "maximum": 1}],
        "definitions": {"n": {"type": "number"}},
    }
    new = {"$schema": URIS[D2019], "items": [{"$ref": "#/$defs/n", "maximum": 1}], "$defs": {"n": {"type": "number"}}}
    documents = {"http://t/old": old, "http://t/new": new}
    items = [{"$ref": "http://t/old"}, {"$ref": "http://t/new"}]
    schema = {"$schema": URIS[D2020], "prefixItems": items, "items": False}
    grammar = compiled(schema, documents=documents)
    assert takes(grammar, "[[9], [1]]")
    assert not takes(grammar, "[[9], [9]]")
    assert not takes(grammar, '[["x"]]')


def test_an_embedded_resource_may_be_of_another_draft() -> None:
    """With an identifier and `$schema` of its own; without an identifier its `$schema` says nothing."""
    inner = {"$schema": URIS[D7], "$id": "http://t/inner", "items": [{"type": "null"}], "const": [None]}
    assert takes(compiled({"$schema": URIS[D2020], "allOf": [inner]}), "[null]")
    assert not takes(compiled({"$schema": URIS[D2020], "allOf": [inner]}), "[null, null]")


@pytest.mark.parametrize("draft", ["2019-09", "2020-12"])
def test_vocabularies_of_a_metaschema_given_along(draft: str) -> None:
    """Without validation its keywords are annotations, those of `contains` too; applicators still count."""
    base = f"https://json-schema.org/draft/{draft}"
    meta = {
        "$schema": f"{base}/schema",
        "$id": "http://t/meta",
        "$vocabulary": {f"{base}/vocab/core": True, f"{base}/vocab/applicator": True},
    }
    schema = {
        "$schema": "http://t/meta",
        "properties": {"a": {"minimum": 10}, "b": False, "c": {"contains": {"const": 1}}},
    }
    schema["properties"]["c"] |= {"minContains": 2}  # type: ignore[index]
    grammar = compiled(schema, documents={"http://t/meta": meta})
    assert takes(grammar, '{"a": 1, "c": [2]}')
    assert not takes(grammar, '{"b": 1}')
    assert not takes(grammar, '{"c": []}')


def older(schema: Any) -> Any:
    """A schema of today in the words of 2019-09: lists of items by position, additionalItems after them."""
    if isinstance(schema, list):
        return [older(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {keyword: older(value) for keyword, value in schema.items() if keyword not in ("enum", "const")}
    found |= {keyword: schema[keyword] for keyword in ("enum", "const") if keyword in schema}
    if "prefixItems" in found:
        rest = found.pop("items", None)
        found["items"] = found.pop("prefixItems")
        if rest is not None:
            found["additionalItems"] = rest
    return found


@settings(max_examples=25, deadline=None)
@given(schemas.everything(2), st.sampled_from([D6, D7, D2019]), schemas.values(), st.integers(0, 1 << 30).map(Random))
def test_random_schemas_of_older_drafts(schema: Any, draft: str, value: Any, random: Random) -> None:
    """As the library judges them."""
    del random
    whole = {"$schema": URIS[draft], **older(schema)}
    expected = is_valid(whole, decode(json.dumps(value)))
    try:
        assert takes(compiled(whole), json.dumps(value)) == expected
    except UnsatisfiableConstraint:
        assert not expected
    except GrammarTooLarge:
        pass
