"""Vocabularies of every make: special and padding ids, byte fallback, tokens that cannot spell a constraint."""

import json
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar import UnsatisfiableConstraint, Vocabulary, compile_choice, compile_json_schema
from tests.grammar.conftest import RealVocabulary
from tests.grammar.walking import blank_row, ids_of, mask
from tests.oracles.json_masks import Reference
from tests.strategies import schemas, vocabularies

PIECES = vocabularies.sentence_pieces()
PIECE_VOCABULARY = Vocabulary(PIECES, [2])
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "tags": {"type": "array", "items": {"enum": ["naïve", "日本語", "🎉"]}}},
    "required": ["name", "tags"],
    "additionalProperties": False,
}
VALUE = {"name": 'Zoë "x" \\ 日本', "tags": ["日本語", "🎉", "naïve"]}


@settings(max_examples=8, deadline=None)
@given(schemas.core(2), st.integers(0, 1 << 30).map(Random))
def test_masks_equal_the_reference_over_sentence_pieces(schema: Any, random: Random) -> None:
    """Most bytes have two ids, blanks stick to words: both ids are legal or neither."""
    reference = Reference(schema)
    try:
        matcher = compile_json_schema(schema, PIECE_VOCABULARY).matcher()
    except UnsatisfiableConstraint:
        assert not reference.start
        return
    threads, text, frugal = reference.start, b"", Reference(schema, frugal=True)
    for _ in range(8):
        found, ends = mask(matcher, None, PIECE_VOCABULARY), {2} if reference.accepting(threads) else set()
        assert found - ends <= reference.mask(threads, PIECES)
        assert frugal.mask(frugal.feed(frugal.start, text), PIECES) | ends <= found
        inner = sorted(found - {2})
        if not inner:
            break
        token = random.choice(inner)
        assert matcher.advance(token)
        threads, text = reference.feed(threads, PIECES[token]), text + PIECES[token]


def test_several_end_tokens_are_legal_together_and_nowhere_else() -> None:
    """Even those that have bytes of their own: an end token never spells text."""
    tokens = [b"", b"</s>", *(bytes([byte]) for byte in range(256)), b"<end>", b""]
    vocabulary = Vocabulary(tokens, [1, 258])
    matcher = compile_json_schema({"type": "string"}, vocabulary).matcher()
    assert mask(matcher, None, vocabulary) == {2 + ord('"')}
    assert matcher.advance(2 + ord('"'))
    assert not {0, 1, 258, 259} & mask(matcher, None, vocabulary)
    assert matcher.advance(2 + ord('"'))
    assert mask(matcher, None, vocabulary) == {1, 258}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "required": ["a"]},
        {"type": "array", "minItems": 2},
        {"enum": ["bbb"]},
        {"type": "integer", "minimum": 5, "maximum": 6},
    ],
)
def test_what_a_vocabulary_cannot_spell_is_refused_at_compile(schema: Any) -> None:
    """Digits below five and the letter a are not enough for these."""
    tokens = [b"", *(character.encode() for character in '"[]0123a')]
    with pytest.raises(UnsatisfiableConstraint):
        compile_json_schema(schema, Vocabulary(tokens, [0]))


@pytest.mark.parametrize(
    "schema", [{"enum": ["a", "b"]}, {"type": ["string", "object"], "maxLength": 2}, {"type": "integer"}]
)
def test_a_vocabulary_that_can_spell_some_of_it_is_never_stranded(schema: Any) -> None:
    """What cannot be finished with these tokens is not begun."""
    tokens = [b"", *(character.encode() for character in '"[]{}0123a-.e'), b'"b', b'{"', b"\\u00", b"\xc3"]
    vocabulary = Vocabulary(tokens, [0])
    grammar = compile_json_schema(schema, vocabulary)
    for seed in range(20):
        matcher, random = grammar.matcher(), Random(seed)
        for _ in range(12):
            legal = mask(matcher, None, vocabulary)
            assert legal
            token = random.choice(sorted(legal))
            assert matcher.advance(token)
            if token == 0:
                break


@pytest.mark.parametrize("ends", [[5], [-1]])
def test_end_ids_outside_the_vocabulary_are_refused(ends: list[int]) -> None:
    """A ValueError where the vocabulary is made."""
    with pytest.raises(ValueError, match="end"):
        Vocabulary([b"a", b"b"], ends)


def test_a_vocabulary_of_special_ids_alone_spells_nothing() -> None:
    """Refused at compile, not at the first mask."""
    with pytest.raises(UnsatisfiableConstraint):
        compile_choice(["a"], Vocabulary([b"", b""], [0]))


def test_real_texts_pass_token_by_token(tekken: RealVocabulary) -> None:
    """131,072 tokens, several spellings, text cut by the tokenizer itself; special ids are never legal."""
    grammar = compile_json_schema(SCHEMA, tekken.vocabulary)
    for text in schemas.spellings(VALUE):
        matcher, row = grammar.matcher(), blank_row(tekken.vocabulary)
        for token in tekken.encode(text):
            matcher.fill_mask(row)
            assert int(row.view(np.uint32)[token >> 5]) >> (token & 31) & 1, text
            assert matcher.advance(token)
        matcher.fill_mask(row)
        assert ids_of(row) == {tekken.end}


def test_random_real_tokens_match_the_reference_where_it_can_follow(tekken: RealVocabulary) -> None:
    """Every hundredth token of the real vocabulary, tried through the reference after each step of a walk."""
    grammar, reference, random = compile_json_schema(SCHEMA, tekken.vocabulary), Reference(SCHEMA), Random(7)
    tokens = tekken.vocabulary.tokens
    matcher, text = grammar.matcher(), b""
    sample = [i for i in range(0, len(tokens), 101) if tokens[i]]
    for _ in range(12):
        threads = reference.feed(reference.start, text)
        legal = mask(matcher, None, tekken.vocabulary)
        for token in sample:
            assert (token in legal) == bool(reference.feed(threads, tokens[token])), (text, tokens[token])
        inner = sorted(legal - {tekken.end})
        if not inner:
            break
        token = random.choice(inner)
        assert matcher.advance(token)
        text += tokens[token]


def test_budgets_hold_over_the_real_vocabulary(tekken: RealVocabulary) -> None:
    """Random legal tokens under the least budget and a little more end in time."""
    grammar = compile_json_schema(SCHEMA, tekken.vocabulary)
    for spare in (0, 3):
        matcher, random, text = grammar.matcher(), Random(spare), b""
        for left in range(grammar.least_budget + spare, 0, -1):
            legal = sorted(mask(matcher, left, tekken.vocabulary))
            token = random.choice(legal)
            assert matcher.advance(token)
            text += tekken.vocabulary.tokens[token]
            if token == tekken.end:
                break
        assert matcher.is_finished or matcher.is_accepting
        assert set(json.loads(text)) == {"name", "tags"}
