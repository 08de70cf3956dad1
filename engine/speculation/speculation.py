"""What an engine's steps need of speculation: how many guesses to verify, what it cost, whom to ask next.

What it is for: the loop's one partner here. What may not enter: sequences, pages, requests (a request's own part is its
`Speculator`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from numpy.typing import NDArray

from engine.speculation.allotment import allot
from engine.speculation.cost import StepCost
from engine.speculation.drafting import Drafter, Speculator
from engine.speculation.rates import Source
from engine.speculation.worth import Worth

_MEMORY = 0.9  # of what a token costs, per step


class Seen(Protocol):
    """Of each row and each position ahead the likeliest tokens, best first, and their chances."""

    @property
    def tokens(self) -> NDArray: ...  # type: ignore[type-arg]

    @property
    def chances(self) -> NDArray: ...  # type: ignore[type-arg]


class Seer(Protocol):
    """Looks ahead from the hidden states of the last pass, as heads do."""

    def look(self, rows: Sequence[int]) -> Seen:
        """`rows`: of the last pass's logits; what may follow the tokens that were drawn from them."""
        ...


class Speculation:
    """Changed by the loop only."""

    def __init__(self, drafter: Drafter, cost: StepCost, seer: Seer | None = None) -> None:
        self.drafter = drafter
        self.cost = cost
        self._seer = seer
        self._worth = Worth()
        self.token_s = 0.0  # what a token costs, lately

    def allot(self, chances: Sequence[Sequence[float]], positions: int) -> list[int]:
        """How many guesses of each running sequence the step verifies."""
        return allot(chances, len(chances), positions, self.cost)

    def note(self, sequences: int, positions: int, tokens: int, seconds: float) -> None:
        """A step in which all sequences decode brought so many tokens in so many seconds."""
        self.cost.note(sequences, positions, seconds)
        spent = seconds / max(1, tokens)
        self.token_s = spent if self.token_s == 0.0 else _MEMORY * self.token_s + (1 - _MEMORY) * spent

    def foresee(self, ends: Sequence[tuple[Speculator, int]]) -> None:
        """Lets heads look ahead of requests that go on, from the rows that their last tokens were drawn from."""
        if self._seer is None or not ends:
            return
        came_true = self.drafter.came_true[Source.HEADS]
        if not self._worth.should_ask(came_true, self.token_s):
            return
        began = self.cost.clock()
        seen = self._seer.look([row for _, row in ends])
        for (speculator, _), tokens, chances in zip(ends, seen.tokens.tolist(), seen.chances.tolist(), strict=True):
            speculator.foresee([list(zip(*each, strict=True)) for each in zip(tokens, chances, strict=True)])
        self._worth.asked(self.cost.clock() - began, came_true)
