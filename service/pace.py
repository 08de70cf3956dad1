"""How fast requests are served of late, so that one which cannot end in time is told so before work is done for it.

What it is for: `Pace` hears of every finished request and estimates how long another would take. What may not enter:
clocks, requests.

The idea: under overload a request whose deadline passes in mid-generation has cost as much as one that was answered,
and nobody has anything of it. How long a token takes and how many there are is taken from those that ended lately; a
server where nobody waits tries anything, for what it remembers may be long over.
"""

from __future__ import annotations

from dataclasses import dataclass

_MEMORY = 0.1  # weight of the newest
_FEW = 8  # before so many have ended nothing is said
_MARGIN = 1.25  # of two that are expected to end just in time, one would not


@dataclass(slots=True)
class Pace:
    token_s: float = 0.0
    tokens: float = 0.0  # of an answer
    observations: int = 0

    def note(self, tokens: int, seconds: float) -> None:
        """A request was answered with so many tokens, which took so long from the first on."""
        if not tokens:
            return
        self.observations += 1
        weight = max(_MEMORY, 1 / self.observations)
        self.token_s += weight * (seconds / tokens - self.token_s)
        self.tokens += weight * (tokens - self.tokens)

    def expected_s(self, budget: int, queue_s: float, waiting: int) -> float:
        """Until such a request ends, where `waiting` others wait and have waited for `queue_s`; 0: soon, or unknown."""
        if not waiting or self.observations < _FEW:
            return 0.0
        return _MARGIN * (queue_s + min(budget, self.tokens) * self.token_s)
