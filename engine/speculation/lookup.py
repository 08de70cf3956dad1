"""Prompt lookup: what stood behind the last few tokens when they last occurred.

What it is for: answers that copy from their prompt, or repeat themselves. What may not enter: grammars (a guess is cut
where it is illegal by who asks), chances.

The idea: the match finder of LZ77. Each place of the text is chained to the one before it that holds the same token;
a search follows the chain of the last token, newest first, and keeps the longest match. Extending the index by a token
is O(1), a search O(places looked at), whatever the length of the text. Tokens that differ by a leading blank count as
the same (` Anna` in prose and `Anna` behind a quote are the same word), but it is the text's own tokens that are
proposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels import exact

I32 = NDArray[np.int32]

LONGEST = 8  # tokens of a match that are told apart
_WALKED = 64  # places looked at in one search
_NOWHERE = -1


class Match(NamedTuple):
    """The text from `at` on followed `length` tokens like the last ones."""

    at: int
    length: int


def without_blank(tokens: Sequence[bytes]) -> I32:
    """For each id the one that spells the same without a leading blank, or itself."""
    ids = {token: index for index, token in reversed(list(enumerate(tokens))) if token}
    return np.array(
        [ids.get(token[1:], index) if token[:1] == b" " else index for index, token in enumerate(tokens)], np.int32
    )


class TextIndex:
    """Grows with one request's text. `folded`: as `without_blank` makes it, for the whole vocabulary."""

    def __init__(self, folded: I32) -> None:
        self._folded = folded
        self._length = 0
        self._tokens = np.empty(256, np.int32)
        self._chain = np.empty(256, np.int32)
        self._newest = np.full(256, _NOWHERE, np.int32)

    def __len__(self) -> int:
        return self._length

    def extend(self, tokens: Sequence[int]) -> None:
        """More of the text."""
        first, last = self._length, self._length + len(tokens)
        if last > len(self._tokens):
            self._grow(last)
            first = 0
        self._tokens[self._length : last] = tokens
        self._length = last
        _chain(self._tokens, self._folded, self._chain, self._newest, first, last)

    def _grow(self, needed: int) -> None:
        size = len(self._tokens)
        while size < needed:
            size *= 2
        tokens = np.empty(size, np.int32)
        tokens[: self._length] = self._tokens[: self._length]
        self._tokens, self._chain = tokens, np.empty(size, np.int32)
        self._newest = np.full(size, _NOWHERE, np.int32)  # chains are made anew: twice in all for each token

    def find(self, ahead: Sequence[int] = ()) -> Match | None:
        """The longest earlier occurrence of how the text, gone on with `ahead`, ends."""
        if self._length + len(ahead) < 2:
            return None
        tail = np.array([*self._tokens[max(0, self._length - LONGEST) : self._length], *ahead], np.int32)
        at, length = _find(self._tokens, self._folded, self._chain, self._newest, tail[-LONGEST:], self._length)
        return Match(int(at), int(length)) if length else None

    def following(self, match: Match, most: int) -> list[int]:
        """At most `most` tokens that stood behind the match."""
        following: list[int] = self._tokens[match.at : min(match.at + most, self._length)].tolist()
        return following


@exact
def _slot(token: int, slots: int) -> int:
    return (token * 40503) & (slots - 1)


@exact
def _chain(tokens: I32, folded: I32, chain: I32, newest: I32, first: int, last: int) -> None:
    """Puts places first … last − 1 at the heads of their chains."""
    for at in range(first, last):
        slot = _slot(folded[tokens[at]], len(newest))
        chain[at] = newest[slot]
        newest[slot] = at


@exact
def _find(tokens: I32, folded: I32, chain: I32, newest: I32, tail: I32, length: int) -> tuple[int, int]:
    """(place behind the best match, its length; 0: none). Among equally long ones the newest."""
    last = folded[tail[-1]]
    at, best, longest = newest[_slot(last, len(newest))], 0, 0
    for _ in range(_WALKED):
        if at < 0:
            break
        same = 0
        while same < len(tail) and at - same >= 0 and folded[tokens[at - same]] == folded[tail[-1 - same]]:
            same += 1
        if same > longest and at + 1 < length:  # nothing stands behind the text's own end
            best, longest = at + 1, same
            if longest == len(tail):
                break
        at = chain[at]
    return best, longest


def warm() -> None:
    """Compiles the kernels, or loads them from numba's cache."""
    index = TextIndex(np.arange(4, dtype=np.int32))
    index.extend([1, 2, 1])
    index.find()
