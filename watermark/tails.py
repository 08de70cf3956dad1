"""Exact tail probabilities, as natural logarithms, for the statistics of the schemes.

Normal approximations are wrong where it matters: at z = 4 and a share of 1/4 they make p too small by 3 to 14 times for
10 to 200 tokens. So binomial and Gamma tails come from the incomplete beta and gamma functions, and, where those would
underflow, from their finite sums by the largest term: p = 1e-500 is still a number.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

_DEEP = 1e-280  # below this the functions of scipy lose digits, then underflow


def log_binomial_tails(successes: ArrayLike, trials: ArrayLike, share: float) -> Floats:
    """log P(Bin(trials, share) ≥ successes), elementwise."""
    k, n = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    possible = (k > 0) & (k <= n)
    tails = special.betainc(np.where(possible, k, 1.0), np.where(possible, n - k + 1.0, 1.0), share)
    out = np.where(possible, np.log(np.maximum(tails, _DEEP)), np.where(k <= 0, 0.0, -np.inf))
    deep = possible & (tails < _DEEP)
    k, n = k[deep], n[deep]
    odds = share / (1.0 - share)
    out[deep] = _log_binomial_terms(k, n, share) + _log_falling(
        lambda step: odds * (n - k - step) / (k + step + 1.0), k
    )
    return np.asarray(out, dtype=np.float64)


def _log_falling(ratio: Callable[[int], Floats], like: Floats) -> Floats:
    """log of 1 + r₀ + r₀·r₁ + … elementwise, for ratios that fall from below 1, to rounding: a tail by its first term.

    Deep tails only: there the ratios are well below 1 (.95 for two hundred thousand draws), and a few hundred steps do.
    """
    term, total, step = np.ones_like(like), np.ones_like(like), 0
    while np.any(term > 1e-17 * total):
        term = term * np.maximum(ratio(step), 0.0)
        total += term
        step += 1
    return np.log(total)


def _log_binomial_terms(k: Floats, trials: Floats, share: float) -> Floats:
    choose = special.gammaln(trials + 1.0) - special.gammaln(k + 1.0) - special.gammaln(trials - k + 1.0)
    return np.asarray(choose + k * np.log(share) + (trials - k) * np.log1p(-share))


def log_gamma_tails(totals: ArrayLike, counts: ArrayLike) -> Floats:
    """log P(Gamma(count, 1) ≥ total), elementwise; deep down a Poisson sum, exp(−total) · Σ total^k / k! for k <
    count, from its largest term down.
    """
    total, count = np.broadcast_arrays(np.asarray(totals, dtype=np.float64), np.asarray(counts, dtype=np.float64))
    tails = np.where((count > 0) & (total > 0), special.gammaincc(np.maximum(count, 1.0), np.maximum(total, 0.0)), 1.0)
    out = np.log(np.maximum(tails, _DEEP))
    deep = tails < _DEEP
    n, x = count[deep], total[deep]
    first = (n - 1.0) * np.log(x) - x - special.gammaln(n)
    out[deep] = first + _log_falling(lambda step: (n - 1.0 - step) / x, x)
    return np.asarray(out, dtype=np.float64)


def log_lattice_tail(terms: Floats, total: int, count: int) -> float:
    """log P(sum ≥ total) for `count` independent draws of a whole number with P(x) = terms[x].

    The distribution is tilted until its mean is at `total`, raised to the count by a Fourier transform, and tilted
    back: the terms that make up the tail are then the large ones of the transform, so that rounding (1e-16 of the
    largest) does not reach the result however small it is. O(count · len(terms) · log).
    """
    most = (len(terms) - 1) * count
    if total <= 0 or count == 0:
        return 0.0
    if total > most:
        return -np.inf
    values = np.arange(len(terms), dtype=np.float64)
    tilt = _tilt_to(terms, total / count)
    log_scale = special.logsumexp(tilt * values, b=terms)
    tilted = terms * np.exp(tilt * values - log_scale)
    size = 1 << int(most + 1).bit_length()
    sums = np.maximum(np.fft.irfft(np.fft.rfft(tilted, size) ** count, size)[total : most + 1], 0.0)
    back = special.logsumexp(-tilt * np.arange(len(sums)), b=sums)
    return min(0.0, float(back + count * log_scale - tilt * total))


def _tilt_to(terms: Floats, mean: float) -> float:
    """The t ≥ 0 at which the tilted distribution, ∝ terms[x]·e^(t·x), has this mean (0 if it lies below the plain
    mean).
    """
    values = np.arange(len(terms), dtype=np.float64)
    low, high = 0.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2.0
        weights = terms * np.exp(middle * (values - values[-1]))
        low, high = (middle, high) if (weights @ values) / weights.sum() < mean else (low, middle)
    return low


def adjust(log_p: float, tries: int) -> float:
    """log of 1 − (1 − p)^tries (Šidák), accurate for tiny p."""
    if tries == 1 or log_p == -np.inf:
        return log_p
    if log_p < -30.0:  # 1 − (1 − p)^n = n·p to rounding
        return log_p + float(np.log(tries))
    return float(np.log(-np.expm1(tries * np.log1p(-min(np.exp(log_p), 1.0 - 1e-16)))))


def split(log_tail: float, log_tail_above: float, uniform: float) -> float:
    """log of P(above) + uniform · P(exactly): uniform on (0, 1) under the null for a discrete statistic too."""
    above = np.exp(log_tail_above - log_tail)  # relative to the tail: no underflow
    return float(log_tail + np.log(above + uniform * (1.0 - above)))


def expectation_over_coins(log_tails: Callable[[Floats], Floats], mean: float, variance: float, count: int) -> float:
    """E[log_tail(G)] for the heads G among `count` coins of any chances, of which mean and variance are known.

    Exact for one coin, for two and for equal ones; otherwise that of other coins with these moments (`_alike`). A
    normal shape cut at whole numbers would be off by a tenth for two coins, and texts of few near ties are the rule.
    """
    alike, chance, last = _alike(max(0.0, count - mean), variance, count)
    reach = 8 + int(8.0 * np.sqrt(max(0.0, variance)))
    low, high = max(0, int(mean) - reach), min(count, int(mean) + 1 + reach)
    # Some 100 points at most: of each few whole numbers (odd, so that there is one) the middle.
    step = 1 + 2 * ((high - low) // 200)
    points = np.arange(low, high + 1, step, dtype=np.float64)
    edges = np.append(points, points[-1] + step) - step // 2
    # Heads ≥ edge iff tails ≤ count − edge: so many among those alike, or one less where the last coin shows one too.
    tails = count - edges
    at_least = (1.0 - last) * _at_most(tails, alike, chance) + last * _at_most(tails - 1.0, alike, chance)
    weights = -np.diff(at_least)
    return float((weights * log_tails(points)).sum() / weights.sum())


def _alike(mean: float, variance: float, count: int) -> tuple[int, float, float]:
    """Coins whose tails have this mean and variance: so many of one chance, that chance, and the chance of one more.

    Given Σr and Σr² of the chances r of at most `count` coins, n = (Σr)² / Σr² equal ones would do if n were whole; its
    whole part and one smaller coin do for all.
    """
    squares = mean - variance
    if mean <= 0.0 or squares <= 0.0:
        return 0, 0.0, 0.0
    alike = max(1, min(count, int(mean * mean / squares)))
    root = np.sqrt(max(0.0, alike * ((alike + 1) * squares - mean * mean)))
    chance = min(1.0, (mean * alike + root) / (alike * (alike + 1)))
    return alike, float(chance), float(min(1.0, max(0.0, mean - alike * chance)))


def _at_most(counts: Floats, trials: int, share: float) -> Floats:
    """P(Bin(trials, share) ≤ count), elementwise, for counts below nothing and above all too."""
    inside = np.clip(counts, 0, trials)
    return np.where(counts < 0, 0.0, special.bdtr(inside, trials, share))


def expectation_over_gamma(log_tails: Callable[[Floats], Floats], mean: float, variance: float) -> float:
    """E[log_tail(S)] for S Gamma-shaped with this mean and variance: exact for unmarked text, close for marked."""
    shape, scale = mean * mean / variance, variance / mean
    quantiles = special.gammaincinv(shape, (np.arange(32) + 0.5) / 32) * scale
    return float(log_tails(quantiles).mean())
