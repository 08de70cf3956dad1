"""Finding the mark: from eligible choices as plain data to a p-value that means what it says.

The caller yields the choices that could have carried a mark: by replaying the grammar over the text, or, without it,
the inside of JSON strings, or all of it. A choice is scored if it has its full context and shows a draw that no
earlier choice showed; the sum of the scores has an exact null distribution. Several keys or schemes are several
tries: `adjusted` corrects for them (Šidák: under the null they are independent). Imports no torch, no grammar and no
tokenizer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from watermark.gathering import Gathered, LeaveOut, Position, Positions, first_showings, gather
from watermark.keys import Key, KeyRing
from watermark.scan import Passage, marked_passages
from watermark.schemes.base import Draws, Scheme
from watermark.tails import adjust


class Standing(IntEnum):
    """What became of a position."""

    SCORED = 0
    SHORT_CONTEXT = 1
    REPEATED = 2
    COMMONPLACE = 3


@dataclass(frozen=True, slots=True)
class TokenScore:
    """One position's part in the evidence; `percentile` is its place in the null distribution (0.5 is typical)."""

    standing: Standing
    percentile: float | None = None


_SCORES = {int(standing): TokenScore(standing) for standing in Standing if standing is not Standing.SCORED}


@dataclass(frozen=True, slots=True)
class Detection:
    """The evidence for one key and scheme."""

    scheme: str
    key_id: str
    eligible: int
    scored: int
    statistic: float
    z: float
    """Deviations above the null's mean: for comparing, never for a p-value."""
    log_p: float
    """Natural logarithm of the p-value; finite where `p_value` has underflown to 0."""
    log_adjusted: float
    """The same after the correction for all keys and schemes tried."""
    standings: NDArray[np.uint8] = field(repr=False, compare=False)
    """`Standing` of each position, in order."""
    percentiles: NDArray[np.float64] = field(repr=False, compare=False)
    """Of those scored, else NaN. Shows what the key says about each token: for the key's owner only."""

    @property
    def tokens(self) -> tuple[TokenScore, ...]:
        """One entry for each position, in order; as much for the key's owner only."""
        pairs = zip(self.standings.tolist(), self.percentiles.tolist(), strict=True)
        return tuple(_SCORES.get(standing) or TokenScore(Standing.SCORED, place) for standing, place in pairs)

    @property
    def p_value(self) -> float:
        """Chance that unmarked text scores as high under this key."""
        return float(np.exp(self.log_p))

    @property
    def adjusted(self) -> float:
        """Chance that unmarked text scores as high under any of the keys and schemes tried."""
        return float(np.exp(self.log_adjusted))


class Detector:
    """Looks for every key of a ring (of one tenant) under one or several schemes."""

    def __init__(
        self, scheme: Scheme | Sequence[Scheme], keys: KeyRing | Sequence[Key], tenant: str | None = None
    ) -> None:
        self._schemes = (scheme,) if isinstance(scheme, Scheme) else tuple(scheme)
        self._keys = keys.keys(tenant) if isinstance(keys, KeyRing) else tuple(keys)

    @property
    def tries(self) -> int:
        """How many pairs of scheme and key one reading of a text is scored under."""
        return len(self._schemes) * len(self._keys)

    def score(
        self, positions: Sequence[Position] | Positions, *, readings: int = 1, leave_out: LeaveOut | None = None
    ) -> Detection:
        """The strongest evidence of all keys and schemes, corrected for having looked at all of them."""
        each = self.score_each(positions, readings=readings, leave_out=leave_out)
        return min(each, key=lambda detection: detection.log_p)

    def score_each(
        self, positions: Sequence[Position] | Positions, *, readings: int = 1, leave_out: LeaveOut | None = None
    ) -> tuple[Detection, ...]:
        """The evidence for each scheme and key.

        `readings`: in how many ways the text is read in all, each by a call of its own: they are tries too.
        `leave_out(positions, scheme)`: which are not to be counted (see `Commonplaces`).
        """
        found: list[Detection] = []
        positions = positions if isinstance(positions, Positions) else Positions.of(positions)
        for scheme in self._schemes:
            gathered = gather(positions, scheme, leave_out)
            found += [_detection(scheme, key, gathered, self.tries * readings) for key in self._keys]
        return tuple(found)

    def passages(
        self,
        positions: Sequence[Position] | Positions,
        *,
        alpha: float,
        readings: int = 1,
        leave_out: LeaveOut | None = None,
    ) -> tuple[Passage, ...]:
        """Marked stretches inside the text under any scheme and key; see `watermark.scan`."""
        tries = self.tries * readings
        found: list[Passage] = []
        for scheme in self._schemes:
            for key in self._keys:
                found += marked_passages(positions, scheme, key, alpha=alpha, tries=tries, leave_out=leave_out)
        return tuple(sorted(found, key=lambda passage: passage.first))


def _detection(scheme: Scheme, key: Key, gathered: Gathered, tries: int) -> Detection:
    draws = scheme.scores(gathered.tokens, gathered.contexts, key)
    fresh = first_showings(draws)
    total = float(draws.scores[fresh].sum())
    log_p = scheme.log_tail(total, len(fresh)) if len(fresh) else 0.0
    mean, variance = scheme.null_moments
    z = (total - len(fresh) * mean) / np.sqrt(len(fresh) * variance) if len(fresh) else 0.0
    return Detection(
        scheme=scheme.name,
        key_id=key.id,
        eligible=gathered.eligible,
        scored=len(fresh),
        statistic=total,
        z=float(z),
        log_p=log_p,
        log_adjusted=adjust(log_p, tries),
        standings=_standings(gathered, fresh),
        percentiles=_percentiles(scheme, gathered, draws, fresh),
    )


def _standings(gathered: Gathered, fresh: NDArray[np.int64]) -> NDArray[np.uint8]:
    out = np.full(gathered.eligible, Standing.SHORT_CONTEXT, np.uint8)
    out[gathered.left_out] = Standing.COMMONPLACE
    out[gathered.used_up] = Standing.REPEATED
    out[gathered.places] = Standing.REPEATED
    out[gathered.places[fresh]] = Standing.SCORED
    return out


def _percentiles(scheme: Scheme, gathered: Gathered, draws: Draws, fresh: NDArray[np.int64]) -> NDArray[np.float64]:
    out = np.full(gathered.eligible, np.nan)
    out[gathered.places[fresh]] = scheme.percentile(draws.scores[fresh])
    return out
