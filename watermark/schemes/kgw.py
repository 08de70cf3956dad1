"""Green lists (Kirchenbauer et al. 2023, "A Watermark for Large Language Models"), restricted to near ties.

A share `gamma` of the candidates is green, by comparing each one's keyed word with gamma · 2³² (independent coins, so
that the binomial tail is exact and no permutation of the vocabulary is needed). Green candidates get `delta` on their
logit, but only those less than `delta` below the best legal one: text that the model clearly prefers is left alone,
and at temperature 0 the choice is the likeliest green near tie, or the best candidate if none is green.

`Kgw` seeds by the h tokens before (left-hash). `SelfHash` (2306.04634) pairs the candidate with each of the three
tokens before it, or with itself, and takes the pair of the least word, so that an edit next to a token need not
change its colour. `Unigram` (2306.17439) has one list for all positions: it survives any reordering and can be learnt
by who collects enough text.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watermark import prf
from watermark.draw import Ids, Logits, best, inverse_cdf, within
from watermark.errors import SchemeError
from watermark.jit import compiled
from watermark.keys import Key
from watermark.schemes.base import Choice, Contexts, Draws, Scheme, Scores
from watermark.tails import Floats, expectation_over_coins, log_binomial_tails, split

ANCHOR_STREAM, COLOUR_STREAM = 1, 2  # Philox streams of the self-hash; stream 0 is everyone's


@compiled
def _greedy_pick(logits: Logits, near: NDArray[np.int64], green: NDArray[np.bool_]) -> int:
    """argmax after the bias: any green near tie passes every red candidate."""
    winner = -1
    for j in range(len(near)):
        if green[j] and (winner < 0 or logits[near[j]] > logits[winner]):
            winner = near[j]
    return winner if winner >= 0 else best(logits)


@compiled
def _biased_pick(
    logits: Logits, near: NDArray[np.int64], green: NDArray[np.bool_], gamma: float, delta: float, uniform: float
) -> tuple[int, float]:
    """Draw from the biased softmax; and the chance, over keys, that the drawn token is green.

    A near candidate of probability p is drawn with p·a/D if green (a = e^delta), where D = 1 + (a − 1)·(green mass).
    The mean of 1/D over the other candidates' colours is taken over a two-point distribution with D's mean and
    variance: exact for two near candidates, within a percent for more.
    """
    top = np.float64(logits[best(logits)])
    weights = np.empty(len(logits), dtype=np.float64)
    total = 0.0
    for i in range(len(logits)):
        weights[i] = np.exp(np.float64(logits[i]) - top)
        total += weights[i]
    gain = np.exp(delta) - 1.0
    mass = 0.0
    squares = 0.0
    for j in range(len(near)):
        p = weights[near[j]] / total
        mass += p
        squares += p * p
    up, down = np.sqrt((1.0 - gamma) / gamma), np.sqrt(gamma / (1.0 - gamma))
    chance = 0.0
    for j in range(len(near)):
        p = weights[near[j]] / total
        middle = 1.0 + gain * (p + gamma * (mass - p))
        deviation = gain * np.sqrt(gamma * (1.0 - gamma) * max(0.0, squares - p * p))
        mean_inverse = gamma / (middle + up * deviation) + (1.0 - gamma) / max(1.0, middle - down * deviation)
        chance += gamma * p * (gain + 1.0) * mean_inverse
    middle = 1.0 + gain * gamma * mass
    deviation = gain * np.sqrt(gamma * (1.0 - gamma) * squares)
    mean_inverse = gamma / (middle + up * deviation) + (1.0 - gamma) / max(1.0, middle - down * deviation)
    chance += gamma * (1.0 - mass) * mean_inverse
    for j in range(len(near)):
        if green[j]:
            weights[near[j]] *= gain + 1.0
    return inverse_cdf(weights, uniform), min(1.0, chance)


@compiled
def _self_hash_draws(
    seeds: NDArray[np.uint64], root: np.uint64, ids: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """For each candidate: which draw it shows (its least anchor word with its id) and the word that decides its
    colour.
    """
    units = np.empty(len(ids), dtype=np.uint64)
    words = np.empty(len(ids), dtype=np.uint32)
    for i in range(len(ids)):
        token = np.uint64(ids[i])
        least = prf.word_in(prf.block_of(root, ids[i], ANCHOR_STREAM), ids[i])
        for j in range(len(seeds)):
            least = min(least, prf.word_in(prf.block_of(seeds[j], ids[i], ANCHOR_STREAM), ids[i]))
        units[i] = (np.uint64(least) << np.uint64(32)) | token
        words[i] = np.uint32(prf.philox((token, np.uint64(COLOUR_STREAM), np.uint64(least), np.uint64(0)), root)[0])
    return units, words


@compiled
def _anchor_seeds(context: NDArray[np.int64], key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One seed for each context token by itself: its distance does not count, so a deletion between leaves it alone."""
    out = np.empty(len(context), dtype=np.uint64)
    for j in range(len(context)):
        out[j] = prf.context_seed(context[j : j + 1], key, prf.DOMAIN_SELF_HASH)
    return out


@compiled
def _self_hash_scores(
    tokens: NDArray[np.int64], contexts: NDArray[np.int64], widths: NDArray[np.int64], key: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    units = np.empty(len(tokens), dtype=np.uint64)
    words = np.empty(len(tokens), dtype=np.uint32)
    root = prf.context_seed(contexts[0, :0], key, prf.DOMAIN_SELF_HASH)
    for i in range(len(tokens)):
        unit, word = _self_hash_draws(_anchor_seeds(contexts[i, : widths[i]], key), root, tokens[i : i + 1])
        units[i], words[i] = unit[0], word[0]
    return units, words


@dataclass(frozen=True, slots=True)
class Kgw(Scheme):
    """Near-tie green lists seeded by the h tokens before."""

    name = "kgw"
    domain = prf.DOMAIN_KGW
    reweighs = True
    marks_greedy = True

    gamma: float = 0.5
    delta: float = 2.0

    def __post_init__(self) -> None:
        if not 0.0 < self.gamma < 1.0:
            raise SchemeError(f"gamma is the share of green candidates, above 0 and below 1; got {self.gamma}")
        if not 0.0 < self.delta <= 10.0:
            raise SchemeError(f"delta is the bias in nats, above 0 and at most 10; got {self.delta}")

    def window(self, *, greedy: bool) -> float:
        """At temperature 0 only near ties count; a draw may take anything."""
        return self.delta if greedy else math.inf

    @property
    def _threshold(self) -> int:
        return round(self.gamma * 2**32)

    def _words(self, ids: Ids, context: Sequence[int], key: Key) -> prf.Words:
        return prf.words(self.seed(context, key), ids)

    def choose(
        self, ids: Ids, logits: Logits, context: Sequence[int], key: Key, uniform: float, *, greedy: bool
    ) -> Choice:
        """Bias the green near ties, then argmax or the inverse-CDF draw."""
        near = within(logits, self.delta)
        green = self._words(ids[near], context, key) < self._threshold
        if greedy:
            index, chance = _greedy_pick(logits, near, green), 1.0 - (1.0 - self.gamma) ** len(near)
        else:
            index, chance = _biased_pick(logits, near, green, self.gamma, self.delta, uniform)
        return self.as_choice(index, chance)

    def as_choice(self, index: int, first: float, second: float = 0.0) -> Choice:  # noqa: ARG002
        """`first`: the chance over keys that it is green."""
        return Choice(int(index), True, first, first * (1.0 - first))

    def scores(self, tokens: NDArray[np.int64], contexts: Contexts, key: Key) -> Draws:
        """1 for green, 0 for red."""
        seeds = prf.seeds(contexts.tokens, contexts.widths, key.words, self.domain)
        return Draws(seeds, self._coloured(prf.word_pairs(seeds, tokens)))

    def _coloured(self, words: NDArray[np.uint32]) -> Scores:
        return (words < self._threshold).astype(np.float64)

    @property
    def null_moments(self) -> tuple[float, float]:
        """Those of a coin of share gamma."""
        return self.gamma, self.gamma * (1.0 - self.gamma)

    def log_tails(self, totals: Floats, counts: Floats) -> Floats:
        """Binomial."""
        return log_binomial_tails(np.rint(totals), counts, self.gamma)

    def log_randomised_tail(self, total: float, count: int, uniform: float) -> float:
        """Binomial, the last step split."""
        below, above = log_binomial_tails(np.rint([total, total + 1.0]), count, self.gamma)
        return split(below, above, uniform)

    def expected_log_tail(self, mean: float, variance: float, count: int) -> float:
        """Averaged over whole numbers of greens."""
        return expectation_over_coins(
            lambda greens: log_binomial_tails(greens, count, self.gamma), mean, variance, count
        )

    def percentile(self, scores: Scores) -> Scores:
        """Green is 1, red 0."""
        return scores


@dataclass(frozen=True, slots=True)
class SelfHash(Kgw):
    """Green lists seeded by the least of the pairs (earlier token, candidate)."""

    name = "kgw-selfhash"
    domain = prf.DOMAIN_SELF_HASH
    widths = (2, 3)

    def seeds(self, context: Sequence[int], key: Key) -> tuple[np.uint64, ...]:
        """The root's, which is the candidate's own, and one of each token before it."""
        anchors = _anchor_seeds(np.array(context, dtype=np.int64), key.words)
        root = prf.context_seed(np.empty(0, dtype=np.int64), key.words, prf.DOMAIN_SELF_HASH)
        return np.uint64(root), *anchors

    def _words(self, ids: Ids, context: Sequence[int], key: Key) -> NDArray[np.uint32]:
        root, *anchors = self.seeds(context, key)
        return _self_hash_draws(np.array(anchors, dtype=np.uint64), root, ids.astype(np.int64))[1]

    def scores(self, tokens: NDArray[np.int64], contexts: Contexts, key: Key) -> Draws:
        """1 for green, 0 for red; a draw is the winning pair, which other contexts may share."""
        if not len(tokens):
            return Draws(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.float64))
        units, words = _self_hash_scores(tokens, contexts.tokens, contexts.widths, key.words)
        return Draws(units, self._coloured(words))


@dataclass(frozen=True, slots=True)
class Unigram(Kgw):
    """One green list for all positions."""

    name = "unigram"
    once_per_context = False
    widths = (0, 0)
    domain = prf.DOMAIN_UNIGRAM

    def scores(self, tokens: NDArray[np.int64], contexts: Contexts, key: Key) -> Draws:
        """1 for green, 0 for red; a token used twice shows the same draw twice."""
        return Draws(tokens.astype(np.uint64), Kgw.scores(self, tokens, contexts, key).scores)
