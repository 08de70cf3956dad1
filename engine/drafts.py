"""Guesses at the tokens that follow, for one forward pass to verify together.

What it is for: where the grammar forces text (keys, quotes, separators), that text's usual tokenisation is very
likely what the model writes. The guess costs a wider pass and saves narrow ones. What may not enter: anything that
changes what is drawn. A guess is never taken for granted, for a forced text has several tokenisations and the
distribution over them is the model's: each position is drawn with its own noise, and the guess only says how far one
pass may reach.

The idea: guess no further than it pays. Each grammar keeps how often its guesses came true; a chain of n guesses is
worth its last link only if p^n is above a bar, and where guesses fail there are none, but for a probe now and then.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from grammar import Matcher, PlaceKind

_MOST = 16  # tokens in one draft
_WORTH = 0.5  # the least chance that a guess comes true, those before it included
_PROBE_EVERY = 32  # opportunities left out between two probes where guesses fail
_MEMORY = 0.95  # of the moving average, per guess
_CACHED = 4096  # texts
_FREE = (PlaceKind.STRING, PlaceKind.FREE)  # nothing is forced inside these


@dataclass(slots=True)
class Trust:
    """How often guesses came true lately, for one grammar."""

    rate: float = 0.9
    left_out: int = 0

    def reach(self) -> int:
        """How many tokens are worth guessing now."""
        if self.rate >= _WORTH:
            return min(_MOST, int(math.log(_WORTH) / math.log(min(self.rate, 0.999))))
        self.left_out += 1
        return 1 if self.left_out % _PROBE_EVERY == 0 else 0

    def learn(self, *, guessed: int, accepted: int) -> None:
        """`accepted` of the guesses came true; the next one, if any, did not; those behind it say nothing."""
        for _ in range(accepted):
            self.rate = _MEMORY * self.rate + (1 - _MEMORY)
        if accepted < guessed:
            self.rate = _MEMORY * self.rate


class ForcedText:
    """Proposes the tokenisation of what the grammar forces. `encode`: the tokenizer's, on plain text."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        self._encode = encode
        self._tokens: OrderedDict[bytes, list[int]] = OrderedDict()

    def propose(self, matcher: Matcher, most: int) -> list[int]:
        """At most `most` tokens that probably follow."""
        if most <= 0 or matcher.place_kind in _FREE:
            return []
        forced = matcher.forced_bytes()
        return self._encoded(forced)[:most] if forced else []

    def _encoded(self, text: bytes) -> list[int]:
        if text not in self._tokens:
            # A text that ends inside a character is guessed up to that character.
            self._tokens[text] = self._encode(text.decode("utf-8", "ignore"))
            if len(self._tokens) > _CACHED:
                self._tokens.popitem(last=False)
        self._tokens.move_to_end(text)
        return self._tokens[text]
