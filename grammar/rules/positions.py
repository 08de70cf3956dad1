"""Where one reading of a text stands inside its rule: sets of network nodes and places in words, found when needed.

A *position* is what a deterministic reader of one rule would hold, calls aside: bytes lead from position to position,
calls lead into other rules and come back at a position. Positions are numbered as they are met, so rules that are never
entered cost nothing, and a grammar without recursion is read by one position at a time, as by an automaton.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Final

import numpy as np
import numpy.typing as npt

from grammar.errors import GrammarTooLarge
from grammar.lexical import Dfa
from grammar.rules.network import Network
from grammar.rules.slices import Run, ends_of_characters
from grammar.rules.terms import Json, Word

END: Final = 0
"""After the whole text: nothing follows."""
DONE: Final = 1
"""After a rule: nothing but its end."""
MAX_POSITIONS: Final = 200_000
_DONE_ELEMENT: Final = (-1, 0, 0)
_EXPLORED: Final = 300

# (-1, 0, 0): the end of the rule; (-1, 1, node): at a node; (word, state, node): in a word that leads to a node.
Element = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Position:
    """One position: what may follow it."""

    moves: tuple[tuple[int, int], ...]
    """(class of bytes, position) pairs."""
    calls: tuple[tuple[int, int], ...]
    """(the called rule's first position, the position after it) pairs."""
    values: tuple[tuple[int, int, int], ...]
    """(schema number, the position after its JSON text, the bytes that may follow it as a bit set)."""
    ends: bool
    """Whether the rule may end here."""
    beyond: int
    """The bytes that may follow that end, as a bit set."""


class Positions:
    """All positions of one network met so far."""

    def __init__(self, network: Network, *, bytewise: bool) -> None:
        """With `bytewise` every byte is a class of its own: foreign positions may tell any two bytes apart."""
        self._network = network
        self._words: dict[int, int] = {}
        self._rows: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._languages: list[Word] = []
        for edges in network.edges:
            for label, _ in edges:
                if isinstance(label, Word) and id(label) not in self._words:
                    self._words[id(label)] = len(self._languages)
                    self._languages.append(label)
        self.classes, self.count = _common_classes(self._languages)
        if bytewise:
            self.classes, self.count = np.arange(256, dtype=np.uint8), 256
        self._representatives = np.unique(self.classes, return_index=True)[1]
        self._elements: list[frozenset[Element]] = [frozenset(), frozenset([_DONE_ELEMENT])]
        self._numbers: dict[frozenset[Element], int] = {self._elements[DONE]: DONE}
        end = Position((), (), (), ends=False, beyond=0)
        done = Position((), (), (), ends=True, beyond=network.after_any_rule)
        self._known: list[Position | None] = [end, done]
        self._lasting: dict[tuple[int, Run], bool] = {}
        self._classes_of: dict[bytes, frozenset[int]] = {}
        self._entries: dict[str, int] = {}
        self._starred: dict[int, bool] = {}
        self._costs: dict[int, int] = {}
        self._foreign: dict[Hashable, int] = {}
        self._foreign_texts: dict[int, bytes] = {}
        self._explorers: dict[int, Callable[[], Position]] = {}

    @property
    def languages(self) -> list[Dfa]:
        """Those of the network's words."""
        return [word.language for word in self._languages]

    def entry(self, rule: str) -> int:
        """The first position of a rule."""
        found = self._entries.get(rule)
        if found is None:
            found = self._entries[rule] = self._number([(-1, 1, self._network.entries[rule])])
        return found

    def at(self, number: int) -> Position:
        """What may follow the position of this number."""
        found = self._known[number]
        if found is None:
            explore = self._explorers.get(number)
            found = self._known[number] = explore() if explore else self._explore(self._elements[number])
        return found

    def foreign(self, key: Hashable, explore: Callable[[], Position], rest: bytes) -> int:
        """A position in something that is not made of words: what may follow it, and a short way to its end."""
        found = self._foreign.get(key)
        if found is None:
            found = self._foreign[key] = self._new(frozenset())
            self._explorers[found] = explore
            self._costs[found], self._foreign_texts[found] = len(rest), rest
        return found

    def spread(self, bits: int) -> list[bool]:
        """For each class, whether its bytes are in a bit set that respects the classes."""
        return [bool(bits >> byte & 1) for byte in self._representatives.tolist()]

    def is_starred(self, number: int) -> bool:
        """Whether the rest of the rule is any number of rounds that come back here.

        Then standing here twice, one inside the other, allows no more than standing here once.
        """
        found = self._starred.get(number)
        if found is None:
            found = self._starred[number] = self.at(number).ends and self._comes_back(number)
        return found

    def lasts(self, number: int, run: Run) -> bool:
        """Whether every character of the run leaves a reading at this position where it is."""
        found = self._lasting.get((number, run))
        if found is None:
            stays = number not in self._explorers and self._stays(number, run.ascii)
            found = stays and (not run.others or ends_of_characters(self._step_to, number) == {number})
            self._lasting[number, run] = found
        return found

    def goes_on_after(self, number: int, run: Run) -> bool:
        """Whether each character beyond ASCII leads a reading at this position to where the run stays."""
        if not run.others or number in self._explorers:
            return False
        return all(to is not None and self.lasts(to, run) for to in ends_of_characters(self._step_to, number))

    def _stays(self, number: int, within: bytes) -> bool:
        classes = self._classes_of.get(within)
        if classes is None:
            classes = self._classes_of[within] = frozenset(self.classes[list(within)].tolist())
        return classes <= {cls for cls, to in self.at(number).moves if to == number}

    def _step_to(self, number: int, byte: int) -> int | None:
        """The position that a byte leads to; what is not made of words is not looked at."""
        cls = int(self.classes[byte])
        if number in self._explorers:
            return None
        return next((to for at, to in self.at(number).moves if at == cls), None)

    def cost(self, number: int) -> int:
        """The bytes of the shortest way to the end of the rule."""
        found = self._costs.get(number)
        if found is None:
            found = self._costs[number] = min((self._element_cost(e) for e in self._elements[number]), default=0)
        return found

    def shortest(self, number: int) -> bytes:
        """The bytes of that way."""
        elements = self._elements[number]
        if not elements:
            return self._foreign_texts.get(number, b"")
        word, state, node = min(elements, key=lambda e: (self._element_cost(e), e))
        if word < 0:
            return self._network.shortest(node) if state else b""
        return self._languages[word].language.shortest(state) + self._network.shortest(node)

    def _element_cost(self, element: Element) -> int:
        word, state, node = element
        if word < 0:
            return self._network.cost[node] if state else 0
        return int(self._languages[word].language.distance[state]) + self._network.cost[node]

    def _number(self, elements: list[Element]) -> int:
        """The position of these elements, without those that say nothing new."""
        network = self._network
        kept: set[Element] = set()
        for element in elements:
            word, state, node = element
            blind = word < 0 and state == 1 and network.final[node] and not network.edges[node]
            kept.add(_DONE_ELEMENT if blind else element)
        if _DONE_ELEMENT in kept and any(w < 0 and s == 1 and network.final[n] for w, s, n in kept):
            kept.discard(_DONE_ELEMENT)
        key = frozenset(kept)
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = self._new(key)
        return found

    def _new(self, elements: frozenset[Element]) -> int:
        self._elements.append(elements)
        self._known.append(None)
        if len(self._elements) > MAX_POSITIONS:
            raise GrammarTooLarge(f"a grammar of more than {MAX_POSITIONS} positions")
        return len(self._elements) - 1

    def _explore(self, elements: frozenset[Element]) -> Position:
        network = self._network
        targets: dict[int, list[Element]] = {}
        calls: dict[str, list[Element]] = {}
        values: dict[int, list[Element]] = {}
        ends = _DONE_ELEMENT in elements
        beyond = network.after_any_rule if ends else 0
        for word, state, node in sorted(elements):
            if word >= 0:
                self._step(word, state, node, targets)
            elif state:
                if network.final[node]:
                    ends, beyond = True, beyond | network.after_rule(node)
                for label, target in network.edges[node]:
                    if isinstance(label, Word):
                        self._step(self._words[id(label)], 0, target, targets)
                    elif isinstance(label, Json):
                        values.setdefault(label.number, []).append((-1, 1, target))
                    else:
                        calls.setdefault(label.name, []).append((-1, 1, target))
        return Position(
            moves=tuple((cls, self._number(found)) for cls, found in targets.items()),
            calls=tuple((self.entry(name), self._number(found)) for name, found in calls.items()),
            values=tuple((number, self._number(found), self._following(found)) for number, found in values.items()),
            ends=ends,
            beyond=beyond,
        )

    def _following(self, elements: list[Element]) -> int:
        return reduce(or_, (self._network.following(node) for _, _, node in elements))

    def _step(self, word: int, state: int, node: int, targets: dict[int, list[Element]]) -> None:
        language = self._languages[word].language
        for cls, after in self._row(word, state):
            found = targets.setdefault(cls, [])
            if language.accepting[after]:
                found.append((-1, 1, node))
            if self._row(word, after):
                found.append((word, after, node))

    def _row(self, word: int, state: int) -> list[tuple[int, int]]:
        """(class, state) for each class of bytes that goes on in a word."""
        found = self._rows.get((word, state))
        if found is None:
            language = self._languages[word].language
            row = language.table[state, language.classes[self._representatives]].tolist()
            found = self._rows[word, state] = [(cls, to) for cls, to in enumerate(row) if to >= 0]
        return found

    def _comes_back(self, number: int) -> bool:
        seen, todo = {number}, [number]
        while todo and len(seen) < _EXPLORED:
            found = self.at(todo.pop())
            after = [to for _, to in (*found.moves, *found.calls)] + [to for _, to, _ in found.values]
            if any(self.at(to).ends and to != number for to in after):
                return False
            todo.extend(to for to in after if to not in seen)
            seen.update(after)
        return not todo


def _common_classes(words: list[Word]) -> tuple[npt.NDArray[np.uint8], int]:
    """The coarsest classes of bytes that every word respects."""
    if not words:
        return np.zeros(256, np.uint8), 1
    distinct = {word.language.classes.tobytes(): word.language.classes for word in words}
    found, classes = np.unique(np.stack(list(distinct.values())), axis=1, return_inverse=True)
    del found
    return classes.reshape(-1).astype(np.uint8), int(classes.max()) + 1
