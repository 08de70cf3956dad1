"""Quotations: exactly the runs of a text's pieces."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar import GrammarError, GrammarTooLarge, compile_substring, load_grammar
from tests.grammar.rules.test_lark import accepts
from tests.grammar.walking import VOCABULARY


@settings(max_examples=60, deadline=None)
@given(st.text("abé\n", max_size=12), st.text("abé\n", max_size=5))
def test_characters(text: str, quoted: str) -> None:
    """As Python's `in` says; what stands in the text and what mostly does not."""
    grammar = compile_substring(text, VOCABULARY)
    assert accepts(grammar, quoted) == (quoted in text)
    assert accepts(grammar, text[2:7])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["a", "ab", "abc", "b", "c"]), max_size=6), st.text("abc", max_size=5))
def test_chunks_that_begin_each_other(chunks: list[str], quoted: str) -> None:
    """Against every run of chunks."""
    runs = {"".join(chunks[i:j]) for i in range(len(chunks) + 1) for j in range(i, len(chunks) + 1)}
    assert accepts(compile_substring({"substring_chunks": chunks}, VOCABULARY), quoted) == (quoted in runs)


def test_words() -> None:
    """Whole words, with what stands between them."""
    text = "The cat sat; then the hen."
    grammar = compile_substring({"substring_words": text}, VOCABULARY)
    again = load_grammar(grammar.to_bytes(), VOCABULARY)
    pieces = re.findall(r"\s+|\w+|[^\w\s]+", text)
    for each in (grammar, again):
        assert all(accepts(each, "".join(pieces[i : i + 3])) for i in range(len(pieces)))
        assert not accepts(each, "at sat")
        assert not accepts(each, "the he")


@pytest.mark.parametrize("wanted", [{"substring_chars": 1}, {"substring_lines": "x"}, {}, {"substring_chunks": [1]}])
def test_a_malformed_one_is_refused(wanted: dict[str, object]) -> None:
    """By name."""
    with pytest.raises(GrammarError):
        compile_substring(wanted, VOCABULARY)


def test_a_very_long_text_is_refused() -> None:
    """Before any automaton is made."""
    with pytest.raises(GrammarTooLarge):
        compile_substring("a" * 60_000, VOCABULARY)
