"""Lints: what can never come, what never ends, what does nothing; who is to blame when nothing satisfies a schema."""

from typing import Any

import pytest
from hypothesis import given, settings

from grammar import GrammarError, UnsatisfiableConstraint, compile_ebnf, compile_tools
from grammar.lints import lints
from grammar.schema.keywords import Schema
from tests.grammar.walking import VOCABULARY, compiled
from tests.strategies import schemas

BARREN = {"const": 1, "type": "null"}


def told(schema: Any, **options: Any) -> dict[str, str]:
    """Each lint by its pointer."""
    return {lint["pointer"]: lint["message"] for lint in compiled(schema, **options).explain()["lints"]}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        # Alternatives.
        ({"type": "string", "anyOf": [{"maxLength": 3}, {"type": "integer"}]}, {"/anyOf/1": "never taken"}),
        ({"type": "integer", "anyOf": [{"minimum": 3}, {"const": 2.5}]}, {"/anyOf/1": "never taken"}),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, {"/oneOf/0": "satisfies another one too"}),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, {}),
        # Listed values.
        ({"type": "string", "enum": ["a", 1, "b"]}, {"/enum": "exclude it: 1"}),
        ({"enum": ["a", "abc"], "maxLength": 2}, {"/enum": "exclude it: 'abc'"}),
        # Members that no value is possible for; what is excluded on purpose is not told.
        ({"properties": {"a": {"type": "string", "enum": [1]}}}, {"/properties/a": "nothing satisfies this"}),
        ({"properties": {"a": False, "b": {"not": {}, "title": "reserved"}}}, {}),
        # Conditions and negations.
        ({"type": "string", "if": {"type": "integer"}, "then": {"const": 1}, "else": {}}, {"/then": "never applies"}),
        ({"type": "string", "if": {"maxLength": 3}, "then": {"type": "null"}}, {"/then": "nothing satisfies it"}),
        ({"type": "string", "not": {"type": "integer"}}, {"/not": "does nothing"}),
        ({"type": "string", "not": {"const": "a"}}, {}),
        # Patterns.
        ({"pattern": "^[a-z]+$"}, {"/pattern": "any length"}),
        ({"pattern": "^[a-z]{3}"}, {"/pattern": "any length"}),
        ({"pattern": "^(?=a*)([a-z]{3}|b)$"}, {}),
        ({"pattern": "^[a-z]+$", "maxLength": 9}, {}),
        # By reference, at the place where it stands.
        (
            {"$ref": "#/$defs/x", "$defs": {"x": {"type": "null", "anyOf": [{"const": 1}, {"const": None}]}}},
            {"/$defs/x/anyOf/0": "never taken"},
        ),
    ],
)
def test_what_is_told(schema: Any, expected: dict[str, str]) -> None:
    """Each finding by its pointer, and nothing else."""
    found = {pointer.removeprefix("#"): message for pointer, message in told(schema).items()}
    assert found.keys() == expected.keys()
    assert all(expected[pointer] in message for pointer, message in found.items())


@pytest.mark.parametrize(
    ("schema", "pointer", "words"),
    [
        ({"type": "string", "title": "t", "enum": [1, 2]}, "", "type and enum together"),
        ({"minimum": 3, "maximum": 2, "type": "integer", "multipleOf": 5}, "", "minimum, maximum and type together"),
        ({"enum": []}, "/enum", "enum leaves nothing"),
        (
            {
                "properties": {"a": {"type": "object", "required": ["b"], "properties": {"b": BARREN}}},
                "required": ["a"],
                "type": "object",
            },
            "/properties/a/properties/b",
            "const and type together",
        ),
        ({"allOf": [{"type": "string"}, {"$ref": "#/$defs/n"}], "$defs": {"n": BARREN}}, "#/$defs/n", "const"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "/allOf", "allOf leaves nothing"),
        (
            {
                "type": "array",
                "minItems": 1,
                "items": {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2},
            },
            "/items",
            "together",
        ),
        ({"required": ["a"], "type": "object", "properties": {"a": False}}, "/properties/a", "no value satisfies"),
        ({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}}, "", "without end"),
        (
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "$ref": "#/definitions/a",
                "type": "null",
                "definitions": {"a": {"type": "string", "const": 1}},
            },
            "#/definitions/a",
            "type and const",
        ),
    ],
)
def test_who_is_to_blame(schema: Any, pointer: str, words: str) -> None:
    """The innermost place, and the least set of keywords that leaves nothing."""
    with pytest.raises(UnsatisfiableConstraint) as caught:
        compiled(schema)
    assert words in caught.value.message
    assert caught.value.pointer.removeprefix("#") == pointer.removeprefix("#")


def test_blame_inside_of_grammars_and_tools() -> None:
    """The schema by its name, the pointer below its own."""
    with pytest.raises(UnsatisfiableConstraint, match=r"%json in line 1.*type and const") as caught:
        compile_ebnf('start: %json {"type": "string", "const": 1}', VOCABULARY)
    bad = {"type": "object", "required": ["a"], "properties": {"a": {"type": "string", "const": 1}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": bad}}
    with pytest.raises(UnsatisfiableConstraint, match="tool 'f'") as caught:
        compile_tools([tool], VOCABULARY, choice="required")
    assert caught.value.pointer.endswith("/parameters/properties/a")


@pytest.mark.parametrize(
    ("schema", "pointer", "keyword", "how"),
    [
        ({"minLength": 0}, "", "minLength", "does nothing: it asks for nothing"),
        ({"uniqueItems": False}, "", "uniqueItems", "does nothing: it asks for nothing"),
        ({"if": {"type": "null"}}, "", "if", "does nothing without then or else"),
        (
            {"$schema": "https://json-schema.org/draft/2019-09/schema", "additionalItems": False},
            "",
            "additionalItems",
            "does nothing without a list of items",
        ),
        (
            {"$schema": "http://json-schema.org/draft-06/schema#", "properties": {"a": {"$ref": "#", "maxLength": 1}}},
            "/properties/a",
            "maxLength",
            "does nothing beside $ref, up to draft 7",
        ),
        (
            {"anyOf": [{"maxLength": 5000}, {"type": "null"}]},
            "/anyOf/0",
            "maxLength",
            "on one side of a length over 2000",
        ),
        ({"maxLength": 5000}, "", "maxLength", "exactly"),
    ],
)
def test_keywords_that_do_nothing_or_less(schema: Any, pointer: str, keyword: str, how: str) -> None:
    """With the reason, in the explanation of keywords and in the notes."""
    grammar = compiled(schema)
    [entry] = [e for e in grammar.explain()["keywords"] if (e["pointer"], e["keyword"]) == (pointer, keyword)]
    assert how in entry["enforced"]
    assert how == "exactly" or any(how in note for note in grammar.notes)


@settings(max_examples=80, deadline=None)
@given(schemas.everything())
def test_a_lint_is_true(schema: Any) -> None:
    """A branch that is told never to be taken: the schema with it alone has nothing to satisfy it."""
    try:
        found = lints(Schema(schema, {}))
    except GrammarError:
        return
    for lint in found:
        steps = lint.pointer.removeprefix("#").split("/")[1:]
        if len(steps) == 2 and steps[0] == "anyOf" and "never taken" in lint.message:
            with pytest.raises(GrammarError):
                compiled({**schema, "anyOf": [schema["anyOf"][int(steps[1])]]})


def test_the_spelling_is_told() -> None:
    """What JSON allows and these options do not."""
    spelling = compiled({"type": "integer"}, property_order="schema", whitespace="spaced").explain()["spelling"]
    assert any("order" in line for line in spelling)
    assert any('", " and ": "' in line for line in spelling)
    assert any("40 digits" in line for line in spelling)
    assert any("at most 3 blanks" in line for line in compiled({}, max_whitespace=3).explain()["spelling"])
