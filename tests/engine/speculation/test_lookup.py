"""engine.speculation.lookup: the longest earlier occurrence of how a text ends, against a search of everything."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.speculation.lookup import LONGEST, TextIndex, without_blank

SIZE = 6
PLAIN = np.arange(SIZE, dtype=np.int32)
texts = st.lists(st.integers(0, SIZE - 1), max_size=60)


def longest_suffix_before_its_end(text: list[int]) -> int:
    """How long an ending of `text`, up to the limit, stands somewhere before with a token behind it."""
    for length in range(min(LONGEST, len(text)), 0, -1):
        if any(text[at : at + length] == text[-length:] for at in range(len(text) - length)):
            return length
    return 0


@given(st.lists(texts, max_size=4), st.lists(st.integers(0, SIZE - 1), max_size=4))
def test_the_longest_match_is_found_however_the_text_came(parts: list[list[int]], ahead: list[int]) -> None:
    index, text = TextIndex(PLAIN), [token for part in parts for token in part]
    for part in parts:
        index.extend(part)
    match = index.find(ahead)
    whole = text + ahead
    wanted = next(
        (
            length
            for length in range(min(LONGEST, len(whole)), 0, -1)
            if any(whole[at : at + length] == whole[-length:] for at in range(len(text) - length))
        ),
        0,
    )
    assert (match.length if match else 0) == wanted
    if not ahead:
        assert wanted == longest_suffix_before_its_end(whole)
    if match:
        assert text[match.at - match.length : match.at] == whole[-match.length :]
        assert index.following(match, 3) == text[match.at : match.at + 3] != []


def test_of_equally_long_matches_the_newest_counts() -> None:
    index = TextIndex(PLAIN)
    index.extend([1, 2, 1, 3, 1])
    match = index.find()
    assert match is not None
    assert index.following(match, 1) == [3]


def test_a_leading_blank_makes_no_other_word_but_is_proposed_as_it_stands() -> None:
    tokens = [b"", b"Anna", b" Anna", b" ", b" Bell", b'"', b" of"]
    folded = without_blank(tokens)
    assert folded.tolist() == [0, 1, 1, 3, 4, 5, 6]
    index = TextIndex(folded)
    index.extend([2, 4, 3, 5, 1])
    match = index.find()
    assert match is not None
    assert index.following(match, 2) == [4, 3]


def test_growing_keeps_every_place() -> None:
    rng = np.random.default_rng(0)
    text = rng.integers(0, 5000, 3000).tolist()
    index = TextIndex(np.arange(5000, dtype=np.int32))
    for start in range(0, 3000, 7):
        index.extend(text[start : start + 7])
    assert len(index) == 3000
    for at in range(0, 2900, 113):
        match = index.find(text[at : at + 4])
        assert match is not None
        assert index.following(match, 5) == text[match.at : match.at + 5]
        assert match.length == 4
