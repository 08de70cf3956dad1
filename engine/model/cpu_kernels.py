"""Attention over the paged cache on a CPU, compiled.

The invariant: a token's result is the same bit by bit whatever else is in the batch, however its prompt was cut into
chunks and wherever its pages lie. Each (token, head) is a row with its own accumulators; rows that share keys go
through the loops of `vector` together, which treats each alike, and keys are visited in logical order, sixteen at a
time counted from the sequence's first token, so that nothing depends on the step or on the size of a page.

Layout of a page: keys (kv_heads, page_size / 16, key_dim, 16), so that sixteen keys' scores are one vertical sum over
key_dim; values (kv_heads, page_size, width), where width is value_dim rounded up to 16. They are stored in float32 or
in 16 bits (`simd.load_stored`) and widened as they are loaded. A row's own accumulators are float32 either way.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.model.kernels import kernel
from engine.model.vector import HAS_WIDE_REGISTERS, dot_tile, exponentiate, mix_tile, prepare
from engine.simd import LANES

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

TILE = 8  # rows that go through the loops together, at most

_dot1, _dot2, _dot3, _dot4, _dot8 = (dot_tile(n) for n in (1, 2, 3, 4, 8))
_mix1, _mix2, _mix3, _mix4, _mix8 = (mix_tile(n) for n in (1, 2, 3, 4, 8))


@kernel
def store(key: Any, value: Any, keys: Any, values: Any, slots: NDArray[np.int64]) -> None:
    """Writes (T, kv_heads, dim) keys and values to their slots; caches as (pages, …) above, of the same dtype."""
    page_size = values.shape[2]
    for token in range(slots.shape[0]):
        page, offset = slots[token] // page_size, slots[token] % page_size
        block, lane = offset // LANES, offset % LANES
        for head in range(key.shape[1]):
            for d in range(key.shape[2]):
                keys[page, head, block, d, lane] = key[token, head, d]
            for d in range(value.shape[2]):
                values[page, head, offset, d] = value[token, head, d]


@kernel
def attend(  # noqa: C901, PLR0913, PLR0917 - one fat call a layer: a numba call costs as much as a short sequence
    query: Floats,
    keys: Any,
    values: Any,
    query_starts: Ints,
    context_lengths: Ints,
    page_table: Ints,
    scale: float,
    window: int,
    cap: float,
    sinks: Floats,
    slopes: Floats,
    scores: Floats,
    out: Floats,
    share: int,
    shares: int,
) -> None:
    """(T, heads, key_dim) queries of a step to (T, heads, value_dim), for every `shares`-th pair of sequence and head.

    window, cap 0: none; sinks, slopes: (heads,) or empty; scores: scratch, TILE · longest context rounded up to 16.
    """
    heads, key_dim, value_dim = query.shape[1], query.shape[2], out.shape[2]
    kv_heads, width = values.shape[1], values.shape[3]
    group = heads // kv_heads
    tile = np.empty(TILE * key_dim, np.float32)
    mixed = np.empty(TILE * width, np.float32)
    totals = np.empty(TILE, np.float32)
    for s in range(context_lengths.shape[0]):
        start, stop = query_starts[s], query_starts[s + 1]
        before = context_lengths[s] - (stop - start)
        for kv_head in range(kv_heads):
            if (s * kv_heads + kv_head) % shares != share:
                continue
            row = 0
            rows = (stop - start) * group
            while row < rows:
                count = _tile_rows(rows - row)
                last_key = before + (row + count - 1) // group
                first_key = before + row // group - window + 1 if window > 0 else 0
                begin = max(first_key, 0) // LANES * LANES
                end = last_key // LANES * LANES + LANES
                for r in range(count):
                    token, head = start + (row + r) // group, kv_head * group + (row + r) % group
                    for d in range(key_dim):
                        tile[r * key_dim + d] = query[token, head, d]
                _scores(count, tile, key_dim, keys, kv_head, page_table[s], begin, end, scores)
                for r in range(count):
                    last = before + (row + r) // group
                    first = max(last - window + 1, 0) if window > 0 else 0
                    head = kv_head * group + (row + r) % group
                    slope = slopes[head] if slopes.shape[0] > 0 else np.float32(0.0)
                    at = r * (end - begin) - begin
                    top = prepare(scores, at, begin, end, first, last, np.float32(scale), np.float32(cap), slope)
                    rest = np.float32(0.0)
                    if sinks.shape[0] > 0:
                        top = max(top, sinks[head])
                        rest = np.float32(math.exp(sinks[head] - top))
                    totals[r] = exponentiate(scores, at, begin, end, top) + rest
                mixed[: count * width] = 0.0
                _mix(count, scores, begin, last_key, end - begin, values, kv_head, page_table[s], mixed)
                for r in range(count):
                    token, head = start + (row + r) // group, kv_head * group + (row + r) % group
                    for d in range(value_dim):
                        out[token, head, d] = mixed[r * width + d] / totals[r]
                row += count


@kernel
def _tile_rows(rows: int) -> int:
    if HAS_WIDE_REGISTERS and rows >= 4:
        return 8 if rows >= 8 else 4
    return min(rows, 3)


@kernel
def _scores(  # noqa: PLR0913, PLR0917
    rows: int, tile: Floats, dim: int, keys: Any, head: int, pages: Ints, begin: int, end: int, scores: Floats
) -> None:
    """Scores of keys begin … end - 1 for each row: scores[row · (end - begin) + key - begin]."""
    flat = keys.reshape(-1)
    page_size = keys.shape[2] * LANES
    page_stride, head_stride = keys.shape[1] * page_size * dim, page_size * dim
    stride = end - begin
    for key in range(begin, end, LANES):
        page, block = pages[key // page_size], key % page_size // LANES
        k0 = page * page_stride + head * head_stride + block * dim * LANES
        if rows == 8:
            _dot8(tile, 0, dim, 1, flat, k0, dim, scores, key - begin, stride, 0)
        elif rows == 4:
            _dot4(tile, 0, dim, 1, flat, k0, dim, scores, key - begin, stride, 0)
        elif rows == 3:
            _dot3(tile, 0, dim, 1, flat, k0, dim, scores, key - begin, stride, 0)
        elif rows == 2:
            _dot2(tile, 0, dim, 1, flat, k0, dim, scores, key - begin, stride, 0)
        else:
            _dot1(tile, 0, dim, 1, flat, k0, dim, scores, key - begin, stride, 0)


@kernel
def _mix(  # noqa: PLR0913, PLR0917
    rows: int,
    weights: Floats,
    begin: int,
    last: int,
    stride: int,
    values: Any,
    head: int,
    pages: Ints,
    out: Floats,
) -> None:
    """Adds the values of keys begin … last to each row of `out`.

    No further key is read, though its weight would be 0: a page may hold what a failed request left, and
    0 · NaN is NaN. The loops go through a page in the order in which it lies in memory.
    """
    flat = values.reshape(-1)
    page_size, width = values.shape[2], values.shape[3]
    page_stride, head_stride = values.shape[1] * page_size * width, page_size * width
    for key in range(begin, last + 1, LANES):
        v0 = pages[key // page_size] * page_stride + head * head_stride + key % page_size * width
        count = min(LANES, last + 1 - key)
        if rows == 8:
            _mix8(weights, key - begin, stride, count, flat, v0, width, out)
        elif rows == 4:
            _mix4(weights, key - begin, stride, count, flat, v0, width, out)
        elif rows == 3:
            _mix3(weights, key - begin, stride, count, flat, v0, width, out)
        elif rows == 2:
            _mix2(weights, key - begin, stride, count, flat, v0, width, out)
        else:
            _mix1(weights, key - begin, stride, count, flat, v0, width, out)
