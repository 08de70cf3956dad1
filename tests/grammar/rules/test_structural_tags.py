"""Structural tags: free text, a trigger, a constraint, free text; the formats by example, their errors by place."""

from typing import Any

import pytest

from grammar import Grammar, GrammarError, PlaceKind, UnsupportedConstraint, compile_structural_tags, load_grammar
from tests.grammar.rules.test_lark import accepts
from tests.grammar.walking import VOCABULARY, mask, take

NUMBER = {
    "type": "tag",
    "begin": "<f>",
    "content": {"type": "json_schema", "json_schema": {"type": "integer"}},
    "end": "</f>",
}
ANY_TEXT = {"type": "any_text"}


def const(value: str) -> dict[str, Any]:
    """Exactly this text."""
    return {"type": "const_string", "value": value}


def triggered(**more: Any) -> dict[str, Any]:
    """Free text in which "<f" begins a number in a tag."""
    return {"type": "triggered_tags", "triggers": ["<f"], "tags": [NUMBER], **more}


def compiled(format_: dict[str, Any]) -> Grammar:
    """The format, and again from its plan."""
    grammar = compile_structural_tags({"type": "structural_tag", "format": format_}, VOCABULARY, whitespace="spaced")
    return load_grammar(grammar.to_bytes(), VOCABULARY)


@pytest.mark.parametrize(
    ("format_", "yes", "no"),
    [
        (triggered(), ["", "x", "<f>1</f>", "x<f>-2</f>y<f>2</f>", "x<", "<e>"], ["x<f", "<f>a</f>", "<f>1</f", "<fx"]),
        (triggered(stop_after_first=True), ["", "x<f>1</f>"], ["<f>1</f>y"]),
        (triggered(at_least_one=True), ["<f>1</f>", "<f>1</f>y<f>2</f>"], ["", "x", "x<f>1</f>"]),
        (triggered(at_least_one=True, stop_after_first=True), ["<f>1</f>"], ["", "<f>1</f>y"]),
        (triggered(excludes=["no"]), ["n<f>1</f>on"], ["no", "x<f>1</f>no"]),
        ({"type": "tag", "begin": "<t>", "content": ANY_TEXT, "end": "aa"}, ["<t>aa", "<t>xaaa"], ["<t>xaay", "<t>x"]),
        (
            {"type": "tag", "begin": "<t>", "content": triggered(), "end": ["</t>", ";"]},
            ["<t>x<f>1</f>y;", "<t></t>"],
            ["<t>;x;"],
        ),
        ({"type": "sequence", "elements": [ANY_TEXT, const("END")]}, ["END", "xENDEND"], ["EN", "ENDx"]),
        ({"type": "or", "elements": [const("a"), {"type": "regex", "pattern": "b+"}]}, ["a", "bb"], ["ab", ""]),
        (
            {"type": "tags_with_separator", "tags": [NUMBER], "separator": ", "},
            ["", "<f>1</f>", "<f>1</f>, <f>2</f>"],
            ["<f>1</f>, ", "x"],
        ),
        (
            {
                "type": "tags_with_separator",
                "tags": [NUMBER],
                "separator": ",",
                "at_least_one": True,
                "stop_after_first": True,
            },
            ["<f>1</f>"],
            ["", "<f>1</f>,<f>2</f>"],
        ),
        ({"type": "dispatch", "rules": [["<f", const(">")]], "loop": False}, ["x", "x<f>"], ["x<f>y"]),
        ({"type": "dispatch", "rules": [["<f", const(">")]], "excludes": ["Q"]}, ["x<f>y<f>"], ["x<f>Q", "<fy"]),
        ({"type": "repeat", "min": 1, "max": 2, "content": const("a")}, ["a", "aa"], ["", "aaa"]),
        ({"type": "repeat", "min": 1, "max": -1, "content": const("a")}, ["a", "aaaa"], [""]),
        ({"type": "star", "content": const("a")}, ["", "aaa"], ["b"]),
        ({"type": "plus", "content": const("a")}, ["a", "aaa"], [""]),
        ({"type": "optional", "content": const("a")}, ["", "a"], ["aa"]),
        ({"type": "any_text", "max_chars": 2, "excludes": ["x"]}, ["", "éé"], ["abc", "x"]),
        ({"type": "grammar", "grammar": 'root ::= "(" root ")" | "x"'}, ["((x))"], ["((x)"]),
        (
            {
                "type": "tag",
                "begin": "<",
                "content": {"type": "grammar", "grammar": 'start: "a" start "b" | "c"'},
                "end": ">",
            },
            ["<acb>"],
            ["<ac>"],
        ),
    ],
)
def test_formats_by_example(format_: dict[str, Any], yes: list[str], no: list[str]) -> None:
    """As xgrammar reads them; compared with it by hand when these were written."""
    grammar = compiled(format_)
    for text in yes:
        assert accepts(grammar, text), text
    for text in no:
        assert not accepts(grammar, text), text


def test_the_first_form_of_structural_tags() -> None:
    """vLLM's structures and triggers; a schema may be a string; a string in JSON may hold the end."""
    grammar = compile_structural_tags(
        {
            "type": "structural_tag",
            "structures": [
                {"begin": "<fn=a>", "schema": {"properties": {"x": {"type": "string"}}}, "end": "</fn>"},
                {"begin": "<fn=b>", "schema": '{"type": "array"}', "end": "</fn>"},
            ],
            "triggers": ["<fn="],
        },
        VOCABULARY,
    )
    assert accepts(grammar, 'hi <fn=a>{"x":"</fn>"}</fn> and <fn=b>[1, {}]</fn>.')
    assert not accepts(grammar, "<fn=c>")
    assert not accepts(grammar, "<fn=b>{}")


def test_places_and_forced_text_in_and_around_a_tag() -> None:
    """Free text, then a value with its pointer; what a trigger forces; what a budget leaves."""
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
        "additionalProperties": False,
    }
    content = {"type": "json_schema", "json_schema": schema}
    tag = {"type": "tag", "begin": "<f>", "content": content, "end": "</f>"}
    matcher = compiled({"type": "triggered_tags", "triggers": ["<f"], "tags": [tag]}).matcher()
    assert take(matcher, b"hi <")
    assert matcher.place.kind is PlaceKind.FREE
    assert matcher.is_accepting
    assert take(matcher, b"f")
    assert matcher.forced_bytes() == b'>{"name": "'
    assert take(matcher, b'>{"name": "x')
    assert (matcher.place.kind, matcher.place.pointer) == (PlaceKind.STRING, "/name")
    least = matcher.tokens_to_finish
    legal = mask(matcher, least)
    assert legal < mask(matcher)
    assert all(VOCABULARY.tokens[token].startswith(b'"') for token in legal)


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        ({"type": "tag"}, "/type"),
        ({"type": "structural_tag"}, ""),
        ({"type": "structural_tag", "format": {"type": "unknown"}}, "/format"),
        ({"type": "structural_tag", "format": {"type": "regex"}}, "/format"),
        ({"type": "structural_tag", "format": {"type": "regex", "pattern": "("}}, "/format/pattern"),
        ({"type": "structural_tag", "format": {**const("a"), "more": 1}}, "/format"),
        (
            {"type": "structural_tag", "format": {"type": "or", "elements": [const("a"), {"type": "or"}]}},
            "/format/elements/1",
        ),
        ({"type": "structural_tag", "format": triggered(triggers=["<g"])}, "/format/tags/0"),
        ({"type": "structural_tag", "format": triggered(triggers=["<", "<f"])}, "/format/tags/0"),
        (
            {
                "type": "structural_tag",
                "format": {"type": "dispatch", "rules": [["xab", const("a")], ["a", const("b")]]},
            },
            "/format",
        ),
        ({"type": "structural_tag", "format": {"type": "grammar", "grammar": "root ::= x"}}, "/format/grammar"),
        (
            {
                "type": "structural_tag",
                "format": {"type": "json_schema", "json_schema": {"properties": {"a": {"type": 1}}}},
            },
            "/format/json_schema/properties/a/type",
        ),
        ("{", ""),
    ],
)
def test_a_malformed_tag_is_an_error_with_its_place(raw: Any, pointer: str) -> None:
    """As a JSON Pointer into the structural tag."""
    with pytest.raises(GrammarError) as caught:
        compile_structural_tags(raw, VOCABULARY)
    assert caught.value.pointer == pointer, caught.value


@pytest.mark.parametrize(
    "format_",
    [
        {"type": "token", "token": 3},
        {"type": "json_schema", "json_schema": {}, "style": "qwen_xml"},
        {"type": "json_schema", "json_schema": {}, "any_order": True},
        {"type": "any_text", "max_tokens": 5},
        {"type": "tag", "begin": {"type": "token", "token": 1}, "content": ANY_TEXT, "end": "x"},
    ],
)
def test_what_is_not_enforced_is_refused(format_: dict[str, Any]) -> None:
    """Tokens as such, other spellings of JSON."""
    with pytest.raises(UnsupportedConstraint):
        compiled(format_)
