"""Plain content: its walk says of a string's tokens what the string's automaton says, token by token."""

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grammar import Vocabulary
from grammar.content import Content
from grammar.frames.languages import Machine, any_string, characters_needed
from grammar.lexical import compile_pattern
from grammar.trie import Trie

PATTERNS = [
    "^[a-z]+$",
    "^(\\S+\\s){0,3}\\S+$",
    ".",
    "^[^x]*$",
    "^(aé|b){2}",
    "^.{2,4}$",
    "x$",
    "^([a-c]{6}|é*)$",
    "[^a]b",
]
ALPHABET = ["a", "b", "x", " ", "é", "€", "😀", "ab", "\x7f"]
WORDS = sorted(
    {(left + right) for left in ALPHABET for right in ["", *ALPHABET]} | {"a" * 5, "x x x x", "éééé", "ab€ab"}
)
TOKENS = [
    *(bytes([byte]) for byte in range(256)), *(w.encode() for w in WORDS if len(w.encode()) > 1), "€".encode()[:2],
    b'ab"', b'"', b'x"},', b"\\n", b'a\\"', b"",
]  # fmt: skip
VOCABULARY = Vocabulary(TOKENS, [len(TOKENS) - 1])
PLAIN = [i for i, t in enumerate(TOKENS) if t and VOCABULARY.slices[-1][i >> 5] >> (i & 31) & 1]


@lru_cache
def machine(pattern: str, least: int = 0, most: int | None = None) -> Machine:
    """The texts in which the pattern is found, with these bounds on their length."""
    dfa = compile_pattern(pattern).intersect(any_string())
    return Machine(dfa.classes, dfa.table, np.where(dfa.accepting, 0, -1).astype(np.int32), least=least, most=most)


def run(found: Machine, state: int, text: bytes) -> int:
    """Where the text leads from a state, or -1."""
    for byte in text:
        state = found.step(state, byte) if state >= 0 else -1
    return state


def bits(row: np.ndarray) -> set[int]:
    """The tokens of a row that are plain content."""
    return {i for i in PLAIN if row[i >> 5] >> (i & 31) & 1}


@given(st.sampled_from(PATTERNS), st.lists(st.sampled_from(ALPHABET), max_size=5))
def test_a_string_takes_the_plain_tokens_that_its_automaton_takes(pattern: str, before: list[str]) -> None:
    """From every state that a text leads to."""
    found = machine(pattern)
    at = run(found, 0, "".join(before).encode())
    if at >= 0:
        row, _ = Content(VOCABULARY, found, 0).begin(at, 0)
        assert bits(row) == {i for i in PLAIN if run(found, at, TOKENS[i]) >= 0}


@given(st.sampled_from(PATTERNS), st.integers(0, 4), st.integers(0, 8), st.lists(st.sampled_from(ALPHABET), max_size=5))
def test_counted_strings_take_the_tokens_after_which_some_length_is_left(
    pattern: str, least: int, room: int, before: list[str]
) -> None:
    """The oracle is the table of characters needed, asked for each token alone."""
    text = "".join(before)
    found = machine(pattern, least, max(1, least) + room)
    needed, at = characters_needed(found), run(found, 0, text.encode())
    if at < 0 or not fits(found, needed, at, len(text)):
        return
    row, _ = Content(VOCABULARY, found, 0).begin(at, len(text))
    wanted = set()
    for i in PLAIN:
        state, count = run(found, at, TOKENS[i]), len(text) + sum(not 0x80 <= byte < 0xC0 for byte in TOKENS[i])
        if state >= 0 and fits(found, needed, state, count):
            wanted.add(i)
    assert bits(row) == wanted


def fits(found: Machine, needed: np.ndarray, state: int, count: int) -> bool:
    """Whether a text of so many characters in this state can still end within its bounds."""
    more = int(needed[state, max(found.least - count, 0)])
    return more < 1 << 30 and (found.most is None or count + more <= found.most)


@pytest.mark.parametrize("missing", [0, 1, 2, 3, 4])
def test_parted_endings_are_all_special_tokens_once(missing: int) -> None:
    """By the characters before their quote or escape: so many exactly, or more."""
    exact = [VOCABULARY.endings(length) for length in range(missing)]
    parts = [spelled(trie) for trie in (*exact, VOCABULARY.endings_from(missing))]
    assert sorted(i for part in parts for i in part) == sorted(spelled(VOCABULARY.ending_trie))


def spelled(trie: Trie) -> list[int]:
    """The tokens of a trie."""
    found = []
    for first in trie.token.tolist():
        token = first
        while token >= 0:
            found.append(token)
            token = int(trie.same[token])
    return found
