"""Attention over the paged cache on a CPU, compiled.

The invariant: a token's result is the same bit by bit whatever else is in the batch, however its prompt was cut into
chunks and wherever its pages lie. Each (token, head) has its own accumulators and visits keys in logical order; pages
are blocks of fixed size counted from the sequence's first token, so no grouping depends on the step.

Layout: keys (pages, kv_heads, key_dim, page_size), transposed inside the page so that the scores of a page's keys are
one vertical SIMD accumulation over key_dim; values (pages, kv_heads, page_size, value_dim).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.model.kernels import kernel

Floats = NDArray[np.float32]


@kernel
def store(key: Floats, value: Floats, key_cache: Any, value_cache: Any, slots: NDArray[np.int64]) -> None:
    """Writes (T, kv_heads, dim) keys and values to their slots."""
    page_size = value_cache.shape[2]
    for token in range(slots.shape[0]):
        page, offset = slots[token] // page_size, slots[token] % page_size
        for head in range(key.shape[1]):
            for d in range(key.shape[2]):
                key_cache[page, head, d, offset] = key[token, head, d]
            for d in range(value.shape[2]):
                value_cache[page, head, offset, d] = value[token, head, d]


@kernel
def attend(  # noqa: PLR0913, PLR0912, C901 - one fat call a layer: a numba call costs as much as a small sequence
    query: Floats,
    key_cache: Any,
    value_cache: Any,
    query_starts: NDArray[np.int32],
    context_lengths: NDArray[np.int32],
    page_table: NDArray[np.int32],
    scale: float,
    window: int,  # 0: none
    softcap: float,  # 0: none
    sinks: Floats,  # (heads,) or empty
    slopes: Floats,  # (heads,) or empty
    scores: Floats,  # scratch, at least as long as the longest context rounded up to pages
    out: Floats,
) -> None:
    heads, key_dim, value_dim = query.shape[1], query.shape[2], out.shape[2]
    page_size = value_cache.shape[2]
    group = heads // value_cache.shape[1]
    for s in range(context_lengths.shape[0]):
        for token in range(query_starts[s], query_starts[s + 1]):
            last = context_lengths[s] - (query_starts[s + 1] - token)
            first = max(0, last - window + 1) if window > 0 else 0
            for head in range(heads):
                kv_head = head // group
                top = np.float32(-np.inf)
                if sinks.shape[0] > 0:
                    top = sinks[head]
                for block in range(first // page_size, last // page_size + 1):
                    page = page_table[s, block]
                    base = block * page_size
                    for j in range(page_size):
                        scores[base + j] = 0.0
                    for d in range(key_dim):
                        x = query[token, head, d]
                        for j in range(page_size):
                            scores[base + j] += x * key_cache[page, kv_head, d, j]
                    for j in range(max(base, first), min(base + page_size, last + 1)):
                        score = scores[j] * np.float32(scale)
                        if softcap > 0.0:
                            score = np.float32(softcap) * np.float32(math.tanh(score / np.float32(softcap)))
                        if slopes.shape[0] > 0:
                            score += slopes[head] * np.float32(j - last)
                        scores[j] = score
                        top = max(top, score)
                total = np.float32(0.0)
                if sinks.shape[0] > 0:
                    total = np.float32(math.exp(sinks[head] - top))
                for d in range(value_dim):
                    out[token, head, d] = 0.0
                for j in range(first, last + 1):
                    weight = np.float32(math.exp(scores[j] - top))
                    total += weight
                    page, offset = page_table[s, j // page_size], j % page_size
                    for d in range(value_dim):
                        out[token, head, d] += weight * value_cache[page, kv_head, offset, d]
                for d in range(value_dim):
                    out[token, head, d] /= total
