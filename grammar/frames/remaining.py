"""Lists of words of which fewer and fewer remain: items that must differ, where a list says what they can be.

All that remains is told by bits: one automaton for the whole list, whose label for a word is the word's number, and one
set of bits for what a frame still allows, as with the keys of an object. A list of n words then takes one automaton,
not one for each of the sets that come about as items are taken from it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from grammar.formula import Formula, atoms, evaluate, satisfying
from grammar.frames.languages import Machine, overlay
from grammar.frames.members import is_text
from grammar.schema.atoms import OneOfStrings


@dataclass(frozen=True, slots=True, eq=False)
class WordList:
    """Some words, numbered, and the automaton whose labels are these numbers."""

    words: tuple[str, ...]
    numbers: dict[str, int]
    machine: Machine

    @property
    def size(self) -> int:
        """How many 32-bit words hold a bit for each of its words."""
        return -(-len(self.words) // 32)

    def bits(self, words: frozenset[str]) -> int:
        """The set of these words."""
        held = np.zeros(len(self.words), np.bool_)
        held[[self.numbers[word] for word in words]] = True
        return int.from_bytes(np.packbits(held, bitorder="little").tobytes(), "little")


def listed_words(asked: Formula) -> frozenset[str] | None:
    """The texts that satisfy a formula over lists of texts; None where it speaks of anything else, or has no end."""
    lists = atoms(asked)
    if not lists or not all(isinstance(atom, OneOfStrings) for atom in lists) or evaluate(asked, lambda _: False):
        return None
    listed = frozenset[str]().union(*(atom.values for atom in lists))
    return frozenset(word for word in satisfying(asked, lambda atom: atom.values, listed) if is_text(word))


def word_holds(formula: Formula, word: str) -> bool | None:
    """Whether a word satisfies a formula over lists of texts; None where it speaks of anything else."""
    if not all(isinstance(atom, OneOfStrings) for atom in atoms(formula)):
        return None
    return evaluate(formula, lambda atom: word in atom.values)


class WordLists:
    """The lists of one grammar: what remains of a list is told by the bits of the list."""

    def __init__(self) -> None:
        self._lists: list[WordList] = []

    def holding(self, words: frozenset[str]) -> WordList:
        """The list that these words are part of: one that is known, or theirs alone."""
        for known in self._lists:
            if known.numbers.keys() >= words:
                return known
        ordered = tuple(sorted(words))
        numbers = {word: number for number, word in enumerate(ordered)}
        machine = overlay(None, {word.encode(): number for word, number in numbers.items()})
        self._lists.append(WordList(ordered, numbers, machine))
        return self._lists[-1]


def ending_with(machine: Machine, allowed: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """[state]: whether a word ends there whose label has its bit in `allowed`."""
    held = np.unpackbits(allowed.view(np.uint8), bitorder="little")
    found: npt.NDArray[np.bool_] = (machine.labels >= 0) & (held[machine.labels] > 0)
    return found
