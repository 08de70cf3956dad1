"""SynthID's tournament (Dathathri et al. 2024, Nature 634): the draw survives `layers` rounds of keyed coin
comparisons.

Each candidate has one fair bit a layer, all from its one keyed word. The non-distortionary form with two contestants
a match needs no contestants: a round multiplies every probability by 1 + bit − (mass whose bit is 1), which leaves
the distribution as it is on average over keys. Bits of the chosen token are then 1 more often, most in the first
layers, where much is left to choose; the statistic weighs layer l by a whole number falling from 10 to 1. Under the
null the bits are fair coins, so the weighted sum has an exact distribution (`tails.log_lattice_tail`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from watermark import prf
from watermark.draw import Ids, Logits, best, inverse_cdf, within
from watermark.errors import SchemeError
from watermark.jit import compiled
from watermark.keys import Key
from watermark.schemes.base import Choice, Contexts, Draws, Scheme, Scores
from watermark.tails import Floats, log_lattice_tail, split

DROPPED = 1e-14  # a candidate that has sunk below this is dropped (and denormal numbers, which are slow, never arise)
REACH = 22.2  # candidates below e^−22.2 ≈ 2^−32 of the best are left out: less than the mass that a word can express


@compiled
def tournament(
    logits: Logits, runners: NDArray[np.int64], words: prf.Words, weights: NDArray[np.int64], uniform: float
) -> tuple[int, float, float]:
    """The index drawn after all layers; and mean and variance, over keys, of the winner's weighted bits."""
    top = np.float64(logits[best(logits)])
    live = len(runners)
    p = np.empty(live, dtype=np.float64)
    bits = words.astype(np.int64)
    place = np.arange(live)
    for j in range(live):
        p[j] = np.exp(np.float64(logits[runners[j]]) - top)
    p /= p.sum()
    mean = 0.0
    variance = 0.0
    ones = 0.0
    for j in range(live):
        ones += p[j] * np.float64(bits[j] & 1)
    for layer in range(len(weights)):
        # One pass a layer: multiply by this layer's coins, drop what is out, sum under the next layer's coins.
        squares = 0.0
        ones_next = 0.0
        kept = 0
        for j in range(live):
            squares += p[j] * p[j]
            after = p[j] * (np.float64(bits[j] & 1) + (1.0 - ones))
            if after > DROPPED:
                p[kept], bits[kept], place[kept] = after, bits[j] >> 1, place[j]
                ones_next += after * np.float64(bits[kept] & 1)
                kept += 1
        live = kept
        ones = ones_next
        # Two contestants meet different bits, unless they are the same token: the winner's bit is 1 this often.
        chance = 0.5 + 0.25 * max(0.0, 1.0 - squares)
        mean += weights[layer] * chance
        variance += weights[layer] ** 2 * chance * (1.0 - chance)
    return runners[place[inverse_cdf(p[:live], uniform)]], mean, variance


@cache
def _weights(layers: int) -> NDArray[np.int64]:
    return np.rint(np.linspace(10.0, 1.0, layers)).astype(np.int64)


@cache
def _terms(layers: int) -> Floats:
    """P(score = x) of one null score, by adding one coin after the other."""
    terms: Floats = np.ones(1)
    for weight in _weights(layers):
        coin = np.zeros(weight + 1)
        coin[0] = coin[-1] = 0.5
        terms = np.asarray(np.convolve(terms, coin), dtype=np.float64)
    return terms


@dataclass(frozen=True, slots=True)
class SynthId(Scheme):
    """The tournament with one coin a layer."""

    name = "synthid"
    domain = prf.DOMAIN_SYNTHID
    reweighs = False
    widths = (2, 4)

    layers: int = 30

    def __post_init__(self) -> None:
        if not 1 <= self.layers <= 32 or self.layers != int(self.layers):
            raise SchemeError(f"layers is a whole number from 1 to 32 (the bits of a word); got {self.layers}")
        # Parameters arrive from the wire as floats.
        object.__setattr__(self, "layers", int(self.layers))

    @property
    def weights(self) -> NDArray[np.int64]:
        """What a bit of each layer counts."""
        return _weights(self.layers)

    def window(self, *, greedy: bool) -> float:
        """What is further below is left out of the tournament."""
        return 0.0 if greedy else REACH

    def choose(
        self, ids: Ids, logits: Logits, context: Sequence[int], key: Key, uniform: float, *, greedy: bool
    ) -> Choice:
        """Draw after the tournament; at temperature 0 nothing is drawn, and the choice is unmarked."""
        if greedy:
            return Choice(int(best(logits)), marked=False)
        runners = within(logits, REACH)
        words = prf.words(self.seed(context, key), ids[runners])
        return self.as_choice(*tournament(logits, runners, words, self.weights, uniform))

    def as_choice(self, index: int, first: float, second: float = 0.0) -> Choice:
        """Mean and variance of its score."""
        return Choice(int(index), True, first, second)

    def scores(self, tokens: NDArray[np.int64], contexts: Contexts, key: Key) -> Draws:
        """The weighted bits of each token's word."""
        seeds = prf.seeds(contexts.tokens, contexts.widths, key.words, self.domain)
        words = prf.word_pairs(seeds, tokens)
        bits = (words[:, None] >> np.arange(self.layers, dtype=np.uint32)) & np.uint32(1)
        return Draws(seeds, (bits @ self.weights).astype(np.float64))

    @property
    def null_moments(self) -> tuple[float, float]:
        """Fair coins."""
        weights = self.weights
        return float(weights.sum()) / 2.0, float((weights**2).sum()) / 4.0

    def log_tails(self, totals: Floats, counts: Floats) -> Floats:
        """The exact distribution of weighted fair coins."""
        terms = _terms(self.layers)
        pairs = zip(totals, counts, strict=True)
        return np.array([log_lattice_tail(terms, round(total), round(count)) for total, count in pairs])

    def log_randomised_tail(self, total: float, count: int, uniform: float) -> float:
        """The exact distribution, its last step split."""
        terms, whole = _terms(self.layers), round(total)
        below, above = (log_lattice_tail(terms, each, count) for each in (whole, whole + 1))
        return split(below, above, uniform)

    def expected_log_tail(self, mean: float, variance: float, count: int) -> float:
        """By the normal tail at five quadrature nodes: a promise needs no exactness, and fair coins are close to
        normal.
        """
        null_mean, null_variance = self.null_moments
        nodes, weights = np.polynomial.hermite_e.hermegauss(5)
        z = (mean + nodes * np.sqrt(variance) - count * null_mean) / np.sqrt(count * null_variance)
        return float((weights * special.log_ndtr(-z)).sum() / weights.sum())

    def percentile(self, scores: Scores) -> Scores:
        """The share of null scores at or below this one."""
        below = np.cumsum(_terms(self.layers))
        return np.asarray(below[np.rint(scores).astype(np.int64)])
