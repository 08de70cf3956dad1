"""The compiled passes against numpy, over widths that do and do not fill blocks and words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine import logits as passes
from engine.truncation import scratch, truncate
from engine.typical import typical

WIDTHS = (1, 31, 32, 77, 1024, 1500, 4096)


def packed(bits: NDArray[np.bool_]) -> NDArray[np.int32]:
    """A mask row."""
    padded = np.zeros(-(-len(bits) // 32) * 32, np.bool_)
    padded[: len(bits)] = bits
    return np.packbits(padded, bitorder="little").view(np.int32)


def measured(row: NDArray[np.float32], mask: NDArray[np.int32] | None) -> tuple[float, float, NDArray[np.float32]]:
    """Raw and legal log-sum-exp, and the legal peaks."""
    blocks = passes.blocks_of(len(row))
    raw_peaks, peaks, sums = (np.empty((1, blocks), np.float32) for _ in range(3))
    raw, legal = np.empty(1), np.empty(1)
    masks = np.zeros((1, 1), np.int32) if mask is None else mask[None]
    which = np.array([-1 if mask is None else 0])
    passes.measure(row[None], masks, which, raw_peaks, peaks, sums, raw, legal)
    return float(raw[0]), float(legal[0]), peaks[0]


def reference(row: NDArray[np.float32], bits: NDArray[np.bool_]) -> float:
    """log-sum-exp in double precision."""
    return float(np.logaddexp.reduce(row[bits].astype(np.float64))) if bits.any() else -np.inf


@given(st.sampled_from(WIDTHS), st.integers(0, 2**31), st.floats(0, 1), st.floats(0.1, 40))
@settings(max_examples=80, deadline=None)
def test_raw_and_legal_sums_agree_with_double_precision(width: int, seed: int, share: float, spread: float) -> None:
    rng = np.random.default_rng(seed)
    row = (rng.standard_normal(width) * spread).astype(np.float32)
    bits = rng.random(width) < share
    raw, legal, _ = measured(row, packed(bits))
    assert raw == pytest.approx(reference(row, np.ones(width, np.bool_)), abs=2e-6, rel=1e-6)
    assert legal == pytest.approx(reference(row, bits), abs=2e-6, rel=1e-6)


def test_a_tiny_legal_mass_does_not_underflow() -> None:
    row = np.zeros(2000, np.float32)
    row[0], row[1500] = 300.0, -200.0
    bits = np.arange(2000) == 1500
    raw, legal, _ = measured(row, packed(bits))
    assert (raw, legal) == (300.0, -200.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 1030, 1999])
def test_what_is_not_finite_is_seen(bad: float, place: int) -> None:
    row = np.zeros(2000, np.float32)
    row[place] = bad
    raw, _, _ = measured(row, None)
    assert not np.isfinite(raw)


def test_a_row_of_nan_is_seen() -> None:
    raw, _, _ = measured(np.full(1100, np.nan, np.float32), None)
    assert np.isnan(raw)


def test_minus_infinity_is_a_token_of_probability_zero() -> None:
    row = np.full(1500, -np.inf, np.float32)
    row[3] = 1.0
    raw, _, peaks = measured(row, None)
    assert raw == 1.0
    assert passes.best_legal(row, np.empty(0, np.int32), peaks) == 3


@given(st.sampled_from(WIDTHS), st.integers(0, 2**31), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_the_best_legal_token_is_the_first_of_the_highest(width: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    row = rng.integers(-3, 3, width).astype(np.float32)
    bits = rng.random(width) < share
    _, _, peaks = measured(row, packed(bits))
    expected = int(np.argmax(np.where(bits, row, -np.inf))) if bits.any() else -1
    assert passes.best_legal(row, packed(bits), peaks) == expected


@given(st.sampled_from(WIDTHS), st.integers(0, 2**31), st.integers(1, 25))
@settings(max_examples=40, deadline=None)
def test_rank_is_a_stable_sort(width: int, seed: int, count: int) -> None:
    row = np.random.default_rng(seed).integers(-5, 5, width).astype(np.float32)
    count = min(count, width)
    _, _, peaks = measured(row, None)
    ids, values = passes.rank(row, peaks, count)
    expected = np.argsort(-row, kind="stable")[:count]
    assert ids.tolist() == expected.tolist()
    assert values.tolist() == row[expected].tolist()


def slow_truncate(row: NDArray[np.float64], top_k: int, top_p: float, min_p: float) -> set[int]:
    """The definitions, one after the other, over a sorted list."""
    order = sorted(range(len(row)), key=lambda token: (-row[token], token))
    order = order[:top_k] if top_k else order
    weights = np.exp(row[order] - row[order[0]])
    shares = np.cumsum(weights) / weights.sum()
    order = order[: 1 + int(np.sum(shares < top_p - 1e-12))] if top_p < 1 else order
    return {token for token in order if row[token] >= row[order[0]] + np.log(min_p)} if min_p else set(order)


@given(
    st.sampled_from(WIDTHS),
    st.integers(0, 2**31),
    st.sampled_from([0, 1, 3, 50]),
    st.sampled_from([1.0, 0.95, 0.5, 0.01]),
    st.sampled_from([0.0, 0.05, 1.0]),
    st.sampled_from([0.3, 1.0, 8.0]),
)
@settings(max_examples=120, deadline=None)
def test_truncation_keeps_what_the_definitions_keep(
    width: int, seed: int, top_k: int, top_p: float, min_p: float, scale: float
) -> None:
    row = np.random.default_rng(seed).standard_normal(width).astype(np.float32)
    _, _, peaks = measured(row, None)
    ids, values = truncate(row, np.empty(0, np.int32), scale, peaks, np.array([top_k, top_p, min_p]), scratch(width))
    expected = slow_truncate((row * np.float32(scale)).astype(np.float64), top_k, top_p, min_p)
    assert set(ids.tolist()) == expected
    assert ids.tolist() == sorted(ids.tolist())
    assert values.tolist() == (row[ids] * np.float32(scale)).tolist()


@given(st.integers(2, 60), st.integers(0, 2**31), st.sampled_from([0.2, 0.5, 0.9]))
@settings(max_examples=60, deadline=None)
def test_typical_keeps_the_tokens_nearest_to_the_entropy(width: int, seed: int, mass: float) -> None:
    row = (np.random.default_rng(seed).standard_normal(width) * 2).astype(np.float32)
    p = np.exp(row.astype(np.float64))
    p /= p.sum()
    surprise = np.abs(-np.log(p) + np.sum(p * np.log(p)))
    kept, total = set(), 0.0
    for token in np.argsort(surprise, kind="stable"):
        kept.add(int(token))
        total += p[token]
        if total >= mass:
            break
    ids, _ = typical(np.arange(width, dtype=np.int32), row, mass, np.array([0, 1.0, 0.0]))
    assert set(ids.tolist()) == kept
