"""JSON inside of grammars: frames where the value can be told apart, readings beside each other where it cannot."""

from typing import Any

import pytest

from grammar import GrammarError, UnsatisfiableConstraint, UnsupportedConstraint, compile_ebnf
from tests.grammar.rules.test_lark import accepts
from tests.grammar.walking import VOCABULARY, mask, take

CLOSED = '{"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": false}'


@pytest.mark.parametrize(
    ("source", "yes", "no"),
    [
        # Two schemas at once are one frame with a verdict each.
        (
            'start: %json {"enum": ["a", "b"]} "x" | %json {"enum": ["a", "c"]} "y"',
            ['"a"x', '"a"y', '"b"x', '"c"y'],
            ['"b"y', '"c"x', '"a"z'],
        ),
        # Digits may follow a number: every split is read.
        ('start: %json {"type": "integer", "maximum": 20, "minimum": 0} /[0-9]+/', ["12", "20123", "55"], ["5", "a1"]),
        # Something else begins with a brace.
        ("start: %json " + CLOSED + ' | "{" /[a-z]+/ "}"', ["{}", '{"a": 1}', "{abc}"], ['{"b": 1}', "{1}"]),
        # Recursion around values, and values that end a rule.
        ('start: "(" start ")" | %json {"type": "number"}', ["1.5", "((2))", "(-0)"], ["(1", "((a))", "1)"]),
        (
            'start: item ("," item)*\nitem: %json {"type": "boolean"} | "[" start "]"',
            ["true,[false,[true]]"],
            ["true,"],
        ),
        ('start: (/[a-z ]+/ | %json {"type": "array"})+', ["ab [1, 2]c[[]]"], ["ab ["]),
    ],
)
def test_values_in_grammars(source: str, yes: list[str], no: list[str]) -> None:
    """By example, masks included."""
    grammar = compile_ebnf(source, VOCABULARY, whitespace="spaced")
    for text in yes:
        assert accepts(grammar, text), text
    for text in no:
        assert not accepts(grammar, text), text


def test_keys_are_not_repeated_inside_of_a_grammar() -> None:
    """What a frame must remember is remembered there too."""
    grammar = compile_ebnf('start: "<" %json {"type": "object"} ">"', VOCABULARY)
    assert accepts(grammar, '<{"a":1,"b":2}>')
    matcher = grammar.matcher()
    assert take(matcher, b'<{"a":1,"a')
    assert VOCABULARY.tokens.index(b'"') not in mask(matcher)


def test_open_objects_that_cannot_be_told_apart_are_refused() -> None:
    """Their keys would have to be remembered in several readings at once."""
    with pytest.raises(UnsupportedConstraint, match="begins like something else"):
        compile_ebnf('start: %json {"type": "object"} | "{" /.*/', VOCABULARY)


@pytest.mark.parametrize(
    ("schema", "error", "pointer"),
    [
        ('{"type": 3}', GrammarError, "/type"),
        ('{"type": "string", "pattern": "(a)\\\\1"}', UnsupportedConstraint, "/pattern"),
        ('{"minimum": 3, "maximum": 2, "type": "number"}', UnsatisfiableConstraint, ""),
    ],
)
def test_errors_in_a_schema_name_the_value(schema: str, error: type[GrammarError], pointer: str) -> None:
    """Where it stands in the grammar, and where the fault is in the schema."""
    with pytest.raises(error, match="%json in line 1, column 12") as caught:
        compile_ebnf(f'start: "a" %json {schema}', VOCABULARY)
    assert pointer in caught.value.pointer


def test_every_walk_through_values_and_rules_ends_within_its_budget() -> None:
    """The least budget is enough, whatever is chosen."""
    source: Any = 'start: "f(" [%json {"type": "array", "minItems": 2, "items": {"type": "integer"}}] ")" start | ";"'
    grammar = compile_ebnf(source, VOCABULARY, whitespace="compact")
    matcher, budget = grammar.matcher(), grammar.least_budget + 9
    while not matcher.is_accepting:
        legal = sorted(mask(matcher, budget))
        assert legal
        assert matcher.advance(legal[len(legal) // 2])
        budget -= 1
        assert matcher.tokens_to_finish <= budget
