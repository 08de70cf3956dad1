"""Keyed Gumbel: a race that takes no short cut with the result, and leaves the distribution alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from watermark import Key, prf, scheme
from watermark.schemes.gumbel import expected_score, race

GUMBEL = scheme("gumbel")


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**63),
    st.integers(1, 400),
    st.sampled_from([0.0, 0.5, 3.0, 15.0]),
    st.sampled_from([0.0, -1000.0, 20_000.0]),
    st.booleans(),
)
def test_the_race_finds_the_winner_of_the_full_race(
    seed: int, count: int, spread: float, offset: float, run: bool
) -> None:
    """All noises computed, then argmax: what the bounds leave out never wins."""
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(3000, size=count, replace=False)).astype(np.int32)
    if run:
        ids = np.arange(ids[0], ids[0] + count, dtype=np.int32)
    logits = (rng.normal(size=count) * spread + offset).astype(np.float32)
    logits[rng.random(count) < 0.1] = -np.inf
    logits[rng.integers(count)] = offset
    u = (prf.words(np.uint64(seed), ids).astype(np.float64) + 0.5) / 2**32
    winner, probability = race(ids, logits, np.uint64(seed))
    assert winner == np.argmax(logits - np.log(-np.log(u)))
    weights = np.exp(logits.astype(np.float64) - logits.max())
    assert probability == pytest.approx(weights[winner] / weights.sum(), rel=2e-3, abs=1e-9)


def test_over_keys_every_choice_has_the_models_own_distribution() -> None:
    """Chi-square over 20,000 keys; the row has likely, unlikely and equal candidates."""
    probabilities = np.array([0.5, 0.2, 0.1, 0.1, 0.06, 0.03, 0.01])
    ids = np.array([3, 4, 5, 8, 1000, 1001, 70000], dtype=np.int32)
    logits = np.log(probabilities).astype(np.float32)
    counts = np.zeros(len(ids))
    for number in range(20_000):
        key = Key("k", None, np.array([number, 17], dtype=np.uint64))
        counts[GUMBEL.choose(ids, logits, (1, 2), key, 0.5, greedy=False).index] += 1
    assert stats.chisquare(counts, probabilities * counts.sum()).pvalue > 1e-3


def test_over_contexts_of_one_key_it_has_too() -> None:
    """The case of one server and many texts."""
    probabilities = np.array([0.7, 0.25, 0.05])
    ids = np.arange(3, dtype=np.int32)
    logits = np.log(probabilities).astype(np.float32)
    key = Key.derive(b"one server's own secret", id="k")
    counts = np.zeros(3)
    for number in range(20_000):
        counts[GUMBEL.choose(ids, logits, (number, 5), key, 0.5, greedy=False).index] += 1
    assert stats.chisquare(counts, probabilities * counts.sum()).pvalue > 1e-3


@pytest.mark.parametrize("probability", [1.0, 0.9, 0.3, 0.01])
def test_the_promised_score_is_that_of_beta_distributed_noise(probability: float) -> None:
    """u of a token that won with probability p is U^p; s = −ln(1 − u)."""
    u = np.random.default_rng(1).random(400_000) ** probability
    scores = -np.log1p(-u)
    mean, variance = expected_score(probability)
    assert scores.mean() == pytest.approx(mean, rel=0.01)
    assert scores.var() == pytest.approx(variance, rel=0.02)


@given(st.floats(1e-9, 1.0))
def test_the_promised_score_is_what_the_polygamma_functions_say(probability: float) -> None:
    """H(1/p), and π²/6 − ψ′(1 + 1/p)."""
    mean, variance = expected_score(probability)
    assert mean == pytest.approx(special.psi(1 + 1 / probability) + np.euler_gamma, rel=1e-12)
    assert variance == pytest.approx(np.pi**2 / 6 - special.polygamma(1, 1 + 1 / probability), rel=1e-11)


def test_at_temperature_zero_the_best_candidate_is_taken_unmarked() -> None:
    """There is no noise to replace."""
    logits = np.array([1.0, 3.0, 2.0], dtype=np.float32)
    choice = GUMBEL.choose(
        np.arange(3, dtype=np.int32), logits, (1, 2), Key.derive(bytes(16), id="k"), 0.9, greedy=True
    )
    assert (choice.index, choice.marked) == (1, False)
