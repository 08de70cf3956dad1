"""Who is slow: a replica whose tokens take much longer than the others' gets no new requests for a while.

What it is for: `Fitness` hears how long each replica takes for a token and says whom to spare. What may not enter:
clocks (times are arguments), sockets.

The idea: slowness is relative. When all are loaded all slow down, and nobody is to blame; a card that throttles or a
machine that swaps stands out from the median of the rest. Who is spared gets one request in `probe_s`, so that its
recovery shows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FitnessRules:
    factor: float = 3.0  # slower than the median of the others
    excess_s: float = 0.05  # and by so much a token at least
    observations: int = 8  # before anything is said of a replica
    memory: float = 0.2  # weight of the newest observation
    probe_s: float = 10.0


@dataclass(slots=True)
class _Pace:
    seconds: float = 0.0  # for a token
    observations: int = 0
    probed_at: float = float("-inf")


class Fitness:
    """`observe` as tokens come, `judge` now and then. Times are on one monotonic clock."""

    def __init__(self, rules: FitnessRules | None = None) -> None:
        self._rules = rules or FitnessRules()
        self._paces: dict[str, _Pace] = {}
        self._slow: dict[str, float] = {}  # how many times slower than the others

    def observe(self, name: str, seconds: float, tokens: int) -> None:
        """A stream of this replica waited so long for so many tokens."""
        pace, each = self._paces.setdefault(name, _Pace()), seconds / tokens
        weight = max(self._rules.memory, 1 / (pace.observations + 1))
        pace.seconds += weight * (each - pace.seconds)
        pace.observations += 1

    def forget(self, name: str) -> None:
        self._paces.pop(name, None)
        self._slow.pop(name, None)

    def judge(self) -> None:
        """Compares all with the median of the others. O(n log n)."""
        known = {
            name: pace.seconds for name, pace in self._paces.items() if pace.observations >= self._rules.observations
        }
        ordered = sorted(known.values())
        self._slow = {}
        for name, seconds in known.items():
            typical = _median_without(ordered, seconds)
            if typical is not None and self._stands_out(seconds, typical):
                self._slow[name] = seconds / typical if typical > 0 else self._rules.factor

    def pace(self, name: str) -> float:
        """How many times slower than the others it was last found; 1 if it does not stand out."""
        return self._slow.get(name, 1.0)

    def spared(self, now: float) -> set[str]:
        """Those that should get nothing new now. O(slow ones)."""
        return {name for name in self._slow if now - self._paces[name].probed_at < self._rules.probe_s}

    def probed(self, name: str, now: float) -> None:
        """A request goes there: the next one has to wait, if it is slow."""
        if name in self._slow:
            self._paces[name].probed_at = now

    def _stands_out(self, seconds: float, typical: float) -> bool:
        return seconds > self._rules.factor * typical and seconds > typical + self._rules.excess_s


def _median_without(ordered: Sequence[float], value: float) -> float | None:
    """The median of sorted values but this one; None if it is alone."""
    count = len(ordered) - 1
    if count < 1:
        return None
    out = bisect_left(ordered, value)

    def at(index: int) -> float:
        return ordered[index if index < out else index + 1]

    return (at((count - 1) // 2) + at(count // 2)) / 2
