"""SynthID's tournament: the reference formula, an untouched distribution, an honest promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from watermark import Key, prf, scheme
from watermark.schemes import Contexts
from watermark.schemes.synthid import SynthId

SYNTHID = SynthId()
KEY = Key.derive(b"a third key, known to all", id="test")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 50), st.floats(0, 1, exclude_max=True))
def test_the_tournament_is_the_published_recursion(seed: int, count: int, uniform: float) -> None:
    """p ← p·(1 + g − Σ p·g), layer by layer, in plain numpy."""
    rng = np.random.default_rng(seed)
    ids = np.arange(count, dtype=np.int32)
    logits = rng.normal(size=count).astype(np.float32)
    p = np.exp(logits.astype(np.float64) - logits.max())
    p /= p.sum()
    words = prf.words(SYNTHID.seed((seed, 3), KEY), ids)
    for layer in range(30):
        g = (words >> np.uint32(layer)) & 1
        p = p * (1 + g - (p * g).sum())
    index = SYNTHID.choose(ids, logits, (seed, 3), KEY, uniform, greedy=False).index
    cumulated = np.concatenate(([0.0], np.cumsum(p))) / p.sum()
    assert cumulated[index] - 1e-9 <= uniform <= cumulated[index + 1] + 1e-9


def test_over_keys_every_choice_has_the_models_own_distribution() -> None:
    """Chi-square over 20,000 keys and uniform numbers."""
    probabilities = np.array([0.6, 0.2, 0.1, 0.07, 0.03])
    logits = np.log(probabilities).astype(np.float32)
    ids = np.array([1, 2, 3, 50, 900], dtype=np.int32)
    rng = np.random.default_rng(4)
    counts = np.zeros(5)
    for number in range(20_000):
        key = Key("k", None, np.array([number, 23], dtype=np.uint64))
        counts[SYNTHID.choose(ids, logits, (1, 2), key, rng.random(), greedy=False).index] += 1
    assert stats.chisquare(counts, probabilities * counts.sum()).pvalue > 1e-3


def test_the_promise_is_the_average_over_keys() -> None:
    """Mean of the promised and of the shown weighted bits."""
    logits = np.log([0.5, 0.3, 0.15, 0.05]).astype(np.float32)
    ids = np.arange(4, dtype=np.int32)
    rng = np.random.default_rng(5)
    promised, tokens, contexts = [], [], []
    for number in range(4000):
        choice = SYNTHID.choose(ids, logits, (number, 9), KEY, rng.random(), greedy=False)
        promised.append(choice.expected)
        tokens.append(choice.index)
        contexts.append((number, 9))
    shown = SYNTHID.scores(np.array(tokens, dtype=np.int64), Contexts.of(contexts), KEY).scores
    assert shown.mean() == pytest.approx(np.mean(promised), abs=4 * shown.std() / 4000**0.5)
    assert shown.mean() > SYNTHID.null_moments[0] + 10


def test_at_temperature_zero_the_best_candidate_is_taken_unmarked() -> None:
    """There is no draw to play for."""
    choice = SYNTHID.choose(np.arange(2, dtype=np.int32), np.array([0, 1], np.float32), (1, 2), KEY, 0.1, greedy=True)
    assert (choice.index, choice.marked) == (1, False)


def test_fewer_layers_read_fewer_bits() -> None:
    """One layer: one fair coin of weight 10."""
    draws = scheme("synthid", layers=1.0).scores(np.arange(500, dtype=np.int64), Contexts.of([(1, 2)] * 500), KEY)
    assert set(draws.scores.tolist()) == {0.0, 10.0}
