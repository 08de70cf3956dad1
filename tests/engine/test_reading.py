"""Without the constraint, a JSON text is read as the grammar of all JSON would replay it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.marking import free_choices
from engine.reading import read
from engine.tokenizer import Tokenizer
from grammar import Vocabulary, compile_json_schema
from watermark import Kind

TOKENIZER = Tokenizer.load("models/formwork-mini")
VOCABULARY = Vocabulary(TOKENIZER.vocabulary_bytes, TOKENIZER.eos_token_ids)
ANY = compile_json_schema(True, VOCABULARY)
WIDTH = 4


def readings(text: str) -> tuple[list[int], dict[str, list[Any]]]:
    tokens = TOKENIZER.encode(text)
    return tokens, read(tokens, [TOKENIZER.token_bytes(token) for token in tokens], WIDTH)


def words(text: str, reading: str, kind: Kind) -> str:
    """What is scored as this kind."""
    found = readings(text)[1].get(reading, [])
    return "".join(TOKENIZER.decode([each.position.token_id]) for each in found if each.position.kind is kind)


# The second half of an escaped pair of surrogates is partly forced, which only a grammar can know.
TEXT = st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


@settings(max_examples=150, deadline=None)
@given(JSON, st.booleans(), st.sampled_from([None, 2]))
def test_string_values_are_those_of_the_replay(value: Any, ascii_only: bool, indent: int | None) -> None:
    """Same places, same contexts; where no string is, there is nothing but prose to read."""
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    tokens, found = readings(text)
    replayed = free_choices(ANY, tokens, (), WIDTH)
    assert found.get("json", []) == replayed


def test_prose_around_a_document_keeps_its_own_contexts() -> None:
    """Neither side's words stand before the other's."""
    text = 'Here it is:\n```json\n{"name": "a quiet harbour", "size": 12}\n```\nThat is all we know.'
    assert words(text, "json", Kind.VALUE).startswith("a quiet harbour")
    assert "name" not in words(text, "json", Kind.VALUE) + words(text, "json", Kind.PROSE)
    tokens, found = readings(text)
    borders = [each for each in found["json"] if not each.position.context]
    assert [each.position.kind for each in borders] == [Kind.PROSE, Kind.VALUE, Kind.PROSE]
    assert [each.place for each in found["text"]] == list(range(len(tokens)))


@pytest.mark.parametrize("text", ["", "plain words", "[1, 2] and {}", "a { brace", '{"a": "cut of', "[[[["])
def test_what_holds_no_string_value_is_prose(text: str) -> None:
    """All of it, in one way only."""
    tokens, found = readings(text)
    assert list(found) == ["text"]
    assert [each.position.token_id for each in found["text"]] == tokens
    assert [each.position.context for each in found["text"]] == [
        tuple(tokens[max(0, place - WIDTH) : place]) for place in range(len(tokens))
    ]


@pytest.mark.parametrize("text", ["[" * 300_000, '{"' * 150_000, '{"a": "' + "x" * 300_000, "[1]" * 100_000])
def test_hostile_text_costs_what_it_is_long(text: str) -> None:
    """Nothing quadratic: a few seconds at most for what the route admits."""
    tokens = list(text.encode())
    started = time.process_time()
    read(tokens, [bytes([byte]) for byte in tokens], WIDTH)
    assert time.process_time() - started < 10
