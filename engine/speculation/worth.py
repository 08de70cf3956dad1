"""Whether asking a proposer that takes time pays.

What it is for: heads and draft models cost a pass of their own before anything is verified. What may not enter: what
they say.

The idea: what was saved lately (guesses that came true, at what a token costs) against what asking took. Where it does
not pay the proposer is asked now and then only, so that it can win its place back.
"""

from __future__ import annotations

_MEMORY = 0.95
_ASK_EVERY = 24  # steps between two tries where it does not pay
_MARGIN = 1.5  # its guesses are verified, which costs too, and others might have guessed some of them
_FIRST_ASKS = 16  # before anything is decided


class Worth:
    """Averages over the times that the proposer was asked."""

    def __init__(self) -> None:
        self._asked = 0
        self._left_out = 0
        self._cost_s = 0.0
        self._saved_s = 0.0
        self._open: tuple[float, int] | None = None  # the last asking, until what it brought is known

    def should_ask(self, came_true: int, token_s: float) -> bool:
        """Whether to ask in this step. `came_true`: of all its guesses so far; `token_s`: what a token costs."""
        if self._open is not None:
            self._settle(*self._open, came_true, token_s)
            self._open = None
        if self._asked < _FIRST_ASKS or self._saved_s >= _MARGIN * self._cost_s:
            return True
        self._left_out += 1
        return self._left_out % _ASK_EVERY == 0

    def asked(self, seconds: float, came_true: int) -> None:
        """It was asked, which took so long."""
        self._open = seconds, came_true

    def _settle(self, cost_s: float, before: int, came_true: int, token_s: float) -> None:
        self._asked += 1
        share = max(1.0 - _MEMORY, 1.0 / self._asked)
        self._cost_s += share * (cost_s - self._cost_s)
        self._saved_s += share * ((came_true - before) * token_s - self._saved_s)
