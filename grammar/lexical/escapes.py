"""The JSON spellings of a language: each character as it stands or by any escape that JSON has for it.

What a string automaton decodes while it walks, a grammar inside a string has to read as text: its words become words
over spellings. UTF-8 splits a character's number into groups of six bits and `\\uXXXX` into groups of four, so between
the two stands a *choice*: a decision tree over the bits, hash-consed, in which most of the 65,536 ways are one leaf.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from grammar.errors import GrammarTooLarge
from grammar.lexical.dfa import DEAD, Dfa, canonical

MAX_STATES: Final = 60_000
_SHORT: Final = {b'"': b'"', b"\\": b"\\", b"/": b"/", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_BRANCH: Final = 1 << 40
"""Choices from here on are branches, below it states of the language (or DEAD)."""
_PAIR: Final = 1 << 50
"""From here on: the second half of a surrogate pair is still to come, with the choice of this number."""


def spelled_in_json(language: Dfa) -> Dfa:
    """The spellings, between the quotes of a JSON string, of the language's words (whole characters, in UTF-8)."""
    return language if language.is_empty else _Speller(language).dfa()


class _Speller:
    def __init__(self, language: Dfa) -> None:
        self._language = language
        self._bytes = language.table[:, language.classes].astype(np.int32)
        self._branches: list[tuple[int, int]] = []
        self._numbers: dict[tuple[int, int], int] = {}
        self._blocks: dict[tuple[int, int], int] = {}
        self._pairs: dict[int, int] = {}
        self._seconds: list[int] = []
        """The choices, by ten bits, of second halves."""
        self._rows: list[npt.NDArray[np.int32]] = []
        self._digits: dict[tuple[int, int], int] = {}
        self._todo: list[tuple[int, int, int]] = []

    def dfa(self) -> Dfa:
        """The automaton: the states of the language first, then those inside of escapes."""
        states = self._language.states
        plain = self._bytes.copy()
        plain[:, :0x20] = plain[:, 0x22] = plain[:, 0x5C] = DEAD
        self._rows = list(plain)
        for state in range(states):
            if (self._bytes[state, 0x80:0xC0] == DEAD).all():
                plain[state, 0x5C] = self._escape(state)
        while self._todo:
            self._read_digit(*self._todo.pop())
        accepting = np.zeros(len(self._rows), np.bool_)
        accepting[:states] = self._language.accepting
        table, classes = np.unique(np.stack(self._rows), axis=1, return_inverse=True)
        return canonical(table.astype(np.int32), accepting, classes.reshape(-1).astype(np.uint8))

    def _escape(self, state: int) -> int:
        """The state after a backslash where a character may begin."""
        row = np.full(256, DEAD, np.int32)
        for letter, byte in _SHORT.items():
            row[letter[0]] = self._bytes[state, byte[0]]
        row[ord("u")] = self._after(self._character(state), 16)
        return DEAD if (row == DEAD).all() else self._new(row)

    def _new(self, row: npt.NDArray[np.int32]) -> int:
        if len(self._rows) >= MAX_STATES:
            raise GrammarTooLarge(f"the JSON spellings of a language need more than {MAX_STATES} states")
        self._rows.append(row)
        return len(self._rows) - 1

    def _after(self, choice: int, bits: int) -> int:
        """The state where so many bits of a choice are still to be read, four by four."""
        if choice == DEAD or (bits == 0 and choice < _BRANCH):
            return choice
        key = (choice, bits)
        found = self._digits.get(key)
        if found is None:
            found = self._digits[key] = self._new(np.full(256, DEAD, np.int32))
            self._todo.append((found, choice, bits))
        return found

    def _read_digit(self, state: int, choice: int, bits: int) -> None:
        row = self._rows[state]
        if bits == 0:  # the first half of a pair was read
            row[0x5C] = self._after(choice, -1)
        elif bits == -1:
            row[ord("u")] = self._after(self._second_half(choice - _PAIR), 16)
        else:
            for digit in range(16):
                target = self._after(self._at(choice, digit, 4), bits - 4)
                for spelled in {f"{digit:x}", f"{digit:X}"}:
                    row[ord(spelled)] = target

    # ---------------------------------------------------------------- choices

    def _branch(self, zero: int, one: int) -> int:
        if zero == one:
            return zero
        found = self._numbers.get((zero, one))
        if found is None:
            found = self._numbers[zero, one] = _BRANCH + len(self._branches)
            self._branches.append((zero, one))
        return found

    def _joined(self, choices: Sequence[int]) -> int:
        """The choice whose first bits pick one of these."""
        while len(choices) > 1:
            choices = [self._branch(choices[i], choices[i + 1]) for i in range(0, len(choices), 2)]
        return choices[0]

    def _at(self, choice: int, value: int, bits: int) -> int:
        """What is left of a choice after its first bits."""
        for bit in range(bits - 1, -1, -1):
            if _BRANCH <= choice < _PAIR:
                choice = self._branches[choice - _BRANCH][value >> bit & 1]
        return choice

    def _inner(self, state: int, count: int) -> int:
        """The choice by the six bits of each of `count` continuation bytes."""
        if state == DEAD or count == 0:
            return state
        found = self._blocks.get((state, count))
        if found is None:
            onward = self._bytes[state, 0x80:0xC0].tolist()
            found = self._blocks[state, count] = self._joined([self._inner(to, count - 1) for to in onward])
        return found

    def _character(self, state: int) -> int:
        """The choice by the sixteen bits of one escape, surrogates included."""
        row = self._bytes[state].tolist()
        low = self._joined(row[:0x80])
        two = self._joined([DEAD, DEAD, *(self._inner(row[lead], 1) for lead in range(0xC2, 0xE0))])  # 11 bits
        three = [self._inner(row[lead], 2) for lead in range(0xE0, 0xF0)]
        # Where longer forms would be overlong, the shorter ones stand: one byte up to 2^7, two up to 2^11.
        short = self._joined([low, *(self._at(two, k, 4) for k in range(1, 16))])
        three[0] = self._branch(short, self._at(three[0], 1, 1))
        three[0xD] = self._branch(self._at(three[0xD], 0, 1), self._surrogates(row))
        return self._joined(three)

    def _surrogates(self, row: list[int]) -> int:
        """Eleven bits of what follows 0xD8: first halves by ten bits, then second halves, which may not come first."""
        planes = [self._inner(row[lead], 3) for lead in range(0xF0, 0xF5)]
        sixteen = [self._at(planes[plane >> 2], plane & 3, 2) for plane in range(1, 17)]
        return self._branch(self._halved(self._joined(sixteen), 10), DEAD)

    def _halved(self, choice: int, bits: int) -> int:
        """The choice by its first `bits`, each of whose ends waits for the second half of a pair."""
        if bits == 0 or choice < _BRANCH:
            return choice if choice == DEAD else _PAIR + self._pair(choice)
        zero, one = self._branches[choice - _BRANCH]
        return self._branch(self._halved(zero, bits - 1), self._halved(one, bits - 1))

    def _pair(self, choice: int) -> int:
        found = self._pairs.get(choice)
        if found is None:
            found = self._pairs[choice] = len(self._seconds)
            self._seconds.append(choice)
        return found

    def _second_half(self, number: int) -> int:
        """Sixteen bits, 110111 and then ten: of a second half."""
        lower = self._branch(DEAD, self._seconds[number])
        return self._joined([DEAD] * 13 + [self._branch(DEAD, lower)] + [DEAD] * 2)
