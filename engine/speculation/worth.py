"""Whether asking a proposer that takes time pays.

What it is for: heads and draft models cost a pass of their own before anything is verified. What may not enter: what
they say.

The idea: what was saved lately (guesses that came true, at what a token costs) against what asking took. Where it does
not pay the proposer is asked now and then only, so that it can win its place back.
"""

from __future__ import annotations

_MEMORY = 0.95
_ASK_EVERY = 24  # steps between two tries where it does not pay
_FIRST_ASKS = 16  # before anything is decided


class Worth:
    """Averages over the times that the proposer was asked."""

    def __init__(self) -> None:
        self._asked = 0
        self._left_out = 0
        self._cost_s = 0.0
        self._saved_s = 0.0

    def should_ask(self) -> bool:
        """Whether to ask in this step."""
        if self._asked < _FIRST_ASKS or self._saved_s >= self._cost_s:
            return True
        self._left_out += 1
        return self._left_out % _ASK_EVERY == 0

    def note(self, cost_s: float, accepted: int, token_s: float) -> None:
        """It was asked for so long; so many of its guesses came true, where a token costs `token_s`."""
        self._asked += 1
        share = max(1.0 - _MEMORY, 1.0 / self._asked)
        self._cost_s += share * (cost_s - self._cost_s)
        self._saved_s += share * (accepted * token_s - self._saved_s)
