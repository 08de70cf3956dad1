"""`x-source`: strings that can only be quoted from a text given along, in any JSON spelling of its characters."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar import GrammarError, GrammarTooLarge, compile_ebnf, compile_tools, load_grammar
from tests.grammar.rules.test_lark import accepts
from tests.grammar.walking import VOCABULARY, compiled

QUOTED = {"type": "string", "x-source": "input"}
TEXT = 'Ann said "é\n\U0001f600" to Bob.'


def escaped(text: str) -> str:
    """Every character as \\uXXXX, surrogate pairs included."""
    units = text.encode("utf-16-be")
    return '"' + "".join(f"\\u{units[i]:02X}{units[i + 1]:02x}" for i in range(0, len(units), 2)) + '"'


@settings(max_examples=60, deadline=None)
@given(st.text('ab"é\n\U0001f600', min_size=1, max_size=12), st.text('ab"é\n\U0001f600', min_size=1, max_size=4))
def test_exactly_what_stands_in_the_text(text: str, quoted: str) -> None:
    """As Python's `in` says, escaped or not; nothing at all is no quotation."""
    grammar = compiled(QUOTED, source=text)
    for spelled in (json.dumps(quoted), json.dumps(quoted, ensure_ascii=False), escaped(quoted)):
        assert accepts(grammar, spelled) == (quoted in text)
    assert accepts(grammar, json.dumps(text[:3]))
    assert not accepts(grammar, '""')


@pytest.mark.parametrize(
    ("siblings", "yes", "no"),
    [
        ({"maxLength": 3}, ["Ann", "é\n", "n"], ["Ann ", "", "x"]),
        ({"minLength": 4}, ["Ann ", TEXT], ["Ann"]),
        ({"minLength": 0}, ["", "Ann"], ["x"]),
        ({"pattern": "^[A-Z]"}, ["Bob", "Ann said"], ["ob"]),
        ({"enum": ["Bob", "Carl"]}, ["Bob"], ["Carl", "Ann"]),
        ({"not": {"const": "Ann"}}, ["An", "Bob"], ["Ann"]),
    ],
)
def test_beside_other_keywords(siblings: dict[str, Any], yes: list[str], no: list[str]) -> None:
    """Each narrows what may be quoted; an explicit minLength of 0 allows nothing at all."""
    grammar = compiled({**QUOTED, **siblings}, source=TEXT)
    assert all(accepts(grammar, json.dumps(text)) for text in yes)
    assert not any(accepts(grammar, json.dumps(text)) for text in no)


def test_one_branch_quotes_and_the_others_do_not() -> None:
    """In objects, lists and alternatives."""
    schema = {
        "type": "object",
        "properties": {"who": {"anyOf": [QUOTED, {"const": "nobody"}]}, "all": {"type": "array", "items": QUOTED}},
    }
    grammar = compiled(schema, source=TEXT)
    assert accepts(grammar, '{"who": "Bob", "all": ["Ann", "said"]}')
    assert accepts(grammar, '{"who": "nobody"}')
    assert not accepts(grammar, '{"who": "Carl"}')
    assert not accepts(grammar, '{"all": ["Ann", "Carl"]}')


def test_a_plan_carries_the_text_and_the_explanation_does_not() -> None:
    """The text may be long, and is nobody's business but the matcher's."""
    grammar = compiled(QUOTED, source=TEXT)
    assert accepts(load_grammar(grammar.to_bytes(), VOCABULARY), '"Bob"')
    told = grammar.explain()
    assert {"pointer": "", "keyword": "x-source", "enforced": "exactly"} in told["keywords"]
    assert "Bob" not in json.dumps(told)


def test_in_grammars_and_tools() -> None:
    """The option belongs to every constraint with JSON inside it."""
    assert accepts(compile_ebnf(f'start: "<" %json {json.dumps(QUOTED)} ">"', VOCABULARY, source=TEXT), '<"said">')
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"q": QUOTED}}}}
    grammar = compile_tools([tool], VOCABULARY, choice="required", format="json", source=TEXT, whitespace="spaced")
    assert accepts(grammar, '{"name": "f", "arguments": {"q": "Bob"}}')
    assert not accepts(grammar, '{"name": "f", "arguments": {"q": "Carl"}}')


@pytest.mark.parametrize("wanted", ["prompt", "", {"from": "input"}, True])
def test_another_source_is_refused(wanted: Any) -> None:
    """There is one: the input."""
    with pytest.raises(GrammarError, match="x-source") as caught:
        compiled({"properties": {"a": {"x-source": wanted}}}, source=TEXT)
    assert caught.value.pointer == "/properties/a/x-source"


def test_without_a_text_it_is_refused() -> None:
    """By name, wherever it stands."""
    with pytest.raises(GrammarError, match="not given") as caught:
        compiled({"properties": {"a": QUOTED}})
    assert (caught.value.pointer, caught.value.keyword) == ("/properties/a/x-source", "x-source")


def test_a_text_that_is_too_long_is_refused() -> None:
    """Before any automaton is made."""
    with pytest.raises(GrammarTooLarge, match="too long to quote from"):
        compiled(QUOTED, source="ab" * 6_000_000)


def test_what_is_no_text_is_refused() -> None:
    """Lone surrogates, and values that are not text."""
    with pytest.raises(GrammarError, match="surrogates"):
        compiled(QUOTED, source="\ud800")
    with pytest.raises(ValueError, match="source"):
        compiled(QUOTED, source=3)


def test_nothing_to_quote() -> None:
    """An empty text satisfies no such string, but other branches remain."""
    assert accepts(compiled({"anyOf": [QUOTED, {"type": "null"}]}, source=""), "null")
    with pytest.raises(GrammarError, match="no value satisfies"):
        compiled(QUOTED, source="")


def test_no_quotation_reaches_over_a_nul() -> None:
    """So several texts can be given as one."""
    grammar = compiled(QUOTED, source="ab\0cd")
    assert accepts(grammar, '"ab"')
    assert accepts(grammar, '"cd"')
    assert not accepts(grammar, '"b\\u0000c"')
    assert not accepts(grammar, '"bc"')
