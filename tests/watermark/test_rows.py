"""Whole rows under a mask are chosen from as the schemes choose from candidates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from watermark import Key, prf, rows, scheme
from watermark.schemes import Kgw

KEY = Key.derive(b"the rows' key", id="k")
CONTEXT = (3, 1, 4, 1)
GUMBEL, GREEN = scheme("gumbel"), Kgw()


def packed(legal: NDArray[np.bool_]) -> NDArray[np.int32]:
    bits = np.zeros(-(-len(legal) // 32) * 32, np.uint8)
    bits[: len(legal)] = legal
    return np.packbits(bits, bitorder="little").view(np.int32)


def some_row(seed: int, width: int, spread: float, share: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Logits, some of them equal, and which are legal; at least one is."""
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal(width) * spread).astype(np.float32)
    logits[rng.integers(0, width, width // 4)] = np.float32(spread)
    legal = rng.random(width) < share
    legal[rng.integers(width)] = True
    return logits, legal


ROWS = st.tuples(
    st.integers(0, 2**32),
    st.integers(1, 1200),
    st.sampled_from([0.1, 1.0, 8.0, 30.0]),
    st.sampled_from([0.01, 0.5, 1.0]),
)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.sampled_from([0.5, 1.0, 3.0]), st.booleans())
def test_the_race_is_the_scheme_s(row: tuple[int, int, float, float], scale: float, masked: bool) -> None:
    """Any width, any mask, any temperature; rows too peaked for most tokens to be looked at."""
    logits, legal = some_row(*row)
    legal |= not masked
    ids = np.flatnonzero(legal).astype(np.int32)
    wanted = GUMBEL.choose(ids, logits[ids] * np.float32(scale), CONTEXT, KEY, 0.5, greedy=False)
    mask = packed(legal) if masked else np.empty(0, np.int32)
    seed = GUMBEL.seed(CONTEXT, KEY)
    assert rows.race(logits, mask, scale, logits[ids].max(), seed) == ids[wanted.index]


@settings(max_examples=150, deadline=None)
@given(ROWS, st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([0.3, 2.0, 5.0]), st.booleans())
def test_the_near_tie_is_the_scheme_s(
    row: tuple[int, int, float, float], gamma: float, delta: float, masked: bool
) -> None:
    """The likeliest green one, or none; and as many near ties as the promise counts."""
    logits, legal = some_row(*row)
    legal |= not masked
    ids = np.flatnonzero(legal).astype(np.int32)
    green = Kgw(gamma=gamma, delta=delta)
    wanted = green.choose(ids, logits[ids], CONTEXT, KEY, 0.5, greedy=True)
    mask, seed = packed(legal) if masked else np.empty(0, np.int32), green.seed(CONTEXT, KEY)
    top = logits[ids].max()
    token, near = rows.near_tie(logits, mask, top, seed, round(gamma * 2**32), delta)
    is_green = (prf.words(seed, ids) < round(gamma * 2**32)) & (logits[ids].astype(np.float64) > float(top) - delta)
    assert token == (ids[wanted.index] if is_green.any() else -1)
    assert 1.0 - (1.0 - gamma) ** near == pytest.approx(wanted.expected)


def test_nothing_is_drawn_from_nothing() -> None:
    """A mask without a bit."""
    logits, mask = np.zeros(70, np.float32), np.zeros(3, np.int32)
    seed = GUMBEL.seed(CONTEXT, KEY)
    assert rows.race(logits, mask, 1.0, np.float32(0.0), seed) == -1
    assert rows.near_tie(logits, mask, np.float32(0.0), seed, 2**31, GREEN.delta) == (-1, 0)
