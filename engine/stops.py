"""Stop strings, found on bytes and across token borders.

What it is for: the engine asks when to end; the service asks which bytes may already be streamed. Both use this one
class, so they cannot disagree. What may not enter: tokens, text decoding, torch.

The idea: only the last `longest − 1` bytes can still begin a match, so that is all that is remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StopHit:
    """`stop` begins at byte `start` of all bytes fed so far."""

    stop: bytes
    start: int


class StopScanner:
    """Feeds on the bytes of a generation; after the first hit it stays silent."""

    def __init__(self, stops: Sequence[bytes]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max((len(stop) for stop in self._stops), default=0)
        self._tail = b""
        self._fed = 0
        self.hit: StopHit | None = None

    def feed(self, data: bytes) -> StopHit | None:
        """The match that ends first in what was fed so far (the longest if several end there), or None."""
        if self.hit is not None or not self._stops or not data:
            return None
        window = self._tail + data
        offset = self._fed - len(self._tail)
        self._fed += len(data)
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := window.find(stop)) >= 0]
        if found:
            _, at, stop = min(found)
            self.hit = StopHit(stop, offset + at)
            return self.hit
        self._tail = window[-(self._longest - 1) :] if self._longest > 1 else b""
        return None

    @property
    def held(self) -> int:
        """How many of the last bytes may begin a stop string and must not be shown yet."""
        if self.hit is not None:
            return 0
        for length in range(len(self._tail), 0, -1):
            end = self._tail[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
