"""Tool calls: each family's spelling by example, choices, text before calls, thought before text, special tokens."""

import json
from typing import Any

import pytest

from grammar import Grammar, GrammarError, UnsupportedConstraint, Vocabulary, compile_tools, load_grammar
from tests.grammar.rules.test_lark import accepts
from tests.grammar.walking import END, TOKENS, VOCABULARY, mask, take

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"$ref": "#/$defs/b"}},
            "required": ["a", "b"],
            "additionalProperties": False,
            "$defs": {"b": {"type": "integer"}},
        },
    },
}
NOW = {"type": "function", "function": {"name": "now"}}
SUM = '{"a": 1, "b": 2}'
HERMES_ADD = f'<tool_call>\n{{"name": "add", "arguments": {SUM}}}\n</tool_call>'
HERMES_NOW = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
DEEPSEEK = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")


def compiled(**options: Any) -> Grammar:
    """The two tools, again from the plan."""
    grammar = compile_tools([ADD, NOW], VOCABULARY, property_order="schema", whitespace="spaced", **options)
    return load_grammar(grammar.to_bytes(), VOCABULARY)


@pytest.mark.parametrize(
    ("options", "yes", "no"),
    [
        (
            {},
            ["", "Hello.", HERMES_ADD, f"Well: {HERMES_ADD}\n{HERMES_NOW}", "<tool"],
            ["<tool_call>", f"{HERMES_ADD}.", HERMES_ADD.replace("add", "sub"), HERMES_ADD.replace("1", "1.5")],
        ),
        ({"parallel": False}, [HERMES_ADD, f"x{HERMES_NOW}"], [f"{HERMES_ADD}\n{HERMES_ADD}"]),
        ({"choice": "required"}, [HERMES_ADD, f"{HERMES_NOW}\n{HERMES_NOW}"], ["", "x", f"x{HERMES_ADD}"]),
        ({"choice": "none"}, ["", "x"], [HERMES_NOW]),
        ({"choice": {"type": "function", "function": {"name": "now"}}}, [HERMES_NOW], [HERMES_ADD, ""]),
        ({"choice": "now"}, [HERMES_NOW], [HERMES_ADD, ""]),
        (
            {
                "choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "add"}}]},
                }
            },
            ["x", HERMES_ADD],
            [HERMES_NOW],
        ),
        (
            {"reasoning": ("<think>", "</think>"), "choice": "required"},
            [HERMES_NOW, f"<think>so\n</think>{HERMES_NOW}"],
            ["<think></think>", f"<think>{HERMES_NOW}"],
        ),
        ({"reasoning": ("", "</think>")}, ["so</think>", f"</think>yes {HERMES_NOW}"], ["so", HERMES_NOW]),
        (
            {"format": "llama3_json"},
            ["Hi", '{"x": 1}', f'{{"name": "add", "parameters": {SUM}}}', 'Let me: {"name": "now", "parameters": {}}'],
            ['{"name": "sub"}', f'{{"name": "add", "parameters": {SUM}}};', f'x {{"name": "add", "parameters": {SUM}'],
        ),
        (
            {"format": "mistral"},
            ["Hi", f'Hi[TOOL_CALLS][{{"name": "add", "arguments": {SUM}}}, {{"name": "now", "arguments": {{}}}}]'],
            ["[TOOL_CALLS][]", "[TOOL_CALLS]"],
        ),
        (
            {"format": "mistral_args"},
            [f"[TOOL_CALLS]add[ARGS]{SUM}[TOOL_CALLS]now[ARGS]{{}}"],
            ["[TOOL_CALLS]add[ARGS]"],
        ),
        (
            {"format": "deepseek_v3"},
            [
                f"{DEEPSEEK[0]}<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{{}}\n```<｜tool▁call▁end｜>"
                f"{DEEPSEEK[1]}"
            ],
            [DEEPSEEK[0]],
        ),
        (
            {"format": "deepseek_v31"},
            [f"x{DEEPSEEK[0]}<｜tool▁call▁begin｜>add<｜tool▁sep｜>{SUM}<｜tool▁call▁end｜>{DEEPSEEK[1]}"],
            [f"{DEEPSEEK[0]}{DEEPSEEK[1]}"],
        ),
        (
            {"format": "openai"},
            [
                "<|channel|>final<|message|>Hi",
                f"<|channel|>commentary to=functions.add <|constrain|>json<|message|>{SUM}<|call|>",
            ],
            ["Hi", "<|channel|>commentary to=functions.sub "],
        ),
        (
            {"answer": {"type": "json_schema", "json_schema": {"type": "object", "required": ["x"]}}},
            ['{"x": 1}', HERMES_ADD, f"{HERMES_ADD}\n{HERMES_NOW}"],
            ["", "{}", "Hi", f'{{"x": 1}}{HERMES_ADD}'],
        ),
        (
            {
                "format": "llama3_json",
                "answer": {
                    "type": "json_schema",
                    "json_schema": {
                        "type": "object",
                        "properties": {"name": {"type": "string"}},
                        "additionalProperties": False,
                    },
                },
            },
            ['{"name": "Bo"}', f'{{"name": "add", "parameters": {SUM}}}', '{"name": "now", "parameters": {}}'],
            ['{"name": 1}'],
        ),
        (
            {"format": "mistral_args", "choice": "none", "answer": {"type": "regex", "pattern": "a+"}},
            ["a", "aa"],
            ["", "b", "[TOOL_CALLS]now[ARGS]{}"],
        ),
        (
            {
                "reasoning": ("<think>", "</think>", "\n\n"),
                "answer": {"type": "grammar", "grammar": 'start: "x"', "syntax": "lark"},
            },
            ["x", "<think>{</think>x", "<think></think>\nx", f"<think></think>\n\n{HERMES_NOW}"],
            ["<think>x", "<think></think>\n\n\nx", f"x{HERMES_NOW}"],
        ),
        (
            {
                "format": "openai",
                "reasoning": ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant"),
                "answer": {"type": "const_string", "value": "yes"},
            },
            [
                "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>yes",
                "<|channel|>final<|message|>yes",
            ],
            ["<|channel|>analysis<|message|>hm<|end|><|start|>assistant", "<|channel|>final<|message|>no"],
        ),
        ({"format": "json", "choice": "required"}, [f'{{"name": "add", "arguments": {SUM}}}'], ["", "[]"]),
        ({"format": "json_list", "choice": "required"}, ['[{"name": "now", "arguments": {}}]'], ["", "[]"]),
    ],
)
def test_families_and_choices_by_example(options: dict[str, Any], yes: list[str], no: list[str]) -> None:
    """What each lets through and what not, masks included."""
    grammar = compiled(**options)
    for text in yes:
        assert accepts(grammar, text), text
    for text in no:
        assert not accepts(grammar, text), text


def custom(syntax: str, definition: str) -> dict[str, Any]:
    """A custom tool in OpenAI's form."""
    grammar = {"syntax": syntax, "definition": definition}
    return {"type": "custom", "custom": {"name": "run", "format": {"type": "grammar", "grammar": grammar}}}


LINES = 'start: LINE ("\\n" LINE)*\nLINE: /[a-z"]+/'


@pytest.mark.parametrize(
    ("tool", "inside", "outside"),
    [
        (custom("lark", LINES), ["a", 'say "hi"'.replace(" ", "\n"), "a\nb\nc"], ["", "A", "a\n", "a\tb"]),
        (custom("regex", r"[\s\S]{2}"), ["ab", "\x00\x1f", '\\"', "é\n", "\b\f"], ["a", "abc"]),
        ({"type": "custom", "custom": {"name": "run"}}, ["", "any\n"], []),
    ],
)
def test_a_custom_tools_text_is_under_its_grammar(tool: Any, inside: list[str], outside: list[str]) -> None:
    """Spelled as the string of the one argument that templates show."""
    grammar = compile_tools([tool, NOW], VOCABULARY, choice="required", whitespace="spaced")
    for text, wanted in [*((text, True) for text in inside), *((text, False) for text in outside)]:
        arguments = json.dumps({"input": text}, ensure_ascii=False)
        call = f'<tool_call>\n{{"name": "run", "arguments": {arguments}}}\n</tool_call>'
        assert accepts(grammar, call) is wanted, text


def test_json_inside_a_custom_tools_text_is_refused() -> None:
    """Its quotes would have to be spelled twice over."""
    with pytest.raises(UnsupportedConstraint) as caught:
        compile_tools([custom("lark", "start: %json {}")], VOCABULARY)
    assert caught.value.pointer == "/0/custom/format/properties/input/x-grammar"


def test_a_marker_that_ends_the_message_is_its_end() -> None:
    """gpt-oss ends a call with a token that ends the generation, too."""
    tokens = [*TOKENS[:2], b"", *TOKENS[2:]]
    vocabulary = Vocabulary(tokens, [2], {"<|call|>": 2})
    matcher = compile_tools([NOW], vocabulary, choice="required", format="openai", whitespace="spaced").matcher()
    assert take(matcher, b"<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}", tokens)
    assert mask(matcher, None, vocabulary) == {2}


@pytest.mark.parametrize("special", [{"<|end|>": 2}, {"<|end|>": 2, "<|start|>": 3}])
def test_the_name_of_an_end_token_within_a_message_is_text(special: dict[str, int]) -> None:
    """The token itself would end the generation there."""
    tokens = [*TOKENS[:2], b"", b"", *TOKENS[2:]]
    vocabulary = Vocabulary(tokens, [2], special)
    reasoning = ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant")
    matcher = compile_tools([NOW], vocabulary, choice="required", format="openai", reasoning=reasoning).matcher()
    assert take(matcher, b"<|channel|>analysis<|message|>so", tokens)
    assert matcher.tokens_to_finish < 200
    assert 2 not in mask(matcher, None, vocabulary)
    assert take(matcher, b"<|end|>", tokens)
    if "<|start|>" in special:
        assert mask(matcher, None, vocabulary) == {3}
        assert matcher.advance(3)
    assert take(matcher, (b"" if "<|start|>" in special else b"<|start|>") + b"assistant<|channel|>commentary", tokens)


def test_a_call_is_forced_once_it_is_begun() -> None:
    """Nothing is left to chance up to the arguments, nor after them."""
    matcher = compiled(choice="add").matcher()
    assert matcher.forced_bytes() == b'<tool_call>\n{"name": "add", "arguments": {"a": '
    assert take(matcher, f'<tool_call>\n{{"name": "add", "arguments": {SUM}'.encode())
    assert matcher.forced_bytes() == b"}\n</tool_call>"


def test_markers_that_are_special_tokens_are_those_tokens() -> None:
    """Free text cannot spell them, and their pieces are not legal anywhere."""
    tokens = [*TOKENS[:2], b"", b"", *TOKENS[2:]]
    vocabulary = Vocabulary(tokens, [END], {"<tool_call>": 2, "</tool_call>": 3})
    matcher = compile_tools([NOW], vocabulary, whitespace="spaced").matcher()
    assert take(matcher, b"hi ", tokens)
    assert 2 in mask(matcher, None, vocabulary)
    assert 3 not in mask(matcher, None, vocabulary)
    assert tokens.index(b"\xff") not in mask(matcher, None, vocabulary)
    assert matcher.advance(2)
    assert take(matcher, b'\n{"name": "now", "arguments": {}}\n', tokens)
    assert mask(matcher, None, vocabulary) == {3}
    assert matcher.advance(3)
    assert matcher.is_accepting


def test_a_vocabulary_names_only_special_ids() -> None:
    """A token that spells text is no special token."""
    with pytest.raises(ValueError, match="spells text"):
        Vocabulary(TOKENS, [END], {"<x>": TOKENS.index(b"a")})


@pytest.mark.parametrize(
    ("tools", "options", "pointer"),
    [
        ([{"type": "function"}], {}, "/0"),
        ([ADD, ADD], {}, "/1"),
        ([ADD], {"choice": "sub"}, ""),
        ([ADD], {"choice": {"type": "other"}}, ""),
        ([], {"choice": "required"}, ""),
        (
            [NOW, {"name": "f", "input_schema": {"properties": {"x": {"type": 1}}}}],
            {},
            "/1/input_schema/properties/x/type",
        ),
        (
            [{"type": "function", "function": {"name": "f", "parameters": {"minLength": -1}}}],
            {},
            "/0/function/parameters/minLength",
        ),
    ],
)
def test_errors_name_the_tool(tools: list[Any], options: dict[str, Any], pointer: str) -> None:
    """By its place in the list."""
    with pytest.raises(GrammarError) as caught:
        compile_tools(tools, VOCABULARY, **options)
    assert caught.value.pointer == pointer, caught.value


def test_an_unknown_format_is_refused() -> None:
    """With the formats that there are."""
    with pytest.raises(UnsupportedConstraint, match="hermes"):
        compile_tools([ADD], VOCABULARY, format="esperanto")
