"""Whatever is sent as a grammar, a tag, tools or a text to quote from: a grammar or a documented error, soon."""

import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar import (
    GrammarError,
    GrammarTooLarge,
    Vocabulary,
    compile_ebnf,
    compile_structural_tags,
    compile_substring,
    compile_tools,
)
from tests.grammar.walking import END, TOKENS, VOCABULARY, mask

LARK_PIECES = [
    *('start: "a"', "start", ": ", "\n", "|", "(", ")", "[", "]", "*", "+", "?", "~2..3", "{1,2}", "{", "}", ","),
    *(
        '"b"',
        '"c"i',
        '"a".."c"',
        "/[ab]+/",
        "/(/",
        "/a/x",
        "x",
        "X",
        "x: start",
        "X: /a/",
        "%ignore X",
        "%import common.WS",
    ),
    *(
        '%json {"type": "null"}',
        '%json {"type":',
        "%regex {}",
        "->y",
        ".1",
        "// no",
        "\\",
        "é",
        "!",
        "_x{y}: y",
        '_x{"a"}',
    ),
]
GBNF_PIECES = [
    *("root ::= ", '"a"', "root", "x", "x ::= ", "|", "(", ")", "*", "+", "?", "{2}", "{,}", "[a-z]", "[^", "]", "."),
    *('"\\x41"', '"\\', "# no", "\n", "::=", "(= ", "<", "é", "-"),
]


def survives(compile_it: Any) -> None:
    """Compile and make a first mask; only documented errors may be raised."""
    try:
        grammar = compile_it()
        mask(grammar.matcher())
        assert grammar.least_budget >= 0
    except GrammarError:
        pass


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(LARK_PIECES), max_size=14).map("".join))
def test_pieces_of_lark(source: str) -> None:
    """Put together at random."""
    survives(lambda: compile_ebnf(f"start: {source}", VOCABULARY, syntax="lark"))
    survives(lambda: compile_ebnf(source, VOCABULARY, syntax="lark"))


@pytest.mark.parametrize(
    "source", ["start: \r" + "\r" * 300 + "x", "start: " + "#\n" * 300 + "x", "\n" * 2_000_000, " \n" * 1_000_000]
)
def test_blanks_are_read_once(source: str) -> None:
    """Were each way of dividing them tried, or each line begun anew, none of these would come to an end."""
    with pytest.raises(GrammarError):
        compile_ebnf(source, VOCABULARY)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(GBNF_PIECES), max_size=14).map("".join))
def test_pieces_of_gbnf(source: str) -> None:
    """Put together at random."""
    survives(lambda: compile_ebnf(f"root ::= {source}", VOCABULARY, syntax="gbnf"))
    survives(lambda: compile_ebnf(source, VOCABULARY, syntax="gbnf"))


@settings(max_examples=150, deadline=None)
@given(st.text(string.printable + "é😀", max_size=40))
def test_any_text(source: str) -> None:
    """In every role."""
    survives(lambda: compile_ebnf(source, VOCABULARY))
    survives(lambda: compile_structural_tags(source, VOCABULARY))
    survives(lambda: compile_substring(source, VOCABULARY))


FORMAT_WORDS = st.sampled_from(
    ["type", "tag", "content", "begin", "end", "triggers", "tags", "or", "elements", "regex"]
)
JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | FORMAT_WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FORMAT_WORDS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(JSON_LIKE, JSON_LIKE)
def test_any_value_as_tags_or_tools(value: Any, other: Any) -> None:
    """Wrong types in every place."""
    survives(lambda: compile_structural_tags({"type": "structural_tag", "format": value}, VOCABULARY))
    survives(
        lambda: compile_structural_tags({"type": "structural_tag", "structures": value, "triggers": other}, VOCABULARY)
    )
    survives(lambda: compile_structural_tags(value, VOCABULARY))
    survives(lambda: compile_tools(value if isinstance(value, list) else [value], VOCABULARY, choice=other))
    survives(lambda: compile_substring({"substring_chunks": value}, VOCABULARY))


@pytest.mark.parametrize(
    "source",
    [
        "start: " + "[" * 5_000,
        'start: ("a"?)~20000 ~20000',
        "start: /(a?){20000}/~20000",
        "start: "
        + " | ".join(f"r{i}" for i in range(3000))
        + "\n"
        + "\n".join(f'r{i}: r{i + 1} "x"?' for i in range(3000))
        + '\nr3000: "a"',
        "start: t{" * 200,
    ],
    ids=["brackets", "repeats", "patterns", "left chain", "templates"],
)
def test_large_and_deep_grammars_end(source: str) -> None:
    """Within limits, not within minutes."""
    survives(lambda: compile_ebnf(source, VOCABULARY, syntax="lark"))


def many_tags(count: int) -> dict[str, Any]:
    """A structural tag with so many triggers."""
    text = {"type": "any_text"}
    tags = [{"type": "tag", "begin": f"<{i}>", "content": text, "end": "</>"} for i in range(count)]
    content = {"type": "triggered_tags", "triggers": [f"<{i}>" for i in range(count)], "tags": tags}
    return {"type": "structural_tag", "format": content}


@pytest.mark.parametrize(
    "compile_it",
    [
        lambda: compile_ebnf("start: " + '"a" | ' * 1_700_000 + '"b"', VOCABULARY),
        lambda: compile_ebnf("root ::= " + "(" * 1_000_000, VOCABULARY),
        lambda: compile_structural_tags(many_tags(100_000), VOCABULARY),
        lambda: compile_structural_tags(many_tags(400), VOCABULARY),
        lambda: compile_structural_tags(
            {"type": "structural_tag", "format": {"type": "any_text", "excludes": ["a" * 20_000]}}, VOCABULARY
        ),
        lambda: compile_substring({"substring_chunks": ["a" * i for i in range(1_500)]}, VOCABULARY),
        lambda: compile_substring({"substring_chunks": ["a" * i for i in range(1_300)]}, VOCABULARY),
        lambda: compile_ebnf('start: t{"a", "b"}\nt{x, y}: x t{y, x} | t{t{x, y}, y}', VOCABULARY),
    ],
)
def test_what_is_too_large_is_refused_soon(compile_it: Any) -> None:
    """Ten megabytes, a hundred thousand tags, pieces that all begin each other, templates without end."""
    with pytest.raises(GrammarTooLarge):
        compile_it()


def test_a_schema_nested_in_tags_too_deeply_is_refused() -> None:
    """Formats in formats."""
    format_: dict[str, Any] = {"type": "any_text"}
    for _ in range(500):
        format_ = {"type": "optional", "content": format_}
    with pytest.raises(GrammarTooLarge):
        compile_structural_tags({"type": "structural_tag", "format": format_}, VOCABULARY)


def test_long_generations_over_a_recursive_grammar_do_not_grow() -> None:
    """Fifty thousand tokens: states, stack sets and positions stay those of the first hundreds."""
    grammar = compile_ebnf('start: item*\nitem: "(" start ")" | "[" [item ("," item)*] "]" | /[a-c]+/', VOCABULARY)
    matcher = grammar.matcher()
    piece = [TOKENS.index(bytes([byte])) for byte in b"(ab[a,(c),[]])c[()]"]
    sizes = []
    for round_ in range(2_500):
        assert all(matcher.advance(token) for token in piece)
        if round_ in (20, 2_499):
            sizes.append((grammar.automaton.tables.states, grammar.automaton.tables.stacks, grammar.nbytes))
    assert sizes[0] == sizes[1]


def test_a_vocabulary_that_lacks_a_letter_never_strands() -> None:
    """Only what can be spelled to its end is legal."""
    tokens = [b"", b"", b"ab", b"a", b"c"]
    grammar = compile_ebnf('start: "a" "b" start | "c"', Vocabulary(tokens, [END]))
    matcher = grammar.matcher()
    assert TOKENS[0] == b""
    budget = 8
    while not matcher.is_accepting:
        legal = mask(matcher, budget, grammar.automaton.vocabulary)
        assert legal
        assert matcher.advance(min(legal))
        budget -= 1


@pytest.mark.parametrize(
    "compile_it",
    [
        lambda: compile_ebnf('start: "\ud800"', VOCABULARY),
        lambda: compile_ebnf('root ::= "\udfff"', VOCABULARY),
        lambda: compile_substring("\ud800", VOCABULARY),
        lambda: compile_structural_tags(
            '{"type": "structural_tag", "format": {"type": "const_string", "value": "\\ud800"}}', VOCABULARY
        ),
        lambda: compile_structural_tags(
            {"type": "structural_tag", "format": {"type": "any_text", "excludes": ["\ud800"]}}, VOCABULARY
        ),
        lambda: compile_tools([{"name": "\ud800"}], VOCABULARY, format="deepseek_v31"),
    ],
)
def test_lone_surrogates_are_no_text(compile_it: Any) -> None:
    """They have no UTF-8."""
    with pytest.raises(GrammarError, match="surrogates"):
        compile_it()
