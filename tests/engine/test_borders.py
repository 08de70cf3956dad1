"""Where a tokenizer is sure to cut: asked of the tokenizer, and held against it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from engine.borders import word_starts

_GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CUTTERS = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "gpt-4": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_GPT4), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
    "sentencepiece": pre_tokenizers.Metaspace(),
}
VOCABULARY = [b" a", b" the", b"the", b" 1", b"  a", b"\na", b" ", b" \xc3"]


def backend(cutter: Any) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = cutter
    return made


@pytest.mark.parametrize("cutter", CUTTERS.values(), ids=CUTTERS)
def test_a_blank_and_a_letter_begin_a_word(cutter: object) -> None:
    """And nothing else is said to."""
    assert word_starts(backend(cutter), VOCABULARY) == {0, 1}


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12), st.sampled_from("atsZ"))
def test_no_text_keeps_the_cutters_from_cutting_there(text: str, letter: str) -> None:
    """What was asked with some texts holds for any."""
    for cutter in CUTTERS.values():
        starts = {start for _, (start, _) in cutter.pre_tokenize_str(f"{text} {letter}s")}
        assert len(text) in starts


def test_where_the_cut_is_not_certain_nothing_is_said() -> None:
    """A cutter that keeps blanks and letters together, none, a text that may change first, a word with blanks."""
    assert not word_starts(backend(pre_tokenizers.Metaspace(split=False)), VOCABULARY)
    assert not word_starts(Tokenizer(models.BPE()), VOCABULARY)
    changing = backend(CUTTERS["gpt-2"])
    changing.normalizer = normalizers.Strip()
    assert not word_starts(changing, VOCABULARY)
    adding = backend(CUTTERS["gpt-2"])
    adding.add_tokens(["of the"])
    assert not word_starts(adding, VOCABULARY)
