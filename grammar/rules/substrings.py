"""The quotations of a text as an automaton: what is generated is a run of the text's characters, words or chunks.

Runs of characters are those of `grammar.lexical.quotations`. For words and chunks it is a suffix automaton over the
pieces, of which there are too many kinds for a table; a state's pieces are then spelled out in bytes as a trie, for
pieces may begin alike. Nothing at all is a quotation too, as in llguidance.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from grammar.errors import GrammarError, GrammarTooLarge
from grammar.lexical import DEAD, Dfa, canonical, quotations
from grammar.rules.terms import EMPTY, Term, Word, encoded

MAX_PIECES: Final = 50_000
MAX_CHARACTERS: Final = 1_000_000
MAX_WORK: Final = 1_000_000
"""Readings that are looked at in all: pieces that begin each other are read beside each other."""
MAX_STATES: Final = 400_000
MAX_CELLS: Final = 1 << 25
_WORDS: Final = re.compile(r"\s+|\w+|[^\w\s]+")


def substring_term(wanted: Any, pointer: str = "") -> Term:
    """`{"substring_chars": text}`, `{"substring_words": text}` or `{"substring_chunks": [text, …]}`."""
    pieces = _pieces(wanted, pointer)
    if len(pieces) > MAX_PIECES or sum(map(len, pieces)) > MAX_CHARACTERS:
        raise GrammarTooLarge(
            f"a text of more than {MAX_PIECES} pieces or {MAX_CHARACTERS} characters", pointer=pointer
        )
    if isinstance(pieces, str):
        return Word(quotations(pieces, empty=True)) if pieces else EMPTY
    spelled = [encoded(piece) for piece in pieces if piece]
    return Word(_spelled(_suffix_automaton(spelled))) if spelled else EMPTY


def _pieces(wanted: Any, pointer: str) -> Sequence[str]:
    if not isinstance(wanted, dict) or len(wanted) != 1:
        raise GrammarError("give one of substring_chars, substring_words, substring_chunks", pointer=pointer)
    [(kind, value)] = wanted.items()
    if kind == "substring_chunks" and isinstance(value, list) and all(isinstance(piece, str) for piece in value):
        return value
    if kind in ("substring_chars", "substring_words") and isinstance(value, str):
        return value if kind == "substring_chars" else _WORDS.findall(value)
    raise GrammarError(
        "substring_chars and substring_words take a text, substring_chunks a list of texts",
        pointer=pointer,
        keyword=kind,
    )


def _suffix_automaton(pieces: Sequence[bytes]) -> list[dict[bytes, int]]:
    """For each state the state after a piece; every state is a run of pieces, state 0 the empty one."""
    onward: list[dict[bytes, int]] = [{}]
    link, length = [-1], [0]
    last = 0
    for piece in pieces:
        current = len(onward)
        onward.append({})
        length.append(length[last] + 1)
        link.append(0)
        at = last
        while at >= 0 and piece not in onward[at]:
            onward[at][piece] = current
            at = link[at]
        if at >= 0:
            other = onward[at][piece]
            if length[at] + 1 < length[other]:
                copy = len(onward)
                onward.append(dict(onward[other]))
                length.append(length[at] + 1)
                link.append(link[other])
                while at >= 0 and onward[at].get(piece) == other:
                    onward[at][piece] = copy
                    at = link[at]
                link[other] = copy
                other = copy
            link[current] = other
        last = current
    return onward


def _spelled(onward: Sequence[dict[bytes, int]]) -> Dfa:
    """The automaton over bytes; only whole pieces may end a quotation. A piece may begin another: subsets are read."""
    children, ends = _tries(onward)
    numbers: dict[frozenset[int], int] = {frozenset([0]): 0}
    order = list(numbers)
    edges: list[tuple[int, int, int]] = []
    work = 0
    for number, subset in enumerate(order):
        work += len(subset)
        after: dict[int, set[int]] = {}
        for node in subset:
            for byte, child in children[node].items():
                found = after.setdefault(byte, set())
                if children[child]:
                    found.add(child)
                if child in ends:
                    found.add(ends[child])
        for byte, found in after.items():
            key = frozenset(found)
            if key not in numbers:
                numbers[key] = len(order)
                order.append(key)
            edges.append((number, byte, numbers[key]))
        if len(order) > MAX_STATES or work > MAX_WORK:
            raise GrammarTooLarge(f"a text to quote from that needs more than {MAX_STATES} states, or {MAX_WORK} steps")
    whole = np.array([any(node < len(onward) for node in subset) for subset in order])
    return _dfa(edges, whole)


def _tries(onward: Sequence[dict[bytes, int]]) -> tuple[list[dict[int, int]], dict[int, int]]:
    """Each state's pieces as a trie whose root is the state; and the state after each node that ends a piece."""
    children: list[dict[int, int]] = [{} for _ in onward]
    ends: dict[int, int] = {}
    for state, pieces in enumerate(onward):
        for piece, target in pieces.items():
            node = state
            for byte in piece:
                if byte not in children[node]:
                    children[node][byte] = len(children)
                    children.append({})
                node = children[node][byte]
            ends[node] = target
    return children, ends


def _dfa(edges: Sequence[tuple[int, int, int]], whole: npt.NDArray[np.bool_]) -> Dfa:
    used = sorted({byte for _, byte, _ in edges})
    if len(whole) * (len(used) + 1) > MAX_CELLS:
        raise GrammarTooLarge(f"a text to quote from that needs {len(whole)} states")
    classes = np.full(256, len(used) % 256, np.uint8)
    classes[used] = np.arange(len(used), dtype=np.uint8)
    table = np.full((len(whole), min(len(used) + 1, 256)), DEAD, np.int32)
    sources, spelled, targets = (np.array(column) for column in zip(*edges, strict=True))
    table[sources, classes[spelled]] = targets
    return canonical(table, whole, classes)
