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
from watermark.draw import Ids, Logits, best
from watermark.jit import compiled
from watermark.keys import Key
from watermark.schemes.base import Choice, Contexts, Draws, Scheme, Scores
from watermark.tails import Floats, expectation_over_gamma, log_gamma_tails

_WORDS = np.int64(2**32)
_SCALE = 2.0**-32
_REACH = 22.8809  # above −ln(−ln(1 − 2⁻³³)): no 32-bit word yields more Gumbel noise
_CHUNK = 256
_LOG2_E = 1.4426950408889634


@compiled
def noise_of(word: np.uint64) -> np.float64:
    """Gumbel noise of a 32-bit word; u = (word + ½) / 2³² is never 0 or 1."""
    return np.float64(-np.log(-np.log((np.float64(word) + 0.5) * _SCALE)))


@compiled
def race(ids: Ids, logits: Logits, seed: np.uint64) -> tuple[int, float]:
    """The index of the largest logit + noise, and that candidate's probability.

    Nearly all candidates are dropped by comparing integers: a word is too small for the lead so far even if its logit
    were the largest, then for its own logit. A few hundred are left for logarithms; the result is the full race's.
    """
    winner = best(logits)
    top = np.float64(logits[winner])
    words = prf.words(seed, ids)
    lead = top + noise_of(np.uint64(words[winner]))
    least = _least_word(lead - top)
    for i in range(len(ids)):
        if np.int64(words[i]) < least:
            continue
        logit = np.float64(logits[i])
        if np.int64(words[i]) < _least_word(lead - logit):
            continue
        score = logit + noise_of(np.uint64(words[i]))
        if score > lead or (score == lead and ids[i] < ids[winner]):
            lead, winner = score, i
            least = _least_word(lead - top)
    return winner, np.exp(np.float64(logits[winner]) - top) / _partition(logits, np.float32(top))


@compiled
def _least_word(gap: float) -> np.int64:
    """No smaller word makes up for a logit that lies `gap` below the lead (some that are not smaller do not either).

    To win, 1 − u ≤ −ln u < exp(−gap) ≤ 2^−⌊gap / ln 2⌋; words have 32 bits, so that no gap above 32 · ln 2 is made up
    for by more than the last few of them.
    """
    return _WORDS - (_WORDS >> np.int64(min(40.0, max(0.0, gap) * _LOG2_E))) - 1


@compiled
def _rough_exp(x: np.float32) -> np.float32:
    """e^x for x ≤ 0 to three parts in a thousand, in operations that compile to vector instructions."""
    scaled = max(np.float32(-_REACH), x) * np.float32(_LOG2_E)
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


def expected_score(probability: float) -> tuple[float, float]:
    """Mean and variance of the score of a token that was chosen with this probability."""
    inverse = 1.0 + 1.0 / max(probability, 1e-300)
    return float(special.psi(inverse)) + np.euler_gamma, np.pi**2 / 6.0 - float(special.zeta(2.0, inverse))


@dataclass(frozen=True, slots=True)
class Gumbel(Scheme):
    """Keyed Gumbel noise; no parameters."""

    name = "gumbel"
    domain = prf.DOMAIN_GUMBEL
    reweighs = False

    def window(self, *, greedy: bool) -> float:
        """The best candidate has −3.14 at worst for noise, another `_REACH` at best."""
        return 0.0 if greedy else _REACH + 3.14

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
        winner, probability = race(ids, logits, self.seed(context, key))
        return Choice(int(winner), True, *expected_score(probability))

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
