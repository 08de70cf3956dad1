"""Tails are exact, as far out as anyone looks, and promises are expectations of them."""

from math import comb, exp, fsum, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special, stats

from watermark import tails


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(0, 62), st.sampled_from([0.1, 0.25, 0.5, 0.8]))
def test_binomial_tails_equal_the_sum_of_their_terms(trials: int, successes: int, share: float) -> None:
    """By whole-number binomials."""
    terms = [comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(successes, trials + 1)]
    expected = fsum(terms)
    (got,) = tails.log_binomial_tails([successes], [trials], share)
    assert got == pytest.approx(log(expected) if expected else -np.inf, rel=1e-9, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.floats(0.01, 200.0))
def test_gamma_tails_equal_their_poisson_sum(count: int, total: float) -> None:
    """P(Gamma(n, 1) ≥ x) = P(Poisson(x) < n)."""
    term, terms = exp(-total), []
    for k in range(count):
        terms.append(term)
        term *= total / (k + 1)
    assert tails.log_gamma_tails([total], [count])[0] == pytest.approx(log(fsum(terms)), rel=1e-9, abs=1e-12)


def test_tails_stay_numbers_where_probabilities_underflow() -> None:
    """Continuous across the change of method, and right far beyond it."""
    deep = tails.log_gamma_tails([5000.0], [10])[0]
    assert deep == pytest.approx(-5000 + 9 * log(5000) - special.gammaln(10), abs=0.01)
    assert tails.log_binomial_tails([3000], [3000], 0.5)[0] == pytest.approx(3000 * log(0.5))
    around = tails.log_gamma_tails(np.linspace(690.0, 760.0, 200), np.full(200, 20.0))
    assert np.abs(np.diff(around, 2)).max() < 1e-4


@pytest.mark.parametrize(("count", "total"), [(1, 700.0), (40, 900.0), (2000, 4200.0), (60_000, 70_000.0)])
def test_deep_gamma_tails_equal_all_terms_of_their_sum(count: int, total: float) -> None:
    """Not only those near the largest."""
    k = np.arange(count)
    every = special.logsumexp(k * log(total) - total - special.gammaln(k + 1.0))
    assert every < -640
    assert tails.log_gamma_tails([total], [count])[0] == pytest.approx(every, rel=1e-11)


@pytest.mark.parametrize(
    ("successes", "trials", "share"), [(2600, 3000, 0.5), (1500, 3000, 0.25), (52_500, 100_000, 0.5), (900, 900, 0.25)]
)
def test_deep_binomial_tails_equal_all_terms_of_their_sum(successes: int, trials: int, share: float) -> None:
    """Beside shallow ones, which are found in another way."""
    k = np.arange(successes, trials + 1)
    every = special.logsumexp(stats.binom.logpmf(k, trials, share))
    deep, shallow = tails.log_binomial_tails([successes, trials * share], trials, share)
    assert deep == pytest.approx(every, rel=1e-11)
    assert shallow == pytest.approx(log(0.5), abs=0.1)


def test_no_evidence_is_certainty() -> None:
    """Nothing scored, or nothing above the least."""
    assert tails.log_gamma_tails([0.0, 3.0], [4.0, 0.0]).tolist() == [0.0, 0.0]
    assert tails.log_binomial_tails([0, 5], [4, 4], 0.5).tolist() == [0.0, -np.inf]
    assert tails.log_lattice_tail(np.array([0.5, 0.5]), 0, 4) == 0.0
    assert tails.log_lattice_tail(np.array([0.5, 0.5]), 5, 4) == -np.inf


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 6), st.data())
def test_lattice_tails_equal_brute_force(weights: list[int], count: int, data: st.DataObject) -> None:
    """Every outcome of every weighted coin, added up."""
    terms: NDArray[Any] = np.ones(1)
    for weight in weights:
        coin = np.zeros(weight + 1)
        coin[0] = coin[-1] = 0.5
        terms = np.convolve(terms, coin)
    sums: NDArray[Any] = np.ones(1)
    for _ in range(count):
        sums = np.convolve(sums, terms)
    total = data.draw(st.integers(1, sum(weights) * count))
    assert tails.log_lattice_tail(terms, total, count) == pytest.approx(log(sums[total:].sum()), rel=1e-9)


def test_lattice_tails_are_exact_where_a_plain_transform_has_lost_everything() -> None:
    """Coins: 1e-90 and beyond, against the binomial."""
    coin = np.array([0.75, 0.25])
    for successes, trials in ((10, 40), (200, 200), (390, 400), (800, 1000)):
        (expected,) = tails.log_binomial_tails([successes], [trials], 0.25)
        assert tails.log_lattice_tail(coin, successes, trials) == pytest.approx(float(expected), rel=1e-8)


def test_a_split_step_lies_between_its_ends() -> None:
    """uniform 0 leaves the strictly larger outcomes, uniform 1 includes the equal one."""
    below, above = tails.log_binomial_tails([5, 6], [10, 10], 0.5)
    assert tails.split(below, above, 0.0) == pytest.approx(above)
    assert tails.split(below, above, 1.0) == pytest.approx(below)
    assert above < tails.split(below, above, 0.3) < below


def test_the_promise_for_unmarked_text_is_that_of_a_uniform_p() -> None:
    """E[log p] = −1 for a continuous statistic; below it for a discrete one, whose p is at least as large."""
    promise = tails.expectation_over_gamma(lambda totals: tails.log_gamma_tails(totals, 50), 50.0, 50.0)
    assert promise == pytest.approx(-1.0, abs=0.03)
    counts = np.arange(51)
    exact = (stats.binom.pmf(counts, 50, 0.25) * tails.log_binomial_tails(counts, 50, 0.25)).sum()
    guess = tails.expectation_over_coins(lambda g: tails.log_binomial_tails(g, 50, 0.25), 12.5, 50 * 3 / 16, 50)
    assert guess == pytest.approx(exact, rel=1e-6)


def _over_coins(chances: NDArray[np.float64]) -> tuple[float, float]:
    """E[log p] of so many coins, by their moments and by adding one coin after the other."""
    count = len(chances)
    heads: NDArray[np.float64] = np.ones(1)
    for chance in chances:
        heads = np.convolve(heads, [1.0 - chance, chance])
    log_p = np.maximum(tails.log_binomial_tails(np.arange(count + 1), count, 0.5), -1e6)
    mean, variance = float(chances.sum()), float((chances * (1.0 - chances)).sum())
    promise = tails.expectation_over_coins(lambda g: tails.log_binomial_tails(g, count, 0.5), mean, variance, count)
    return promise, float((heads * log_p).sum())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=40))
def test_the_promise_for_any_coins_is_the_expectation(near_ties: list[int]) -> None:
    """Some choices among two near ties, some among many."""
    promise, exact = _over_coins(1.0 - 0.5 ** np.array(near_ties))
    assert promise == pytest.approx(exact, rel=1e-12 if len(near_ties) < 3 else 5e-3)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_the_promise_for_two_coins_is_exact(one: float, other: float) -> None:
    """Whatever their chances."""
    promise, exact = _over_coins(np.array([one, other]))
    assert promise == pytest.approx(exact, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("count", "chance"), [(10, 0.6), (60, 0.7), (4000, 0.6), (50, 1.0)])
def test_the_promise_for_many_coins_is_the_expectation(count: int, chance: float) -> None:
    """Also where not every count is looked at."""
    promise, exact = _over_coins(np.full(count, chance))
    assert promise == pytest.approx(exact, rel=1e-3)
