"""What the loop counts: steps, tokens, seconds by phase, time in the queue.

What it is for: the figures in `Stats`, and the breakdown that the benchmark prints. What may not enter: decisions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

_WINDOW_S = 60.0
_MOST_SAMPLES = 4096


class Timing:
    """A context that adds its seconds to those of its phase; a class, for a generator costs several times as much."""

    __slots__ = ("_clock", "_phase", "_seconds", "_start")

    def __init__(self, seconds: dict[str, float], phase: str, clock: Callable[[], float]) -> None:
        self._seconds, self._phase, self._clock = seconds, phase, clock

    def __enter__(self) -> None:
        self._start = self._clock()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + self._clock() - self._start


@dataclass(slots=True)
class Measures:
    """Cumulated since start, but for `gaps`; `queued` holds (when, how long) of the last minute."""

    steps: int = 0
    generated_tokens: int = 0
    prefill_tokens: int = 0
    decode_bytes: int = 0
    decode_s: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    gaps: dict[float, int] = field(default_factory=dict)  # of the step: seconds since the token before; how many tokens
    queued: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_MOST_SAMPLES))

    def timing(self, phase: str, clock: Callable[[], float]) -> Timing:
        """Adds the time of its body to a phase."""
        return Timing(self.seconds, phase, clock)

    def note_gap(self, waited_s: float, tokens: int) -> None:
        """So many tokens came at once, so long after the one before them: each took its share of the time."""
        gap = waited_s / tokens
        self.gaps[gap] = self.gaps.get(gap, 0) + tokens

    def note_queued(self, now: float, waited_s: float) -> None:
        """A request left the queue."""
        self.queued.append((now, waited_s))

    def queue_s_p50(self, now: float) -> float:
        """Median wait of those that left the queue within the last minute."""
        while self.queued and self.queued[0][0] < now - _WINDOW_S:
            self.queued.popleft()
        return median(waited for _, waited in self.queued) if self.queued else 0.0
