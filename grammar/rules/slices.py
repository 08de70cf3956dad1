"""Terminals that go on as they are, such as names, numbers and quoted text: most of a vocabulary decided by two bytes.

Behind its first byte, or its second, such a terminal stays where it is for a whole set of characters: a *run*. A token
whose characters from the second on are all of the run is then legal if its first two lead to where the run stays: a
lookup by pairs. A run is a set of ASCII's characters, and takes all others or none of them, so that one mark stands for
them all in a pair. Only the other tokens are walked, and of these tokens those whose first two lead elsewhere.
"""

# ruff: noqa: PLR0913, PLR0917
# (A kernel takes what it reads one by one.)

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from grammar.frames.languages import any_string
from grammar.kernels import fixed, kernel
from grammar.lexical import Dfa
from grammar.trie import Trie, part_of
from grammar.vocabulary import Vocabulary

FEWEST_BYTES: Final = 24
MOST_SETS: Final = 3
"""Of the sets of a grammar so many are used, the largest first."""
MOST_KEPT: Final = 6

Bools = npt.NDArray[np.bool_]
Uint8 = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]


OTHER: Final = 0x80
"""In a pair: a character beyond ASCII, or, at a token's end, a part of one."""
ALONE: Final = 0x81
"""In a pair, in the second place: nothing more."""


class Run(NamedTuple):
    """A set of characters under which a terminal stays where it is."""

    ascii: bytes
    others: bool
    """Whether every character beyond ASCII is of the set."""

    @property
    def seconds(self) -> Bools:
        """(256,): what may stand second in a pair."""
        found = np.zeros(256, np.bool_)
        found[list(self.ascii)] = True
        found[OTHER : ALONE + 1] = self.others
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """The tokens of one vocabulary, parted by one run."""

    ids: Int32
    """Tokens of at least two bytes, all characters but the first of the run, and well formed if it takes others."""
    pairs: Int32
    """Their first two characters, as one number: 256 times the first and the second."""
    trie: Trie
    """These tokens."""
    seconds: npt.NDArray[np.int64]
    """[first byte * 256 + second byte]: the node of these two in `trie`, or -1."""
    rest: Trie
    """All others."""

    def row(self, good: Bools, words: int) -> Int32:
        """The mask of the tokens whose first two characters are `good`, (65536,)."""
        return _row(self.ids, self.pairs, fixed(good), words)


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """What the first two characters of a token decide in one state, for the tokens of a run."""

    run: Run
    cells: Any
    """(256,): where the first byte leads."""
    good: Bools
    """(256, 256), by pairs: they lead to where the run stays."""
    open: Bools
    """(256, 256), by bytes: they lead somewhere else."""
    unclear: Bools
    """(256,): the first byte leads to where the second is not looked at."""


def pairs_of(run: Run, cells: Any, seconds: Sequence[tuple[int, Any, Bools]], others: bool | None) -> Pairs:
    """From (cell of the first byte, cells of the second byte, second characters after which the run stays) each.

    others: whether the run stays after a first character beyond ASCII; None: that is not looked at. Nor is what follows
    a first byte beyond ASCII where the run does not take others: such tokens are no text.
    """
    inside = run.seconds
    good, open_, unclear = np.zeros((256, 256), np.bool_), np.zeros((256, 256), np.bool_), cells >= 0
    for cell, after, stays in seconds:
        firsts = cells == cell
        firsts[OTHER:] = False
        good[firsts] = stays & inside
        within = inside.copy()
        within[OTHER:] = run.others and not stays[OTHER]
        open_[firsts] = (after >= 0) & within & ~stays
        unclear &= ~firsts
    if run.others and others is not None:
        good[OTHER], unclear[OTHER:] = inside & others, False
    return Pairs(run, cells, good, open_, unclear)


def loops(languages: Iterable[Dfa]) -> list[Run]:
    """The runs under which some state of these languages stays, the largest first."""
    found: set[Run] = set()
    for language in languages:
        stays = (language.table == np.arange(language.states, dtype=np.int32)[:, None])[:, language.classes[:128]]
        for state in np.flatnonzero(np.count_nonzero(stays, axis=1) >= FEWEST_BYTES).tolist():
            others = ends_of_characters(partial(_stepped, language), state) == {state}
            found.add(Run(bytes(np.flatnonzero(stays[state]).tolist()), others))
    return sorted(found, key=lambda run: (-run.others, -len(run.ascii), run.ascii))[:MOST_SETS]


def _stepped(language: Dfa, state: int, byte: int) -> int | None:
    to = language.step(state, byte)
    return None if to < 0 else to


def ends_of_characters(step: Callable[[int, int], int | None], start: int) -> set[int | None]:
    """Where the characters beyond ASCII lead from `start` by bytes; None among these: not all of them can come."""
    found: set[int | None] = set()
    todo, seen = [(start, 0)], {(start, 0)}
    while todo and None not in found:
        at, inside = todo.pop()
        for byte, after in _character_steps()[inside]:
            to = step(at, byte)
            if to is None or after == 0:
                found.add(to)
            elif (to, after) not in seen:
                seen.add((to, after))
                todo.append((to, after))
    return found


@lru_cache(maxsize=1)
def _character_steps() -> list[list[tuple[int, int]]]:
    """[state of the automaton of all texts]: (byte, next state) for each byte beyond ASCII that may come."""
    free = any_string()
    return [[(b, to) for b in range(0x80, 256) if (to := free.step(state, b)) >= 0] for state in range(free.states)]


@lru_cache(maxsize=MOST_KEPT)
def slice_of(vocabulary: Vocabulary, run: Run) -> Slice:
    """The slice of a vocabulary by a run; kept, for many grammars have the same."""
    whole, free = vocabulary.trie, any_string()
    pair_of = _pairs(*whole.arrays, run.seconds, run.others, fixed(free.table), fixed(free.classes), whole.longest)
    ids = np.flatnonzero(pair_of >= 0)
    trie, rest = part_of(whole, pair_of >= 0), part_of(whole, pair_of < 0)
    return Slice(fixed(ids.astype(np.int32)), fixed(pair_of[ids]), trie, _seconds(trie.byte, trie.depth), rest)


@kernel
def _row(ids: Int32, pairs: Int32, good: Bools, words: int) -> Int32:
    row = np.zeros(words, np.int32)
    for i in range(ids.shape[0]):
        if good[pairs[i]]:
            row[ids[i] >> 5] |= np.int32(1) << np.int32(ids[i] & 31)
    return row


@kernel
def _pairs(
    byte: Uint8,
    end: Int32,
    token: Int32,
    depth: Int32,
    same: Int32,
    seconds: Bools,
    others: bool,
    free: Int32,
    free_classes: Uint8,
    longest: int,
) -> Int32:
    """[token]: its first two characters, if it has two bytes and all but the first are of the run; else -1.

    `free` is the automaton of all texts: if the run takes others than ASCII, what is not well formed is left out.
    """
    found = np.full(same.shape[0], -1, np.int32)
    inside = np.zeros(longest + 1, np.int32)
    count = np.zeros(longest + 1, np.int32)
    pair = np.zeros(longest + 1, np.int32)
    node = 0
    while node < byte.shape[0]:
        level, b = depth[node], byte[node]
        inside[level], count[level], pair[level] = 0, count[level - 1], pair[level - 1]
        begins = inside[level - 1] == 0
        mark = np.int32(b)
        if others:
            inside[level] = free[inside[level - 1], free_classes[b]]
            if b >= 0x80:
                mark = np.int32(OTHER)
        if begins:
            count[level] += 1
        if inside[level] < 0 or (count[level] > 1 and begins and not seconds[mark]):
            node = end[node]
            continue
        if begins and count[level] == 1:
            pair[level] = mark * 256 + ALONE
        elif begins and count[level] == 2:
            pair[level] = pair[level] - ALONE + mark
        if count[level] > 1 or (others and mark == OTHER):
            t = token[node]
            while t >= 0:
                found[t] = pair[level]
                t = same[t]
        node += 1
    return found


@kernel
def _seconds(byte: Uint8, depth: Int32) -> npt.NDArray[np.int64]:
    """[first * 256 + second]: the node of these two bytes, or -1."""
    found = np.full(1 << 16, -1, np.int64)
    first = 0
    for node in range(byte.shape[0]):
        if depth[node] == 1:
            first = byte[node]
        elif depth[node] == 2:
            found[first * 256 + byte[node]] = node
    return found
