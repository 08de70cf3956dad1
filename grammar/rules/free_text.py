"""Text that stops at given strings, or never holds them: automata after Aho and Corasick, over well-formed UTF-8."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from grammar.errors import GrammarTooLarge
from grammar.lexical import DEAD, Dfa, canonical, universe
from grammar.rules.terms import Term, Word, encoded

MAX_STRINGS: Final = 300
MAX_CHARACTERS: Final = 10_000


@lru_cache(maxsize=256)
def without(strings: tuple[str, ...]) -> Term:
    """Any text in which none of the strings occurs."""
    watch = _watch(strings)
    return Word(_language(watch, [not found for found in watch.found]))


@lru_cache(maxsize=256)
def until(stop: str, strings: tuple[str, ...]) -> Term:
    """Any text that ends with `stop` and in which none of the strings, of which it is one, occurs before its end."""
    watch = _watch(strings)
    return Word(_language(watch, [stop in found for found in watch.found]))


@dataclass(frozen=True, slots=True)
class _Watch:
    """An automaton that has read some text and knows which strings end there."""

    onward: list[dict[int, int]]
    found: list[frozenset[str]]


def _watch(strings: Sequence[str]) -> _Watch:
    if len(strings) > MAX_STRINGS or sum(map(len, strings)) > MAX_CHARACTERS:
        raise GrammarTooLarge(f"free text that watches for over {MAX_STRINGS} strings or {MAX_CHARACTERS} characters")
    onward: list[dict[int, int]] = [{}]
    found: list[set[str]] = [set()]
    for string in strings:
        node = 0
        for byte in encoded(string):
            if byte not in onward[node]:
                onward[node][byte] = len(onward)
                onward.append({})
                found.append(set())
            node = onward[node][byte]
        found[node].add(string)
    _follow_failures(onward, found)
    return _Watch(onward, [frozenset(each) for each in found])


def _follow_failures(onward: list[dict[int, int]], found: list[set[str]]) -> None:
    """Give each node the steps and the finds of the longest suffix that is a node too."""
    failure = [0] * len(onward)
    todo = deque(onward[0].values())
    while todo:
        node = todo.popleft()
        fallback = failure[node]
        found[node] |= found[fallback]
        for byte, child in onward[node].items():
            failure[child] = onward[fallback].get(byte, 0)
            todo.append(child)
        onward[node] = {**onward[fallback], **onward[node]}


def _language(watch: _Watch, accepting: Sequence[bool]) -> Dfa:
    """The texts that end in an accepting state: where a string was found, nothing follows."""
    used = sorted({byte for steps in watch.onward for byte in steps})
    classes = np.full(256, len(used), np.uint8)
    classes[used] = np.arange(len(used), dtype=np.uint8)
    table = np.zeros((len(watch.onward), len(used) + 1), np.int32)
    for state, steps in enumerate(watch.onward):
        for byte, target in steps.items():
            table[state, classes[byte]] = target
    table[[bool(found) for found in watch.found]] = DEAD
    return canonical(table, np.array(accepting, np.bool_), classes).intersect(universe())
