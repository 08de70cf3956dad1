"""`x-grammar`: JSON strings whose text follows a grammar of its own, in any JSON spelling."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar import GrammarError, PlaceKind, UnsatisfiableConstraint, UnsupportedConstraint, compile_ebnf, load_grammar
from tests.grammar.lexical.test_escapes import any_spelling
from tests.grammar.rules.test_lark import accepts
from tests.grammar.walking import TOKENS, VOCABULARY, compiled, mask, take
from tests.oracles.context_free import ContextFree, Productions
from tests.strategies import grammars

SUM = 'start: term ("+" term)*\nterm: /[0-9]+/ | "(" start ")" | "\\"" /[a-zé]*/ "\\""\n'
RECURSIVE = {"type": "string", "x-grammar": {"syntax": "lark", "definition": SUM}}
REGULAR = {
    "type": "string",
    "x-grammar": {"syntax": "gbnf", "definition": 'root ::= word ("-" word)*\nword ::= [a-z]+'},
}
YES = ["1", "(1+2)+3", '"é"+((4))', '(""+1)']
NO = ["", "1+", "((1)", '"', "a", ")("]


@settings(max_examples=60, deadline=None)
@given(grammars.productions(), st.integers(0, 1 << 30).map(Random))
def test_masks_equal_the_reference_inside_of_a_string(productions: Productions, random: Random) -> None:
    """Whatever the recursion: the letters that may follow, and the quote exactly where the grammar may end."""
    reference = ContextFree(productions)
    schema = {"type": "array", "items": {"x-grammar": grammars.lark(reference), "type": "string"}}
    try:
        grammar = compiled(schema, whitespace="compact")
    except UnsatisfiableConstraint:
        assert "start" not in reference.productive
        return
    matcher, text = grammar.matcher(), b""
    assert take(matcher, b'["')
    for _ in range(6):
        legal = {TOKENS[token] for token in mask(matcher) if len(TOKENS[token]) == 1}
        going = [letter for letter in (b"a", b"b", b"c") if reference.viable(text + letter)]
        assert legal & {b"a", b"b", b"c", b'"'} == {*going, *([b'"'] if reference.complete(text) else [])}
        if not going:
            break
        text += random.choice(going)
        assert take(matcher, any_spelling(text[-1:].decode(), random).encode())
    while not matcher.is_accepting:
        steps = matcher.tokens_to_finish
        tokens = sorted(mask(matcher, steps))
        assert matcher.advance(random.choice(tokens))
        assert matcher.tokens_to_finish < steps


@pytest.mark.parametrize("schema", [RECURSIVE, {"anyOf": [RECURSIVE, {"type": "null"}]}, {"x-grammar": SUM}])
def test_in_every_spelling(schema: dict[str, Any]) -> None:
    """Escapes, short or numbered, and what must be escaped."""
    grammar, random = compiled(schema), Random(7)
    for text in YES:
        assert accepts(grammar, json.dumps(text)), text
        assert all(accepts(grammar, '"' + any_spelling(text, random) + '"') for _ in range(5)), text
    assert not any(accepts(grammar, json.dumps(text)) for text in NO)


@pytest.mark.parametrize(
    ("schema", "yes", "no"),
    [
        # Alternatives of any kind, and the empty text.
        (
            {"anyOf": [RECURSIVE, {"enum": ["n/a", ""]}]},
            ['"n/a"', '""', '"(1)"', '"\\u006e/a"'],
            ['"n/b"', '"n/a1"', '"("'],
        ),
        ({"oneOf": [{"type": "integer"}, RECURSIVE]}, ["3", '"(3)"'], ['"3("']),
        (
            {"anyOf": [RECURSIVE, {"x-grammar": 'start: "[" start "]" | ","', "type": "string"}]},
            ['"[[,]]"', '"(1)"'],
            ['"[(1)]"'],
        ),
        # Members and items, and objects told apart by another member.
        (
            {"properties": {"a": RECURSIVE, "b": REGULAR}},
            ['{"a": "(1)", "b": "x-y"}'],
            ['{"a": "x-y"}', '{"b": "(1)"}'],
        ),
        ({"type": "array", "items": RECURSIVE, "minItems": 2}, ['["1", "(2)"]'], ['["1"]', '["1", "("]']),
        (
            {
                "oneOf": [
                    {"required": ["k", "v"], "properties": {"k": {"const": "sum"}, "v": RECURSIVE}},
                    {"required": ["k", "v"], "properties": {"k": {"const": "any"}, "v": {"type": "integer"}}},
                ]
            },
            ['{"k": "sum", "v": "(1)"}', '{"k": "any", "v": 1}'],
            ['{"k": "sum", "v": 1}', '{"k": "any", "v": "(1)"}'],
        ),
    ],
)
def test_among_other_keywords(schema: dict[str, Any], yes: list[str], no: list[str]) -> None:
    """By example."""
    grammar = compiled(schema, whitespace="spaced", property_order="schema")
    for text in yes:
        assert accepts(grammar, text), text
    for text in no:
        assert not accepts(grammar, text), text


@pytest.mark.parametrize(
    ("siblings", "yes", "no"),
    [
        ({"maxLength": 3}, ["a-b", "abc"], ["abcd", "-"]),
        ({"pattern": "-"}, ["a-b"], ["ab"]),
        ({"not": {"const": "a"}}, ["b", "a-a"], ["a"]),
    ],
)
def test_a_grammar_without_recursion_composes(siblings: dict[str, Any], yes: list[str], no: list[str]) -> None:
    """It is a regular language like any pattern."""
    grammar = compiled({**REGULAR, **siblings})
    assert all(accepts(grammar, json.dumps(text)) for text in yes)
    assert not any(accepts(grammar, json.dumps(text)) for text in no)


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({**RECURSIVE, "maxLength": 3}, "maxLength"),
        ({**RECURSIVE, "pattern": "a"}, "pattern"),
        ({"type": "string", "not": RECURSIVE}, "x-grammar"),
        ({"type": "string", "allOf": [RECURSIVE, {"minLength": 2}]}, "x-grammar"),
        ({"type": "array", "items": RECURSIVE, "uniqueItems": True, "minItems": 2}, "x-grammar"),
        ({"x-grammar": 'start: %json {"type": "integer"}'}, "x-grammar"),
    ],
)
def test_what_recursion_rules_out_is_refused_by_name(schema: dict[str, Any], keyword: str) -> None:
    """Narrowing, negating and remembering."""
    with pytest.raises(UnsupportedConstraint) as caught:
        compiled(schema)
    assert caught.value.keyword == keyword
    assert caught.value.pointer.endswith("/" + keyword)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (3, GrammarError),
        ({}, GrammarError),
        ({"definition": SUM, "flags": "i"}, GrammarError),
        ({"definition": SUM, "syntax": "yacc"}, GrammarError),
        ({"definition": "start: missing"}, GrammarError),
        ({"definition": 'start: "a" start'}, UnsatisfiableConstraint),
        ({"definition": SUM, "start": "absent"}, GrammarError),
    ],
)
def test_a_malformed_grammar_is_refused_at_its_place(value: Any, error: type[GrammarError]) -> None:
    """With the pointer into the schema."""
    with pytest.raises(error) as caught:
        compiled({"properties": {"q": {"x-grammar": value}}})
    assert (caught.value.pointer, caught.value.keyword) == ("/properties/q/x-grammar", "x-grammar")


def test_a_plan_and_an_explanation_like_any_schema() -> None:
    """The automaton behind it is nobody's business."""
    grammar = load_grammar(compiled({"properties": {"q": RECURSIVE}}).to_bytes(), VOCABULARY)
    assert accepts(grammar, '{"q":"(1)"}')
    told = grammar.explain()
    assert told["kind"] == "json_schema"
    assert {"pointer": "/properties/q", "keyword": "x-grammar", "enforced": "exactly"} in told["keywords"]


def test_places_inside_of_a_derived_string() -> None:
    """They are those of a string, with its pointer."""
    matcher = compiled({"properties": {"q": RECURSIVE}}, whitespace="spaced").matcher()
    assert take(matcher, b'{"q": "((1')
    assert (matcher.place.kind, matcher.place.pointer) == (PlaceKind.STRING, "/q")
    assert take(matcher, b'))"')
    assert matcher.place.kind is PlaceKind.PUNCTUATION


def test_in_a_value_inside_of_a_grammar() -> None:
    """Three grammars deep; where the value cannot be told from what else begins there, it is refused."""
    grammar = compile_ebnf(f'start: "<" %json {json.dumps(RECURSIVE)} ">" start?', VOCABULARY)
    assert accepts(grammar, '<"(1)"><"2">')
    assert not accepts(grammar, '<"(1">')
    with pytest.raises(UnsupportedConstraint, match="x-grammar"):
        compile_ebnf(f'start: %json {json.dumps(RECURSIVE)} | "\\"" /[a-z]/', VOCABULARY)
