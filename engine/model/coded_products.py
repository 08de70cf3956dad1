"""Matrix products with weights of eight or four bits on a CPU: every row the same bits, whatever stands beside it.

What it is for: `linear` uses it for quantized weights. What may not enter: torch, modules, formats of checkpoints
(`quantization` reads those into codes).

The idea: memory is read as codes, a quarter or an eighth of float32's bytes; a tile of sixteen outputs over a chunk of
inputs is unfolded into a scratch panel that stays in the nearest caches, and then it is `cpu_products`' own inner loop.
So a product is bit by bit the one with the unfolded weight, whatever the code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.model.cpu_products import BLOCK, CHUNK, block, pack
from engine.model.kernels import kernel
from engine.model.unfolding import Kind, unfold
from engine.simd import LANES

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]

_INTEGER, _FLOAT8 = int(Kind.INTEGER), int(Kind.FLOAT8)
_unfold_int8, _unfold_int4 = unfold(Kind.INTEGER, 8), unfold(Kind.INTEGER, 4)
_unfold_float8, _unfold_table4 = unfold(Kind.FLOAT8, 8), unfold(Kind.TABLE, 4)


def lay_out_codes(codes: Codes, bits: int) -> Codes:
    """(out, in) codes to (out / 16 rounded up, in, 16), or with four bits (…, in / 2 rounded up, 16), two to a byte."""
    outputs, inputs = codes.shape
    padded = np.zeros((-(-outputs // LANES) * LANES, -(-inputs // 2) * 2 if bits == 4 else inputs), np.uint8)
    padded[:outputs, :inputs] = codes
    tiles = padded.reshape(-1, LANES, padded.shape[1]).transpose(0, 2, 1)
    if bits == 4:
        tiles = tiles[:, 0::2] | tiles[:, 1::2] << 4
    return np.ascontiguousarray(tiles)


@kernel
def coded_product(  # noqa: PLR0913, PLR0917 - a weight is four arrays and three numbers
    rows: Floats,
    codes: Codes,
    scales: Floats,
    offsets: Floats,
    table: Floats,
    kind: int,
    bits: int,
    group: int,
    first: int,
    last: int,
    out: Floats,
) -> None:
    """(count, in) rows times tiles `first` … `last` - 1 of a weight, into those columns of (count, padded out).

    `codes` lie as `lay_out_codes` lays them, `scales` and `offsets` as `cpu_products.lay_out` does, `group` inputs
    have a scale in common (an even number of them where codes have four bits); `table` has sixteen numbers.
    """
    count, inputs = rows.shape
    groups = scales.shape[1]
    c, s, o, y = codes.reshape(-1), scales.reshape(-1), offsets.reshape(-1), out.reshape(-1)
    scratch = np.empty((CHUNK + 1) * LANES, np.float32)  # the last pair of an odd number of inputs is unfolded whole
    panels = np.empty(min(count, BLOCK) * inputs, np.float32)
    for top in range(0, count, BLOCK):
        bottom = min(count, top + BLOCK)
        pack(rows, top, bottom, panels)
        for at in range(0, inputs, CHUNK):
            depth = min(CHUNK, inputs - at)
            for tile in range(first, last):
                begin = at
                while begin < at + depth:
                    end = min((begin // group + 1) * group, at + depth)
                    c0 = (tile * codes.shape[1] + (begin if bits == 8 else begin // 2)) * LANES
                    s0 = (tile * groups + begin // group) * LANES
                    steps = end - begin if bits == 8 else (end - begin + 1) // 2
                    _unfold(c, c0, steps, s, o, s0, table, kind, bits, scratch, (begin - at) * LANES)
                    begin = end
                y0 = top * out.shape[1] + tile * LANES
                block(panels, inputs, at, depth, scratch, 0, y, out.shape[1], y0, bottom - top)


@kernel
def _unfold(  # noqa: PLR0913, PLR0917 - as `unfolding.unfold`
    codes: Codes,
    c0: int,
    steps: int,
    scales: Floats,
    offsets: Floats,
    s0: int,
    table: Floats,
    kind: int,
    bits: int,
    scratch: Floats,
    p0: int,
) -> None:
    if kind == _INTEGER and bits == 8:
        _unfold_int8(codes, c0, steps, scales, offsets, s0, table, scratch, p0)
    elif kind == _INTEGER:
        _unfold_int4(codes, c0, steps, scales, offsets, s0, table, scratch, p0)
    elif kind == _FLOAT8:
        _unfold_float8(codes, c0, steps, scales, offsets, s0, table, scratch, p0)
    else:
        _unfold_table4(codes, c0, steps, scales, offsets, s0, table, scratch, p0)
