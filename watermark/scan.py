"""Finding marked passages inside longer text, with p-values that pay for the search.

Windows of geometrically growing length slide over the scored positions; each has its exact tail, and the best is
multiplied by the number of windows looked at (Šidák's formula, all but Bonferroni's). The maximum of z over windows,
which public detectors report, has no such meaning.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watermark.gathering import LeaveOut, Position, Positions, first_showings, gather
from watermark.keys import Key
from watermark.schemes.base import Scheme
from watermark.tails import adjust

SHORTEST = 16
_GROWTH = 2.0**0.5
_STEPS = 8  # windows of one length start an eighth of it apart


@dataclass(frozen=True, slots=True)
class Passage:
    """A marked stretch: `first` and `last` are indices into the positions given, both included."""

    first: int
    last: int
    scored: int
    scheme: str
    key_id: str
    log_p: float
    """Corrected for all windows of the scan, and for its tries."""

    @property
    def p_value(self) -> float:
        """Chance that unmarked text of this length holds any window that scores as high."""
        return float(np.exp(self.log_p))


def marked_passages(
    positions: Sequence[Position] | Positions,
    scheme: Scheme,
    key: Key,
    *,
    alpha: float = 1e-3,
    tries: int = 1,
    leave_out: LeaveOut | None = None,
) -> tuple[Passage, ...]:
    """Stretches with corrected p at most `alpha`, in reading order; `tries` counts the keys and schemes scanned for."""
    gathered = gather(positions, scheme, leave_out)
    draws = scheme.scores(gathered.tokens, gathered.contexts, key)
    fresh = first_showings(draws)
    starts, ends = _windows(len(fresh))
    if not len(starts):
        return ()
    sums = np.concatenate(([0.0], np.cumsum(draws.scores[fresh])))
    log_tails = scheme.log_tails(sums[ends] - sums[starts], (ends - starts).astype(np.float64))
    places = gathered.places[fresh]
    found = []
    taken = np.zeros(len(fresh), dtype=np.bool_)
    # What is significant comes first: where it ends is looked up, since a long marked text has half a million windows.
    order = np.argsort(log_tails, kind="stable")
    tries *= len(starts)
    significant = bisect_right(order, np.log(alpha), key=lambda window: adjust(float(log_tails[window]), tries))
    for best in order[:significant]:
        start, end = int(starts[best]), int(ends[best])
        # What was taken is as long as the least window or longer: it reaches over one end of a window, or fills it.
        if taken[start:end:SHORTEST].any() or taken[end - 1]:
            continue
        taken[start:end] = True
        log_p = adjust(float(log_tails[best]), tries)
        found.append(Passage(int(places[start]), int(places[end - 1]), end - start, scheme.name, key.id, log_p))
    return tuple(sorted(found, key=lambda passage: passage.first))


def _windows(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends of all windows over `count` scored positions; the whole is always one of them."""
    starts, ends = [], []
    length = float(SHORTEST)
    while length < count:
        size = round(length)
        step = max(1, size // _STEPS)
        begin = np.arange(0, count - size + 1, step, dtype=np.int64)
        starts.append(begin)
        ends.append(begin + size)
        length *= _GROWTH
    if count:
        starts.append(np.zeros(1, dtype=np.int64))
        ends.append(np.full(1, count, dtype=np.int64))
    return (np.concatenate(starts), np.concatenate(ends)) if starts else (np.empty(0, np.int64), np.empty(0, np.int64))
