"""The quotations of a text as an automaton: every run of its characters, and nothing else.

A suffix automaton over the text's bytes (Blumer et al. 1985): at most two states a byte, built in one pass. UTF-8 tells
where a character begins, so a run that begins with a character needs no other check; it may end where a character does.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from grammar.errors import GrammarError, GrammarTooLarge
from grammar.kernels import kernel
from grammar.lexical.dfa import DEAD, Dfa, canonical

MAX_CELLS: Final = 1 << 25
"""Entries of the largest table made (128 MiB)."""

Int32s = npt.NDArray[np.int32]


def quotations(text: str, *, empty: bool) -> Dfa:
    """The runs of the text's characters; `empty`: nothing at all is one of them.

    A NUL ends a text: no run holds one, so several texts may be given as one.
    """
    try:
        raw = np.frombuffer(text.encode(), np.uint8)
    except UnicodeEncodeError:
        raise GrammarError("a text to quote from must not have lone surrogates: they are not text") from None
    if not len(raw):
        return Dfa.epsilon() if empty else Dfa.empty()
    used, symbols = np.unique(raw, return_inverse=True)
    columns = len(used) + 1
    if 2 * len(raw) * columns > MAX_CELLS:
        raise GrammarTooLarge(f"a text of {len(raw)} bytes is too long to quote from")
    table = suffix_automaton(symbols.astype(np.int32), columns)
    classes = np.full(256, columns - 1, np.uint8)
    classes[used] = np.arange(len(used), dtype=np.uint8)
    table[0, classes[0x80:0xC0]] = DEAD
    if 0 in used:
        table[:, classes[0]] = DEAD
    # Where a character has ended no continuation byte may follow, and elsewhere one must.
    accepting = (table[:, np.unique(classes[0x80:0xC0])] == DEAD).all(axis=1)
    accepting[0] = empty
    return canonical(table, accepting, classes)


@kernel
def suffix_automaton(symbols: Int32s, columns: int) -> Int32s:
    """(states, columns): the state after one more symbol of a run, or DEAD; state 0 is the run of nothing."""
    most = 2 * symbols.shape[0] + 1
    onward = np.full((most, columns), -1, np.int32)
    link = np.full(most, -1, np.int32)
    length = np.zeros(most, np.int32)
    last, count = 0, 1
    for symbol in symbols:
        current = count
        count += 1
        length[current] = length[last] + 1
        link[current] = 0
        at = last
        while at >= 0 and onward[at, symbol] < 0:
            onward[at, symbol] = current
            at = link[at]
        if at >= 0:
            other = onward[at, symbol]
            if length[at] + 1 < length[other]:
                copy = count
                count += 1
                onward[copy] = onward[other]
                length[copy] = length[at] + 1
                link[copy] = link[other]
                while at >= 0 and onward[at, symbol] == other:
                    onward[at, symbol] = copy
                    at = link[at]
                link[other] = copy
                other = copy
            link[current] = other
        last = current
    return onward[:count].copy()
