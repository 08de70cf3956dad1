"""The JSON spellings of a language, against Python's json decoder."""

import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar.lexical import compile_regex, literal_language, spelled_in_json

SHORT = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def any_spelling(text: str, random: Random) -> str:
    """Each character as it stands (where it may), by its short escape, or by its number in mixed case."""
    parts = []
    for char in text:
        units = char.encode("utf-16-be").hex()
        numbered = "".join(
            "\\u" + "".join(random.choice([d, d.upper()]) for d in units[i : i + 4]) for i in range(0, len(units), 4)
        )
        ways = [numbered, *([SHORT[char]] if char in SHORT else [])]
        parts.append(random.choice([*ways, char] if char >= " " and char not in '"\\' else ways))
    return "".join(parts)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(max_size=4), min_size=1, max_size=4), st.integers(0, 1 << 30))
def test_every_spelling_of_every_word(words: list[str], seed: int) -> None:
    """Of random texts: all planes, controls, quotes."""
    language = spelled_in_json(literal_language(word.encode() for word in words))
    random = Random(seed)
    for word in words:
        spelled = any_spelling(word, random)
        assert json.loads(f'"{spelled}"') == word
        assert language.accepts(spelled.encode())


@pytest.mark.parametrize(
    "pattern", [".", r"[a-z\n]+", "[^a]", r"[\u{1F600}-\u{1F64F}é]", r"\u{10FFFF}|\uD7FF|\uE000", '["/]{2}']
)
def test_nothing_else(pattern: str) -> None:
    """A spelling is legal exactly if what it decodes to is a word: tried on every kind of text near it."""
    plain, random = compile_regex(pattern), Random(1)
    language = spelled_in_json(plain)
    samples = 'a b\n\x00\x7f\x80éß\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0001f600\U0001f650\U0010ffff"\\/'
    for text in [*samples, *(a + b for a in samples for b in '"a/')]:
        assert language.accepts(any_spelling(text, random).encode()) == plain.accepts(text.encode()), text


@pytest.mark.parametrize(
    "spelled", ["\\ud800", "\\udc00\\ud800", "\\ud83d\\u0041", '"', "\\", "\\x", "\n", "\\u12", "\\U0041"]
)
def test_what_is_no_spelling(spelled: str) -> None:
    """Lone surrogates, open escapes, and what must be escaped."""
    assert not spelled_in_json(compile_regex(r"[\s\S]*")).accepts(spelled.encode())


def test_nothing_has_no_spelling() -> None:
    """The empty language stays empty, the empty word stays empty."""
    assert spelled_in_json(literal_language([])).is_empty
    assert spelled_in_json(literal_language([b""])).accepts(b"")
