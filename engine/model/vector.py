# ruff: noqa: ARG001, PLR0913, PLR0917 - numba reads the parameters of an intrinsic by name from its signature
"""Sixteen lanes at a time: the inner loops of attention and matrix products, as LLVM vector code for numba kernels.

What it is for: each function here is one inner loop whose order of operations is fixed by construction, so a row's bits
depend on nothing but the row and its keys. Left to the compiler, the same loop would keep its accumulators in memory or
need fast-math, which leaves the order open. What may not enter: pages, sequences, heads.

Trap: numba's disk cache looks at the file of the kernel, not at this one. Who changes what is generated here must
change `cpu_kernels` and `cpu_products` too (or clear the cache), else the old code goes on running.

All arrays are float32 (`keys` and `values` may be narrower, `simd.load_stored`), C-contiguous, addressed by an offset
in elements; `rows` is fixed when the code is made, and each row is computed alike for every `rows`. A lane is one key
or output (`dot_tile`, `prepare`, `exponentiate`) or one value dimension (`mix_tile`).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
from llvmlite import ir
from numba.core import types

from engine.simd import (
    FLOAT,
    FLOATS,
    INTEGER,
    INTEGERS,
    LANES,
    VECTOR,
    across,
    cgutils,
    constant,
    data,
    exp,
    fma,
    intrinsic,
    load,
    load_stored,
    splat,
    store,
    variable,
)

# Tiles of eight and four rows need 32 registers of sixteen lanes. Where there are sixteen registers of eight, three
# rows are the most that stay in them (compiled for Haswell: 90 GFLOP/s with three rows, 55 with eight).
HAS_WIDE_REGISTERS = bool(llvm.get_host_cpu_features().get("avx512f", False))
# Chunks of sixteen values that `mix_tile` carries along its keys at once, by rows: a key's values are then read in
# order (64 sequences of 192 tokens: 17 ms in place of 23, for four walks over every fourth line).
_CHUNKS = {1: 4, 2: 4, 3: 4, 4: 4, 8: 2}


def dot_tile(rows: int) -> Callable[..., None]:
    """scores[s0 + r·s_stride + lane] = Σ_d query[q0 + r·q_stride + d·d_stride] · keys[k0 + 16·d + lane], for each row.

    With `further` not 0 the sums are added to what stands in `scores`.
    Even and odd dimensions have an accumulator each, so that a single row is not bound by the latency of its additions.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        _: Any,
        query: Any,
        q0: Any,
        q_stride: Any,
        d_stride: Any,
        keys: Any,
        k0: Any,
        dim: Any,
        scores: Any,
        s0: Any,
        s_stride: Any,
        further: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            q, k, s = (data(context, builder, signature, arguments, i) for i in (0, 4, 7))
            _, q0, q_stride, d_stride, _, k0, dim, _, s0, s_stride, further = arguments
            sums = [[variable(builder) for _ in range(2)] for _ in range(rows)]
            firsts = [builder.add(q0, builder.mul(q_stride, dim.type(r))) for r in range(rows)]
            places = [builder.add(s0, builder.mul(s_stride, dim.type(r))) for r in range(rows)]
            with builder.if_then(builder.icmp_signed("!=", further, further.type(0))):
                for r in range(rows):
                    builder.store(load(builder, s, places[r]), sums[r][0])

            def accumulate(d: Any, parity: int) -> None:
                key = load_stored(builder, k, builder.add(k0, builder.mul(d, dim.type(LANES))), keys.dtype)
                step = builder.mul(d, d_stride)
                for r in range(rows):
                    x = splat(builder, builder.load(builder.gep(q, [builder.add(firsts[r], step)])))
                    sum_ = sums[r][parity]
                    builder.store(fma(builder, x, key, builder.load(sum_)), sum_)

            half = builder.lshr(dim, dim.type(1))
            with cgutils.for_range(builder, half) as loop:
                even = builder.shl(loop.index, dim.type(1))
                accumulate(even, 0)
                accumulate(builder.add(even, dim.type(1)), 1)
            with cgutils.for_range(builder, builder.and_(dim, dim.type(1))):
                accumulate(builder.sub(dim, dim.type(1)), 0)
            for r in range(rows):
                total = builder.fadd(builder.load(sums[r][0]), builder.load(sums[r][1]))
                store(builder, s, places[r], total)
            return context.get_dummy_value()

        return _void(query, q0, q_stride, d_stride, keys, k0, dim, scores, s0, s_stride, further), generate

    made: Callable[..., None] = tile
    return made


def mix_tile(rows: int) -> Callable[..., None]:
    """out[o0 + r·width + d] += Σ_j weights[w0 + r·w_stride + j] · values[v0 + j·width + d], j < count, d < width.

    `width` is a multiple of 16.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        _: Any, weights: Any, w0: Any, w_stride: Any, count: Any, values: Any, v0: Any, width: Any, out: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            w, v, o = (data(context, builder, signature, arguments, i) for i in (0, 4, 7))
            _, w0, w_stride, count, _, v0, width, _ = arguments
            group = _CHUNKS[rows] if HAS_WIDE_REGISTERS else 1
            sums = [[variable(builder) for _ in range(group)] for _ in range(rows)]

            def mixed(d: Any, chunks: int) -> None:
                """Values d … d + 16 · chunks - 1 of all rows, key by key."""
                firsts = [builder.add(builder.mul(width, width.type(r)), d) for r in range(rows)]
                places = [[builder.add(first, width.type(LANES * c)) for c in range(chunks)] for first in firsts]
                for r, c in product(range(rows), range(chunks)):
                    builder.store(load(builder, o, places[r][c]), sums[r][c])
                with cgutils.for_range(builder, count) as key:
                    at = builder.add(v0, builder.add(builder.mul(key.index, width), d))
                    value = [
                        load_stored(builder, v, builder.add(at, width.type(LANES * c)), values.dtype)
                        for c in range(chunks)
                    ]
                    for r in range(rows):
                        at = builder.add(w0, builder.add(builder.mul(w_stride, width.type(r)), key.index))
                        x = splat(builder, builder.load(builder.gep(w, [at])))
                        for c in range(chunks):
                            builder.store(fma(builder, x, value[c], builder.load(sums[r][c])), sums[r][c])
                for r, c in product(range(rows), range(chunks)):
                    store(builder, o, places[r][c], builder.load(sums[r][c]))

            stride = width.type(LANES * group)
            whole = builder.mul(builder.udiv(width, stride), stride)
            with cgutils.for_range_slice(builder, width.type(0), whole, stride) as (d, _):
                mixed(d, group)
            with cgutils.for_range_slice(builder, whole, width, width.type(LANES)) as (d, _):
                mixed(d, 1)
            return context.get_dummy_value()

        return _void(weights, w0, w_stride, count, values, v0, width, out), generate

    made: Callable[..., None] = tile
    return made


@intrinsic  # type: ignore[untyped-decorator]
def prepare(
    _: Any, scores: Any, s0: Any, begin: Any, end: Any, first: Any, last: Any, scale: Any, cap: Any, slope: Any
) -> Any:
    """Scales, caps and biases the scores of keys `begin` … `end` - 1 in place; keys outside `first` … `last` get -inf.

    Key j stands at scores[s0 + j]; begin and end are multiples of 16. Returns the greatest score. cap 0 means none.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        s = data(context, builder, signature, arguments, 0)
        _, s0, begin, end, first, last, scale, cap, slope = arguments
        best = variable(builder, float("-inf"))
        lowest, highest, factor, tilt = (
            splat(builder, x) for x in (_int32(builder, first), _int32(builder, last), scale, slope)
        )
        capped = builder.fcmp_ordered(">", cap, FLOAT(0.0))
        with cgutils.for_range_slice(builder, begin, end, begin.type(LANES)) as (j, _):
            at = builder.add(s0, j)
            x = builder.fmul(load(builder, s, at), factor)
            current = cgutils.alloca_once_value(builder, x)
            with builder.if_then(capped):
                builder.store(_soft_cap(builder, x, splat(builder, cap)), current)
            key = builder.add(splat(builder, _int32(builder, j)), ir.Constant(INTEGERS, list(range(LANES))))
            distance = builder.sitofp(builder.sub(key, highest), VECTOR)
            x = fma(builder, tilt, distance, builder.load(current))
            outside = builder.or_(builder.icmp_signed("<", key, lowest), builder.icmp_signed(">", key, highest))
            x = builder.select(outside, constant(float("-inf")), x)
            store(builder, s, at, x)
            top = builder.load(best)
            builder.store(builder.select(builder.fcmp_ordered(">", x, top), x, top), best)
        return across(builder, builder.load(best), lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))

    return types.float32(FLOATS, *[types.intp] * 5, *[types.float32] * 3), generate


@intrinsic  # type: ignore[untyped-decorator]
def exponentiate(_: Any, scores: Any, s0: Any, begin: Any, end: Any, top: Any) -> Any:
    """scores[s0 + j] = exp(scores[s0 + j] - top) for keys `begin` … `end` - 1; returns the sum, added lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        s = data(context, builder, signature, arguments, 0)
        _, s0, begin, end, top = arguments
        total = variable(builder)
        highest = splat(builder, top)
        with cgutils.for_range_slice(builder, begin, end, begin.type(LANES)) as (j, _):
            at = builder.add(s0, j)
            weight = exp(builder, builder.fsub(load(builder, s, at), highest))
            store(builder, s, at, weight)
            builder.store(builder.fadd(builder.load(total), weight), total)
        return across(builder, builder.load(total), builder.fadd)

    return types.float32(FLOATS, *[types.intp] * 3, types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def gate(_: Any, values: Any, gates: Any, ups: Any, count: Any, out: Any, at: Any) -> Any:
    """out[at + i] = silu(values[gates + i]) · values[ups + i] for i < count, a multiple of 16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v, o = (data(context, builder, signature, arguments, i) for i in (0, 4))
        _, gates, ups, count, _, at = arguments
        with cgutils.for_range_slice(builder, count.type(0), count, count.type(LANES)) as (i, _):
            x = load(builder, v, builder.add(gates, i))
            away = builder.fsub(constant(-0.0), x)
            away = builder.select(builder.fcmp_ordered(">", away, constant(88.0)), constant(88.0), away)
            sigmoid = builder.fdiv(constant(1.0), builder.fadd(constant(1.0), exp(builder, away)))
            y = builder.fmul(builder.fmul(x, sigmoid), load(builder, v, builder.add(ups, i)))
            store(builder, o, builder.add(at, i), y)
        return context.get_dummy_value()

    return _void(values, gates, ups, count, out, at), generate


def _soft_cap(builder: Any, x: Any, cap: Any) -> Any:
    """cap · tanh(x / cap), as cap · (1 - 2 / (exp(2x / cap) + 1)); beyond 40 tanh is 1 in float32."""
    double = builder.fdiv(builder.fadd(x, x), cap)
    double = builder.select(builder.fcmp_ordered(">", double, constant(40.0)), constant(40.0), double)
    e = builder.fadd(exp(builder, double), constant(1.0))
    return builder.fmul(cap, builder.fsub(constant(1.0), builder.fdiv(constant(2.0), e)))


def _void(*arguments: Any) -> Any:
    return types.void(*(types.Array(a.dtype, 1, "C") if isinstance(a, types.Array) else types.intp for a in arguments))


def _int32(builder: Any, value: Any) -> Any:
    return builder.trunc(value, INTEGER)
