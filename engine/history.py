"""Which tokens a request has seen, and how often: what penalties look at.

What it is for: kept up to date token by token, so that a step need not count a long output again. What may not enter:
penalties themselves, logits.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray


class History(msgspec.Struct, frozen=True):
    """`ids` without repeats; `counts[i]`: how often the output holds `ids[i]` (0: it is in the prompt only)."""

    ids: NDArray[np.int64]
    counts: NDArray[np.float32]


class TokenCounts:
    """Grows with the output. `prompt`: tokens that count as seen though the output does not hold them."""

    def __init__(self, prompt: Iterable[int]) -> None:
        self._place: dict[int, int] = {}
        self._ids = np.empty(64, np.int64)
        self._counts = np.empty(64, np.float32)
        for token in prompt:
            self._place_of(token)

    def note(self, token: int) -> None:
        """One more of this token in the output."""
        place = self._place_of(token)
        self._counts[place] += 1

    def history(self, ahead: Iterable[int] = ()) -> History:
        """As if the output went on with `ahead`; without it a view, valid until the next `note`."""
        new = list(ahead)
        if not new:
            return History(self._ids[: len(self._place)], self._counts[: len(self._place)])
        trial = TokenCounts(())
        trial._place = dict(self._place)
        trial._ids, trial._counts = self._ids.copy(), self._counts.copy()
        for token in new:
            trial.note(token)
        return trial.history()

    def _place_of(self, token: int) -> int:
        place = self._place.get(token)
        if place is None:
            place = self._place[token] = len(self._place)
            if place == len(self._ids):
                self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
                self._counts = np.concatenate([self._counts, np.empty_like(self._counts)])
            self._ids[place], self._counts[place] = token, 0.0
        return place
