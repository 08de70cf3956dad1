# ruff: noqa: ARG001 - numba reads the parameters of an intrinsic by name from its signature
"""The inner loop over logits: greatest value and sum of exponentials, of all tokens and of the legal ones, in one read.

What it is for: `logits` calls it once a block. What may not enter: blocks, rows, what is done with the sums.

The idea: exponentials are taken relative to a guess at the maximum (the block before) while the maximum is still being
found, so that each logit is loaded once and exponentiated once for both sums. A guess that was too far off is the
caller's to notice: it then asks again with the maximum itself.

Trap: numba's disk cache looks at the file of the kernel, not at this one. Who changes what is generated here must
change `logits` too (or clear the cache), else the old code goes on running.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types

from engine.simd import (
    FLOATS,
    INTEGER,
    LANES,
    across,
    cgutils,
    constant,
    data,
    exp,
    intrinsic,
    load,
    splat,
    store,
    variable,
)

_HALF_WORD = ir.IntType(16)


def survey(*, masked: bool) -> Callable[..., None]:
    """out[0:4] = greatest, Σ exp((x − guess) · scale), and both of the legal ones, over logits first … last − 1.

    `first` and `last` are multiples of 16; bit i of mask[w] says whether logit 32·w + i is legal. Without `masked` the
    mask is not read, and out[2:4] are not written. NaNs are left out of the maximum and show in the sum.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def loop(_: Any, logits: Any, first: Any, last: Any, guess: Any, scale: Any, mask: Any, out: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x_data, bits, o = (data(context, builder, signature, arguments, i) for i in (0, 5, 6))
            _, first, last, guess, scale, _, _ = arguments

            def greater(a: Any, b: Any) -> Any:
                return builder.select(builder.fcmp_ordered(">", a, b), a, b)

            tops = [variable(builder, float("-inf")) for _ in range(1 + masked)]
            sums = [variable(builder) for _ in range(1 + masked)]
            low, factor = splat(builder, guess), splat(builder, scale)
            with cgutils.for_range_slice(builder, first, last, first.type(LANES)) as (at, _):
                x = load(builder, x_data, at)
                weight = exp(builder, builder.fmul(builder.fsub(x, low), factor))
                _add(builder, tops[0], sums[0], x, weight)
                if masked:
                    legal = _legal(builder, bits, at)
                    x = builder.select(legal, x, constant(float("-inf")))
                    _add(builder, tops[1], sums[1], x, builder.select(legal, weight, constant(0.0)))
            for index, (top, total) in enumerate(zip(tops, sums, strict=True)):
                _put(builder, o, 2 * index, across(builder, builder.load(top), greater))
                _put(builder, o, 2 * index + 1, across(builder, builder.load(total), builder.fadd))
            return context.get_dummy_value()

        words = types.Array(types.int32, 1, "C")
        return types.void(FLOATS, types.intp, types.intp, types.float32, types.float32, words, FLOATS), generate

    made: Callable[..., None] = loop
    return made


@intrinsic  # type: ignore[untyped-decorator]
def weights(_: Any, logits: Any, first: Any, last: Any, best: Any, scale: Any, out: Any) -> Any:
    """out[0 … last − first − 1] = exp((x − best) · scale) over logits first … last − 1, both multiples of 16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x_data, o = (data(context, builder, signature, arguments, i) for i in (0, 5))
        _, first, last, best, scale, _ = arguments
        top, factor = splat(builder, best), splat(builder, scale)
        with cgutils.for_range_slice(builder, first, last, first.type(LANES)) as (at, _):
            weight = exp(builder, builder.fmul(builder.fsub(load(builder, x_data, at), top), factor))
            store(builder, o, builder.sub(at, first), weight)
        return context.get_dummy_value()

    return types.void(FLOATS, types.intp, types.intp, types.float32, types.float32, FLOATS), generate


def _add(builder: Any, top: Any, total: Any, x: Any, weight: Any) -> None:
    best = builder.load(top)
    builder.store(builder.select(builder.fcmp_ordered(">", x, best), x, best), top)
    builder.store(builder.fadd(builder.load(total), weight), total)


def _legal(builder: Any, bits: Any, at: Any) -> Any:
    """Sixteen booleans: the half of a word that belongs to logits at … at + 15."""
    word = builder.load(builder.gep(bits, [builder.lshr(at, at.type(5))]))
    half = builder.lshr(word, builder.trunc(builder.and_(at, at.type(16)), INTEGER))
    return builder.bitcast(builder.trunc(half, _HALF_WORD), ir.VectorType(ir.IntType(1), LANES))


def _put(builder: Any, out: Any, index: int, value: Any) -> None:
    builder.store(value, builder.gep(out, [ir.IntType(64)(index)]))
