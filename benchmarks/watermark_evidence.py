"""The statistics behind `formwork bench watermark`: many texts at once, spans of a wished size, the power of a
promise.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from benchmarks.marked_text import Document
from watermark import KeyRing, Kind, Position, Scheme
from watermark.gathering import gather
from watermark.schemes.gumbel import expected_score

Floats = NDArray[np.float64]
ByKey = Mapping[str, Sequence[Sequence[Position]]]


@dataclass(frozen=True)
class Found:
    """What a detector says of each text: sums of scores and numbers of draws."""

    scheme: Scheme
    totals: Floats
    counts: Floats

    @property
    def z(self) -> Floats:
        """Deviations above the null's mean."""
        mean, variance = self.scheme.null_moments
        return np.asarray((self.totals - mean * self.counts) / np.sqrt(variance * np.maximum(self.counts, 1.0)))

    @property
    def log_p(self) -> Floats:
        """Exact."""
        return np.where(self.counts > 0, self.scheme.log_tails(self.totals, self.counts), 0.0)

    def randomised_p(self, rng: np.random.Generator) -> Floats:
        """Exactly uniform under the null, also where nothing could be scored."""
        rows = zip(self.totals, self.counts, rng.random(len(self.totals)), strict=True)
        tail = self.scheme.log_randomised_tail
        logs = [tail(float(t), int(n), float(u)) if n else math.log(u) for t, n, u in rows]
        return np.asarray(np.exp(logs), dtype=np.float64)


class Corpus:
    """Many texts as one array, so that a key is tried on all of them at once; scores as `watermark.Detector` does."""

    def __init__(self, texts: Sequence[Sequence[Position]], scheme: Scheme) -> None:
        owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        self._gathered = gather([position for text in texts for position in text], scheme)
        self._owner = owner[self._gathered.places]
        self._scheme, self._size = scheme, len(texts)

    def found(self, key_ring: KeyRing, key_id: str) -> Found:
        """Each text's draws summed, each draw once."""
        draws = self._scheme.scores(self._gathered.tokens, self._gathered.contexts, key_ring.key(key_id))
        apart = draws.units ^ (self._owner.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        fresh = np.unique(apart, return_index=True)[1]
        totals = np.bincount(self._owner[fresh], draws.scores[fresh], self._size)
        counts = np.bincount(self._owner[fresh], minlength=self._size)
        return Found(self._scheme, np.asarray(totals, dtype=np.float64), counts.astype(np.float64))


def found_under_own_key(texts: ByKey, scheme: Scheme, ring: KeyRing) -> Found:
    """Each text under the key that marked it, in the order of the mapping."""
    parts = [Corpus(listed, scheme).found(ring, key) for key, listed in texts.items()]
    return Found(
        scheme, np.concatenate([part.totals for part in parts]), np.concatenate([part.counts for part in parts])
    )


@dataclass(frozen=True)
class Span:
    """Documents read one after the other until enough free choices can be scored: those, and all that they stand in."""

    free: Sequence[Position]
    everything: Sequence[Position]


def span_of(documents: Sequence[Document], scheme: Scheme, count: int, rng: np.random.Generator) -> Span:
    """Documents in random order, cut after the `count`-th choice with a context of its own."""
    free: list[Position] = []
    everything: list[Position] = []
    seen: set[tuple[Kind, tuple[int, ...]]] = set()
    for index in rng.permutation(len(documents)):
        document = documents[index]
        for position, place in zip(document.free, document.places, strict=True):
            free.append(position)
            width = scheme.h(position.kind)
            if len(position.context) >= width:
                seen.add((position.kind, position.context[len(position.context) - width :]))
            if len(seen) == count:
                return Span(free, everything + list(document.everything[: place + 1]))
        everything += document.everything
    return Span(free, everything)


def promised_power(scheme: Scheme, log_p: float, count: int, log_alpha: float) -> float:
    """The chance that p is at most alpha, if its mean logarithm is as promised.

    Choices are taken as alike: the total that has this tail gives each one's mean, and that its variance.
    """
    if count == 0:
        return 0.0
    is_gumbel = scheme.name == "gumbel"
    points = np.geomspace(0.2 * count, 22.0 * count, 500) if is_gumbel else np.arange(count + 1.0)
    totals = np.asarray(points, dtype=np.float64)
    curve = -np.maximum(scheme.log_tails(totals, np.full(len(totals), float(count))), -1e6)
    typical, needed = np.interp([-log_p, -log_alpha], curve, totals)
    if curve[-1] < -log_alpha:
        return 0.0
    share = typical / count
    variance = count * (_gumbel_variance(share) if is_gumbel else share * (1.0 - share))
    # A count must reach the next whole number.
    reach = needed if is_gumbel else math.ceil(needed - 1e-9) - 0.5
    return float(special.ndtr((typical - reach) / math.sqrt(max(variance, 1e-9))))


def _gumbel_variance(mean_score: float) -> float:
    """Of a score, where every token has the probability that makes this its mean."""

    def apart(log_probability: float) -> float:
        return expected_score(math.exp(log_probability))[0] - mean_score

    return 1.0 if apart(0.0) >= 0.0 else expected_score(math.exp(optimize.brentq(apart, -30.0, 0.0)))[1]
