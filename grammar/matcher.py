"""The position of one generation: the one mutable handle, over interned configurations. Cheap to create and clone."""

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from grammar.closing import UNSPELLABLE
from grammar.places import Place, PlaceKind
from grammar.resettling import Resettling, Step
from grammar.states import Mask

if TYPE_CHECKING:
    from grammar.compiled import Grammar


MOST_BACK: Final = 8
"""Positions whose promises are compared before a matcher moves."""


class Matcher:
    """One position. `fill_mask` and `advance` agree on every token; end tokens are legal where the text is complete."""

    __slots__ = (
        "_automaton",
        "_closing",
        "_configuration",
        "_finished",
        "_grammar",
        "_history",
        "_is_sparse",
        "_resettling",
        "_text",
        "_value_tokens",
    )

    def __init__(self, grammar: "Grammar") -> None:
        self._grammar = grammar
        self._automaton = grammar.automaton
        self._closing = grammar.closing
        self._is_sparse = not grammar.automaton.vocabulary.has_every_byte
        self._configuration = grammar.initial
        self._finished = False
        self._text = bytearray()
        self._value_tokens = 0
        self._history: list[Step] = []
        self._resettling: Resettling | None = None

    @property
    def text(self) -> bytes:
        """All bytes taken so far."""
        return bytes(self._text)

    @property
    def is_accepting(self) -> bool:
        """Whether the text so far is complete: end tokens are legal exactly then."""
        return not self._finished and self._automaton.accepts(self._configuration)

    @property
    def is_finished(self) -> bool:
        """Whether an end token was taken."""
        return self._finished

    def fill_mask(self, row: npt.NDArray[np.int32], budget: int | None = None) -> bool:
        """Write the legal tokens as bits into `row`; whether the budget excluded a token that the grammar allows."""
        if self._finished:
            row[:] = 0
            return False
        if budget is None and not self._is_sparse:
            row[:] = self._automaton.mask(self._configuration).row
            return False
        closing = self._closing
        full = closing.mask(self._configuration, self._text)
        if budget is None:
            row[:] = full.row
            return False
        return closing.fill(self._configuration, self._text, full, row, budget)

    def shared_mask(self, budget: int | None = None) -> Mask | None:
        """The legal tokens as a row that other positions share, if the budget excludes none of them.

        Its identity stands for its content, so who has seen it need not copy or compare it. None where each position
        has a row of its own: then ask `fill_mask`.
        """
        if self._finished or self._is_sparse:
            return None
        if budget is not None and not self._closing.is_ample(self._configuration, budget):
            return None
        return self._automaton.mask(self._configuration)

    def advance(self, token_id: int) -> bool:
        """Take a token; False, and no change, if it is illegal here."""
        if self._finished:
            return False
        automaton, text, configuration = self._automaton, self._text, self._configuration
        # Most steps were taken before: one lookup. (Tokens that are out of range, end tokens and b"" are never there.)
        move = automaton.moves[configuration].get(token_id)
        if move is None or self._is_sparse:
            return self._advance_new(token_id)
        self._history.append((configuration, len(text), self._value_tokens, False))
        self._configuration = move >> 1
        text += automaton.vocabulary.tokens[token_id]
        self._value_tokens = self._value_tokens + 1 if move & 1 else 0
        return True

    def _advance_new(self, token_id: int) -> bool:
        if not 0 <= token_id < self._automaton.vocabulary.size:
            return False
        before = (self._configuration, len(self._text), self._value_tokens, False)
        if token_id in self._automaton.ends:
            if not self._automaton.accepts(self._configuration):
                return False
            self._finished = True
            self._history.append(before)
            return True
        found = self._automaton.advance(self._configuration, token_id, self._text)
        if found is None or (self._is_sparse and not self._can_finish(found[0], token_id)):
            return False
        self._configuration, stayed = found
        self._text += self._automaton.vocabulary.tokens[token_id]
        self._value_tokens = self._value_tokens + 1 if stayed else 0
        self._history.append(before)
        if self._resettling is not None:
            self._resettle(self._resettling)
        elif self._grammar.looks_for_room() and self._grammar.relieve(self._automaton, self._closing):
            self._grammar.with_room(self._automaton)
            self._resettling = Resettling(self._grammar)
        return True

    def _resettle(self, there: Resettling) -> None:
        """Come nearer to an automaton that has room; once all is read there, go on in it, at the same place.

        Only if what was promised is kept there, so that a budget which was enough stays enough.
        """
        is_read = there.read(self._text, self._history)
        if is_read is False:
            return
        self._resettling = None
        old, closing = self._automaton, self._closing
        if is_read is None or not self._keeps_promises(there):
            old.base_bytes = old.kept_bytes + closing.kept_bytes  # Not before it has doubled once more.
            return
        self._automaton, self._closing = there.automaton, there.closing
        *before, self._configuration = there.configurations
        self._history = [(new, *step[1:]) for new, step in zip(before, self._history, strict=True)]
        self._automaton.base_bytes = self._automaton.kept_bytes + self._closing.kept_bytes

    def _keeps_promises(self, there: Resettling) -> bool:
        """Whether here, and as far back as drafts are taken back, no more tokens are needed than before."""
        here = [(old, length) for old, length, _, _ in self._history[-MOST_BACK + 1 :]]
        here.append((self._configuration, len(self._text)))
        for (old, length), new in zip(here, there.configurations[-len(here) :], strict=True):
            text = self._text[:length]
            if there.closing.tokens(new, text) > self._closing.tokens(old, text):
                return False
        return True

    def _can_finish(self, configuration: int, token_id: int) -> bool:
        """Whether the vocabulary, which lacks bytes, can complete the text once it goes on with this token."""
        longer = self._text + self._automaton.vocabulary.tokens[token_id]
        return self._closing.tokens(configuration, longer) < UNSPELLABLE

    def rollback(self, count: int) -> None:
        """Take back the last `count` tokens."""
        if not 0 <= count <= len(self._history):
            raise ValueError(f"cannot take back {count} of {len(self._history)} tokens")
        if count:
            self._configuration, length, self._value_tokens, self._finished = self._history[-count]
            del self._history[-count:]
            del self._text[length:]
            if self._resettling is not None:
                self._resettling.take_back(len(self._history))

    def clone(self) -> "Matcher":
        """An independent matcher at the same position."""
        other = Matcher(self._grammar)
        other._automaton, other._closing = self._automaton, self._closing
        other._configuration, other._finished = self._configuration, self._finished
        other._text, other._value_tokens = bytearray(self._text), self._value_tokens
        other._history = list(self._history)
        other._resettling = self._resettling and self._resettling.copy()
        return other

    @property
    def value_tokens(self) -> int:
        """How many tokens so far began inside the string content (or free stretch) where the matcher now stands."""
        return self._value_tokens

    @property
    def place_kind(self) -> PlaceKind:
        """What the next token would be part of."""
        return PlaceKind.END if self._finished else self._automaton.place_kind(self._configuration)

    @property
    def place(self) -> Place:
        """Where the next token stands, with the pointer into the instance."""
        return Place(self.place_kind, self._automaton.pointer(self._configuration, bytes(self._text)))

    @property
    def tokens_to_finish(self) -> int:
        """An upper bound, met by a stored plan, on the tokens that complete the text; 0 exactly when it is complete."""
        return 0 if self._finished else self._closing.tokens(self._configuration, self._text)

    def forced_bytes(self) -> bytes:
        """The longest byte string with which every completion begins."""
        return b"" if self._finished else self._automaton.forced_bytes(self._configuration, self._text)

    def forced_tokens(self) -> list[int]:
        """The run during which exactly one token is legal at each step; end tokens count as legal tokens."""
        found: list[int] = []
        trial = self.clone()
        row = np.zeros(self._automaton.vocabulary.words, np.int32)
        while not trial._finished and len(found) < 4096:
            trial.fill_mask(row)
            only = single_bit(row)
            if only is None or not trial.advance(only):
                break
            found.append(only)
        return found


def single_bit(row: npt.NDArray[np.int32]) -> int | None:
    """The one bit that is set, or None."""
    words = np.flatnonzero(row)
    if len(words) != 1:
        return None
    word = int(row[words[0]]) & 0xFFFFFFFF
    if word & (word - 1):
        return None
    return int(words[0]) * 32 + word.bit_length() - 1
