"""Reading masks and walking matchers, for the tests of this room."""

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from grammar import Grammar, Matcher, Vocabulary, compile_json_schema
from tests.strategies import vocabularies

TOKENS = vocabularies.byte_level()
END = 1
VOCABULARY = Vocabulary(TOKENS, [END])


def compiled(schema: Any, vocabulary: Vocabulary = VOCABULARY, **options: Any) -> Grammar:
    """The schema over the toy vocabulary."""
    return compile_json_schema(schema, vocabulary, **options)


def blank_row(vocabulary: Vocabulary = VOCABULARY) -> npt.NDArray[np.int32]:
    """A row full of ones: whatever the mask leaves untouched shows."""
    return np.full((len(vocabulary.tokens) + 31) // 32, -1, np.int32)


def ids_of(row: npt.NDArray[np.int32]) -> set[int]:
    """The token ids whose bits are set, by the contract's formula."""
    words = row.view(np.uint32)
    return {32 * word + bit for word in np.flatnonzero(words) for bit in range(32) if int(words[word]) >> bit & 1}


def mask(matcher: Matcher, budget: int | None = None, vocabulary: Vocabulary = VOCABULARY) -> set[int]:
    """The legal token ids, end tokens included."""
    row = blank_row(vocabulary)
    matcher.fill_mask(row, budget)
    return ids_of(row)


def take(matcher: Matcher, text: bytes, tokens: list[bytes] = TOKENS) -> bool:
    """Advance byte by byte (every byte is a token of the toy vocabularies)."""
    return all(matcher.advance(tokens.index(bytes([byte]))) for byte in text)


def walk(matcher: Matcher, random: Random, steps: int, tokens: list[bytes] = TOKENS) -> Iterator[bytes]:
    """Take random legal tokens, rather long ones; yields the text before each, and after the last."""
    text = b""
    vocabulary = matcher_vocabulary(tokens)
    for _ in range(steps):
        yield text
        legal = sorted(token for token in mask(matcher, None, vocabulary) if tokens[token])
        if not legal:
            return
        picks = [random.choice(legal) for _ in range(3)]
        token = max(picks, key=lambda t: (len(tokens[t]), t)) if random.random() < 0.5 else picks[0]
        assert matcher.advance(token)
        text += tokens[token]
    yield text


def matcher_vocabulary(tokens: list[bytes]) -> Vocabulary:
    """The vocabulary that a token list belongs to."""
    return VOCABULARY if tokens is TOKENS else Vocabulary(tokens, [END])
