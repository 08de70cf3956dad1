"""Keyed Gumbel (Aaronson 2022): the noise of the draw comes from the key, the distribution stays the model's.

The token with the largest logit + Gumbel noise is a draw from the softmax; here the noise is a keyed function of the
context and the token. Over keys each choice has exactly the model's distribution, so enum, number and string alike
keep their meaning. A chosen token's uniform u is large when the token was unlikely: the detector adds s = −ln(1 − u),
Exp(1) under the null, Gamma in sum. For a token chosen with probability p, u is distributed as Beta(1/p, 1), hence
E[s] = H(1/p), the harmonic number, and its variance π²/6 − ψ′(1 + 1/p).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watermark import prf
from watermark.draw import Ids, Logits, best
from watermark.jit import compiled
from watermark.keys import Key
from watermark.schemes.base import Choice, Contexts, Draws, Scheme, Scores
from watermark.tails import Floats, expectation_over_gamma, log_gamma_tails

_SCALE = 2.0**-32
MOST_NOISE = 22.8809  # above −ln(−ln(1 − 2⁻³³)): no 32-bit word yields more Gumbel noise
_BLOCK = 64  # candidates that are looked at together
SLACK = 1e-3  # in powers of two: more than all roundings of a bound
_CHUNK = 256
LOG2_E = 1.4426950408889634


@compiled
def noise_of(word: np.uint64) -> np.float64:
    """Gumbel noise of a 32-bit word; u = (word + ½) / 2³² is never 0 or 1."""
    return np.float64(-np.log(-np.log((np.float64(word) + 0.5) * _SCALE)))


@compiled
def race(ids: Ids, logits: Logits, seed: np.uint64) -> tuple[int, float]:
    """The index of the largest logit + noise, and that candidate's probability.

    Nearly all candidates are dropped, sixty-four at a time, by a bound of their noise that needs no logarithm. A few
    hundred are left; the result is the full race's.
    """
    words = prf.words(seed, ids)
    top = _largest(logits)
    winner = 0
    lead = -np.inf
    bar = np.float32(-np.inf)
    for start in range(0, len(ids), _BLOCK):
        stop = min(len(ids), start + _BLOCK)
        if stop - start == _BLOCK and _contenders(words[start:stop], logits[start:stop], top, bar) == 0:
            continue
        for i in range(start, stop):
            if bound(words[i], logits[i] - top) < bar:
                continue
            score = np.float64(logits[i]) + noise_of(np.uint64(words[i]))
            if score > lead or (score == lead and ids[i] < ids[winner]):
                lead, winner = score, i
                bar = np.float32((lead - np.float64(top)) * LOG2_E - 32.0 - SLACK)
    return winner, np.exp(np.float64(logits[winner]) - np.float64(top)) / _partition(logits, top)


@compiled
def bound(word: np.uint32, below: np.float32) -> np.float32:
    """No candidate wins whose bound is under (lead − top) · log2(e) − 32; `below` is its logit less the largest.

    To win, 1 − u ≤ −ln u < exp(−gap) where gap is the lead less the logit, so log2(2³² (1 − u)) < 32 − gap · log2(e).
    The left side is bounded from below: of 2³² − word the last bit is dropped (signed numbers become floats faster),
    and the bits of a float, read as a whole number, are its logarithm but for a bend of at most 0.09.
    """
    left = np.float32(np.int32((word >> np.uint32(1)) ^ np.uint32(0x7FFFFFFF))) * np.float32(2.0) + np.float32(0.5)
    rough_log2 = np.float32(np.float32(left).view(np.int32)) * np.float32(2.0**-23) - np.float32(127.0)
    return below * np.float32(LOG2_E) - rough_log2


@compiled
def _contenders(words: prf.Words, logits: Logits, top: np.float32, bar: np.float32) -> int:
    """How many of a block may still win. A count, and not a flag: this compiles to vector instructions."""
    found = np.int32(0)
    for j in range(_BLOCK):
        found += np.int32(bound(words[j], logits[j] - top) >= bar)
    return int(found)


@compiled
def _largest(logits: Logits) -> np.float32:
    """The largest logit, by lanes: no comparison waits for the one before."""
    lanes = np.full(_BLOCK, -np.inf, dtype=np.float32)
    whole = len(logits) // _BLOCK * _BLOCK
    for start in range(0, whole, _BLOCK):
        for j in range(_BLOCK):
            lanes[j] = max(lanes[j], logits[start + j])
    top = np.float32(-np.inf)
    for j in range(_BLOCK):
        top = max(top, lanes[j])
    for i in range(whole, len(logits)):
        top = max(top, logits[i])
    return top


@compiled
def _rough_exp(x: np.float32) -> np.float32:
    """e^x for x ≤ 0 to three parts in a thousand, in operations that compile to vector instructions."""
    scaled = max(np.float32(-MOST_NOISE), x) * np.float32(LOG2_E)
    whole = np.floor(scaled)
    part = scaled - whole
    power = (np.int32(whole) + np.int32(127)) << np.int32(23)
    mantissa = np.float32(1.0) + part * (np.float32(0.6565) + part * np.float32(0.3435))
    return np.float32(mantissa * np.int32(power).view(np.float32))


@compiled
def _partition(logits: Logits, top: np.float32) -> float:
    """Σ exp(logit − top): a probability that goes into the promised evidence only, so a few parts in a thousand do."""
    total = np.zeros(_CHUNK, dtype=np.float32)  # lanes of sums: small, and no sum waits for the one before
    whole = len(logits) // _CHUNK * _CHUNK
    for start in range(0, whole, _CHUNK):
        for i in range(_CHUNK):
            total[i] += _rough_exp(logits[start + i] - top)
    rest = np.float64(0.0)
    for i in range(whole, len(logits)):
        rest += np.float64(_rough_exp(logits[i] - top))
    return float(rest + total.astype(np.float64).sum())


@compiled
def expected_score(probability: float) -> tuple[float, float]:
    """Mean and variance of the score of a token that was chosen with this probability.

    ψ and ψ′ by recurrence to ten, then Stirling's series (Abramowitz and Stegun 6.3.18, 6.4.12): asked for each token,
    and scipy's take as long as the rest of what is noted of one.
    """
    x = 1.0 + 1.0 / max(probability, 1e-300)
    psi, trigamma = 0.0, 0.0
    while x < 10.0:
        psi -= 1.0 / x
        trigamma += 1.0 / (x * x)
        x += 1.0
    f = 1.0 / (x * x)
    psi += np.log(x) - 0.5 / x - f * (1 / 12 - f * (1 / 120 - f * (1 / 252 - f * (1 / 240 - f * (1 / 132)))))
    series = f * (1 / 6 - f * (1 / 30 - f * (1 / 42 - f * (1 / 30 - f * (5 / 66)))))
    return psi + np.euler_gamma, np.pi**2 / 6.0 - trigamma - (1.0 + 0.5 / x + series) / x


@dataclass(frozen=True, slots=True)
class Gumbel(Scheme):
    """Keyed Gumbel noise; no parameters."""

    name = "gumbel"
    domain = prf.DOMAIN_GUMBEL
    reweighs = False

    def window(self, *, greedy: bool) -> float:
        """The best candidate has −3.14 at worst for noise, another `MOST_NOISE` at best."""
        return 0.0 if greedy else MOST_NOISE + 3.14

    def choose(
        self,
        ids: Ids,
        logits: Logits,
        context: Sequence[int],
        key: Key,
        uniform: float,  # noqa: ARG002 - the key makes all the noise
        *,
        greedy: bool,
    ) -> Choice:
        """The winner of the keyed race; at temperature 0 there is no race, and the choice is unmarked."""
        if greedy:
            return Choice(int(best(logits)), marked=False)
        return self.as_choice(*race(ids, logits, self.seed(context, key)))

    def as_choice(self, index: int, first: float, second: float = 0.0) -> Choice:  # noqa: ARG002
        """`first`: the winner's probability."""
        return Choice(int(index), True, *expected_score(first))

    def scores(self, tokens: NDArray[np.int64], contexts: Contexts, key: Key) -> Draws:
        """s = −ln(1 − u) of each token."""
        seeds = prf.seeds(contexts.tokens, contexts.widths, key.words, self.domain)
        u = (prf.word_pairs(seeds, tokens).astype(np.float64) + 0.5) * _SCALE
        return Draws(seeds, -np.log1p(-u))

    @property
    def null_moments(self) -> tuple[float, float]:
        """Those of Exp(1)."""
        return 1.0, 1.0

    def log_tails(self, totals: Floats, counts: Floats) -> Floats:
        """Gamma(count, 1)."""
        return log_gamma_tails(totals, counts)

    def log_randomised_tail(self, total: float, count: int, uniform: float) -> float:  # noqa: ARG002
        """The statistic is continuous: nothing to split."""
        return self.log_tail(total, count)

    def expected_log_tail(self, mean: float, variance: float, count: int) -> float:
        """Averaged over a Gamma of the same moments."""
        return expectation_over_gamma(lambda totals: log_gamma_tails(totals, count), mean, variance)

    def percentile(self, scores: Scores) -> Scores:
        """u itself."""
        return -np.expm1(-scores)
