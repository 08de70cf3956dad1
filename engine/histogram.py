"""Values counted by size: what percentiles are drawn from.

What it is for: the engine counts its steps and the service its requests this way; both are rendered by
`service.metrics`. What may not enter: names, labels, text formats.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from engine.messages import Spread

# Upper bounds. Seconds of requests and steps; of what should be a small part of a step; how many; shares of a whole.
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)
SHORT_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(slots=True)
class Histogram:
    """`counts[i]`: values of at most `bounds[i]` and above the bound before; the last: those above all bounds."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float, times: int = 1) -> None:
        """The same value, so many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    @property
    def spread(self) -> Spread:
        """A copy as it goes over the wire."""
        return Spread(list(self.counts), self.total)
