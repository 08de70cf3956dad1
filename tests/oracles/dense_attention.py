"""Attention as the papers write it: one query at a time over all keys, in float64. Slow and obvious."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def dense_attention(
    query: Array,
    keys: Array,
    values: Array,
    position: int,
    *,
    scale: float,
    window: int | None = None,
    cap: float | None = None,
    sink: float | None = None,
    slope: float = 0.0,
) -> Array:
    """One head's output for the query at `position`; keys (n, key_dim), values (n, value_dim) from position 0 on."""
    scores = []
    for j in range(position + 1):
        if window is not None and j <= position - window:
            continue
        score = float(query @ keys[j]) * scale
        if cap is not None:
            score = cap * np.tanh(score / cap)
        scores.append((score + slope * (j - position), j))
    exponents = [np.exp(score) for score, _ in scores]
    total = sum(exponents) + (np.exp(sink) if sink is not None else 0.0)
    out = np.zeros(values.shape[1])
    for e, (_, j) in zip(exponents, scores, strict=True):
        out += e / total * values[j]
    return out
