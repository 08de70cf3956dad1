"""A constraint is refused when it is compiled, or never: nothing is raised while a text is generated."""

from typing import Any

import numpy as np
import pytest

from grammar import GrammarError, GrammarTooLarge, UnsupportedConstraint, Vocabulary, compile_json_schema

BYTES = Vocabulary([bytes([byte]) for byte in range(256)] + [b""], [256])


def accepts(schema: dict[str, Any], text: str) -> bool:
    """Byte by byte to the end; each mask is filled, and says what `advance` says."""
    matcher = compile_json_schema(schema, BYTES).matcher()
    row = np.zeros(BYTES.words, np.int32)
    for byte in text.encode():
        matcher.fill_mask(row)
        legal = bool(row[byte >> 5] >> (byte & 31) & 1)
        assert matcher.advance(byte) is legal
        if not legal:
            return False
    matcher.fill_mask(row)
    return matcher.is_accepting


TOLD_APART = {"anyOf": [{"maxLength": 5000, "pattern": "^b"}, {"maxLength": 9000, "pattern": "^a"}]}


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ('{"k":"b"}', True),
        ('{"k":"a"}', True),
        ('{"k":"c"}', False),
        ('{"k":"b' + 4999 * "x" + '"}', True),
        ('{"k":"b' + 5000 * "x" + '"}', False),
    ],
)
def test_long_lengths_in_alternatives_are_counted(text: str, accepted: bool) -> None:
    """Within the least of the long lengths every alternative is offered, and nothing else."""
    assert accepts({"properties": {"k": TOLD_APART}}, text) is accepted


@pytest.mark.parametrize(
    ("schema", "legal", "illegal"),
    [
        ({"anyOf": [{"minLength": 2500, "pattern": "x$"}, {"enum": ["q"]}]}, '"q"', '"p"'),
        ({"anyOf": [{"minLength": 2500, "pattern": "x$"}, {"minLength": 2600}]}, f'"{2500 * "x"}"', f'"{2499 * "x"}"'),
        ({"type": "object", "propertyNames": {"maxLength": 5000, "pattern": "^x"}}, '{"x":1}', '{"y":1}'),
        (
            {
                "anyOf": [
                    {"properties": {"a": {"maxLength": 32767}, "b": {"type": "number"}}},
                    {"properties": {"a": {"pattern": "^x"}}},
                ]
            },
            '{"a":"x","b":"y"}',
            '{"a":"z","b":"y"}',
        ),
    ],
)
def test_long_lengths_in_combinations_keep_what_is_legal(schema: dict[str, Any], legal: str, illegal: str) -> None:
    """Listed strings, the shortest texts that there are, and keys."""
    assert accepts(schema, legal)
    assert not accepts(schema, illegal)


def test_a_budget_where_nothing_bounds_what_is_left() -> None:
    """Items that must differ have no roof, whatever the value inside says of itself."""
    matcher = compile_json_schema({"type": "array", "uniqueItems": True, "contains": {"const": None}}, BYTES).matcher()
    row = np.zeros(BYTES.words, np.int32)
    for byte in b"[f":
        assert matcher.advance(byte)
    assert matcher.fill_mask(row, 1000) is False
    assert [i for i in range(256) if row[i >> 5] >> (i & 31) & 1] == [ord("a")]


@pytest.mark.parametrize("text", ["[[1],[]]", "[[],[1]]", '[{},[[]],"",[]]'])
def test_an_item_that_must_still_come_can_come_after_arrays_that_it_must_differ_from(text: str) -> None:
    """The empty array is wanted, and no other array may be it: which arrays satisfy that is listed, constants aside."""
    assert accepts({"type": "array", "uniqueItems": True, "contains": {"const": []}}, text)


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "(a|b)*a(a|b){40}$"},
        {"multipleOf": 0.123456789},
        {"allOf": [{"anyOf": [{"required": [f"a{i}"]}, {"required": [f"b{i}"]}]} for i in range(16)]},
        {"allOf": [{"contains": {"const": i}} for i in range(12)]},
    ],
)
def test_what_cannot_be_enforced_in_an_optional_member_is_refused_when_compiled(schema: dict[str, Any]) -> None:
    """Its value is judged before anything is generated."""
    with pytest.raises((UnsupportedConstraint, GrammarTooLarge)):
        compile_json_schema({"properties": {"k": {"items": schema}}}, BYTES)


def test_what_is_too_large_is_named_with_its_place() -> None:
    """The subschema, and the keyword whose alternatives are too many."""
    many = {"allOf": [{"anyOf": [{"required": [f"a{i}"]}, {"required": [f"b{i}"]}]} for i in range(16)]}
    with pytest.raises(GrammarTooLarge) as caught:
        compile_json_schema({"properties": {"k": {"items": many}}, "required": ["k"]}, BYTES)
    assert caught.value.pointer == "/properties/k/items"


def test_many_negated_object_schemas_are_broken_together() -> None:
    """Sixteen, each by a member of its own."""
    negated = [{"not": {"properties": {f"p{i}": {"type": "string"}}}} for i in range(16)]
    members = ",".join(f'"p{i}":1' for i in range(16))
    assert accepts({"type": "object", "allOf": negated}, "{" + members + "}")
    assert not accepts({"type": "object", "allOf": negated}, "{" + members.removesuffix("1") + '"x"}')


DEEP = "/properties/a/items/properties/b"


def deep(schema: dict[str, Any], **beside: Any) -> dict[str, Any]:
    """The subschema at `DEEP`, where nothing looks before a text has come so far."""
    return {"properties": {"a": {"items": {"properties": {"b": schema}}}}, **beside}


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
@pytest.mark.parametrize("reference", ["#nowhere", "#/$defs/nowhere", "https://example.com/nowhere"])
def test_a_reference_to_nothing_is_refused_wherever_it_stands(keyword: str, reference: str) -> None:
    with pytest.raises(GrammarError, match="nowhere") as refused:
        compile_json_schema(deep({keyword: reference}), BYTES)
    assert (refused.value.pointer, refused.value.keyword) == (DEEP, keyword)


def test_what_only_a_dynamic_reference_leads_to_is_checked() -> None:
    back = {"$dynamicAnchor": "node", "pattern": r"(a)\1"}
    generic = {"$id": "list", "$dynamicAnchor": "node", "items": {"$dynamicRef": "#node"}}
    with pytest.raises(UnsupportedConstraint, match="back-reference") as refused:
        compile_json_schema(deep({"$ref": "list"}, **{"$defs": {"list": generic, "mine": back}}), BYTES)
    assert refused.value.pointer == "/$defs/mine/pattern"
