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
from scipy import special

from watermark import prf
from watermark.draw import Ids, Logits, best, plain_draw
from watermark.jit import compiled
from watermark.keys import Key
from watermark.schemes.base import Choice, Contexts, Draws, Scheme, Scores
from watermark.tails import expectation_over_gamma, log_gamma_tail

_WORDS = np.int64(2**32)
_SCALE = 2.0**-32
_REACH = 22.8809  # above −ln(−ln(1 − 2⁻³³)): no 32-bit word yields more Gumbel noise
_LOG2_E = 1.4426950408889634


@compiled
def noise_of(word: np.uint64) -> np.float64:
    """Gumbel noise of a 32-bit word; u = (word + ½) / 2³² is never 0 or 1."""
    return np.float64(-np.log(-np.log((np.float64(word) + 0.5) * _SCALE)))


@compiled
def race(ids: Ids, logits: Logits, seed: np.uint64) -> tuple[int, float]:
    """The index of the largest logit + noise, and that candidate's probability.

    Most candidates cannot win, whatever their word (logit too low) or given it (word too small), and are dropped by two
    cheap bounds before any logarithm; the result is that of the full race.
    """
    winner = best(logits)
    top = np.float64(logits[winner])
    token = np.int64(ids[winner])
    block = prf.block_of(seed, token, 0)
    held = token >> 2
    lead = top + noise_of(prf.word_in(block, token))
    for i in range(len(ids)):
        logit = np.float64(logits[i])
        if logit + _REACH <= lead:
            continue
        token = np.int64(ids[i])
        if token >> 2 != held:
            block = prf.block_of(seed, token, 0)
            held = token >> 2
        word = prf.word_in(block, token)
        gap = lead - logit
        # To win, 1 − u ≤ −ln u < exp(−gap) ≤ 2^−⌊gap / ln 2⌋.
        if gap > 0.0 and _WORDS - np.int64(word) > (_WORDS >> np.int64(gap * _LOG2_E)) + 1:
            continue
        score = logit + noise_of(word)
        if score > lead or (score == lead and ids[i] < ids[winner]):
            lead, winner = score, i
    total = 0.0
    for i in range(len(logits)):
        distance = np.float64(logits[i]) - top
        if distance > -_REACH:
            total += np.exp(distance)
    return winner, np.exp(np.float64(logits[winner]) - top) / total


def expected_score(probability: float) -> tuple[float, float]:
    """Mean and variance of the score of a token that was chosen with this probability."""
    inverse = 1.0 + 1.0 / max(probability, 1e-300)
    return float(special.psi(inverse)) + np.euler_gamma, np.pi**2 / 6.0 - float(special.zeta(2.0, inverse))


@dataclass(frozen=True, slots=True)
class Gumbel(Scheme):
    """Keyed Gumbel noise; no parameters."""

    name = "gumbel"
    reweighs = False

    def choose(
        self, ids: Ids, logits: Logits, context: Sequence[int], key: Key, uniform: float, *, greedy: bool
    ) -> Choice:
        """The winner of the keyed race; at temperature 0 there is no race, and the choice is unmarked."""
        if greedy:
            return Choice(int(plain_draw(logits, uniform, True)), False, *self.null_moments)
        seed = prf.context_seed(np.array(context, dtype=np.int64), key.words, prf.DOMAIN_GUMBEL)
        winner, probability = race(ids, logits, np.uint64(seed))
        return Choice(int(winner), True, *expected_score(probability))

    def scores(self, tokens: NDArray[np.int64], contexts: Contexts, key: Key) -> Draws:
        """s = −ln(1 − u) of each token."""
        seeds = prf.seeds(contexts.tokens, contexts.widths, key.words, prf.DOMAIN_GUMBEL)
        u = (prf.word_pairs(seeds, tokens).astype(np.float64) + 0.5) * _SCALE
        return Draws(seeds, -np.log1p(-u))

    @property
    def null_moments(self) -> tuple[float, float]:
        """Those of Exp(1)."""
        return 1.0, 1.0

    def log_tail(self, total: float, count: int) -> float:
        """Gamma(count, 1)."""
        return log_gamma_tail(total, count)

    def log_tail_between(self, total: float, count: int, uniform: float) -> float:  # noqa: ARG002
        """The statistic is continuous: nothing to split."""
        return log_gamma_tail(total, count)

    def expected_log_tail(self, mean: float, variance: float, count: int) -> float:
        """Averaged over a Gamma of the same moments."""
        return expectation_over_gamma(lambda total: log_gamma_tail(total, count), mean, variance)

    def percentile(self, scores: Scores) -> Scores:
        """u itself."""
        return -np.expm1(-scores)
