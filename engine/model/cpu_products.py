"""Matrix products on a CPU, compiled: every row the same bits, whatever rows stand beside it.

What it is for: `linear` uses it for float32 weights. What may not enter: torch, modules.

The idea: a weight (out, in) lies as (out / 16, in, 16), so that sixteen outputs of a row are one vertical sum over the
inputs, which is `vector.dot_tile` again. Inputs go in chunks and rows in blocks that stay in the inner caches; chunks
are cut alike for any number of rows, so they do not change the order of a row's additions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.model.kernels import kernel
from engine.model.vector import HAS_WIDE_REGISTERS, dot_tile
from engine.simd import LANES

Floats = NDArray[np.float32]

CHUNK = 1024  # inputs
BLOCK = 64  # rows

_dot1, _dot2, _dot3, _dot4, _dot8 = (dot_tile(n) for n in (1, 2, 3, 4, 8))


def lay_out(weight: Floats) -> Floats:
    """(out, in) to (out / 16 rounded up, in, 16), padded with outputs of weight 0."""
    outputs, inputs = weight.shape
    padded = np.zeros((-(-outputs // LANES) * LANES, inputs), np.float32)
    padded[:outputs] = weight
    return np.ascontiguousarray(padded.reshape(-1, LANES, inputs).transpose(0, 2, 1))


@kernel
def product(rows: Floats, weight: Floats, bias: Floats, out: Floats) -> None:
    """(count, in) rows times a weight as `lay_out` made it, plus the bias (or empty), to (count, padded out)."""
    count, inputs = rows.shape
    w, y = weight.reshape(-1), out.reshape(-1)
    panels = np.empty(min(count, BLOCK) * inputs, np.float32)
    for top in range(0, count, BLOCK):
        bottom = min(count, top + BLOCK)
        pack(rows, top, bottom, panels)
        for at in range(0, inputs, CHUNK):
            depth = min(CHUNK, inputs - at)
            for column in range(weight.shape[0]):
                w0, y0 = (column * inputs + at) * LANES, top * out.shape[1] + column * LANES
                block(panels, inputs, at, depth, w, w0, y, out.shape[1], y0, bottom - top)
        for row in range(top, bottom):
            for column in range(bias.shape[0]):
                out[row, column] += bias[column]


@kernel
def _tile_rows(left: int) -> int:
    """How many of the rows left go through the inner loop together."""
    if HAS_WIDE_REGISTERS and left >= 4:
        return 8 if left >= 8 else 4
    return min(left, 3)


@kernel
def pack(rows: Floats, top: int, bottom: int, panels: Floats) -> None:
    """Rows that go through the inner loop together, input by input, so that it reads them as one stream.

    Eight streams a row's length apart would fall on the same few sets of the nearest cache.
    """
    inputs = rows.shape[1]
    row = top
    while row < bottom:
        count = _tile_rows(bottom - row)
        base = (row - top) * inputs
        for r in range(count):
            for d in range(inputs):
                panels[base + d * count + r] = rows[row + r, d]
        row += count


@kernel
def block(  # noqa: PLR0913, PLR0917 - the coordinates of one block in three arrays
    x: Floats,
    inputs: int,
    at: int,
    depth: int,
    w: Floats,
    w0: int,
    y: Floats,
    width: int,
    y0: int,
    rows: int,
) -> None:
    """Sixteen outputs of a block's rows, over inputs at … at + depth - 1; added to `y` unless `at` is 0."""
    row = 0
    while row < rows:
        count = _tile_rows(rows - row)
        x0, place = row * inputs + at * count, y0 + row * width
        if count == 8:
            _dot8(x, x0, 1, 8, w, w0, depth, y, place, width, at)
        elif count == 4:
            _dot4(x, x0, 1, 4, w, w0, depth, y, place, width, at)
        elif count == 3:
            _dot3(x, x0, 1, 3, w, w0, depth, y, place, width, at)
        elif count == 2:
            _dot2(x, x0, 1, 2, w, w0, depth, y, place, width, at)
        else:
            _dot1(x, x0, 1, 1, w, w0, depth, y, place, width, at)
        row += count
