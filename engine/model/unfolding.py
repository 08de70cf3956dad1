# ruff: noqa: ARG001, PLR0913, PLR0917 - numba reads the parameters of an intrinsic by name from its signature
"""Codes of eight or four bits to float32, sixteen lanes at a time, as LLVM vector code for numba kernels.

What it is for: `coded_products` unfolds a piece of a weight before it multiplies. What may not enter: rows, groups.

Trap: numba's disk cache looks at the file of the kernel, not at this one (see `vector`): who changes what is generated
here must change `coded_products` too.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types

from engine.model.vector import HAS_WIDE_REGISTERS
from engine.simd import (
    FLOATS,
    INTEGER,
    INTEGERS,
    LANES,
    VECTOR,
    cgutils,
    constant,
    data,
    intrinsic,
    load,
    splat,
    store,
)

_BYTES = ir.VectorType(ir.IntType(8), LANES)
_SHORTS = ir.VectorType(ir.IntType(16), LANES)
_HALVES = ir.VectorType(ir.HalfType(), LANES)
_CODES = types.Array(types.uint8, 1, "C")


class Kind(IntEnum):
    """What a code means."""

    INTEGER = 0  # (code - offset) · scale
    FLOAT8 = 1  # the float8_e4m3fn of these bits, times scale
    TABLE = 2  # table[code] · scale; four bits only


def unfold(kind: Kind, bits: int) -> Callable[..., None]:
    """scratch[p0 + …] = values of the codes from c0 on: `count` sixteens of eight bits, or pairs of sixteens of four.

    A byte of four-bit codes holds one lane of an input in its low half, and the same lane of the next input in its high
    half. `scales` and `offsets` hold the sixteen lanes' from s0 on, `table` sixteen numbers.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        _: Any, codes: Any, c0: Any, count: Any, scales: Any, offsets: Any, s0: Any, table: Any, scratch: Any, p0: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            c, s, o, t, p = (data(context, builder, signature, arguments, i) for i in (0, 3, 4, 6, 7))
            _, c0, count, _, _, s0, _, _, p0 = arguments
            scale = load(builder, s, s0)
            offset = load(builder, o, s0) if kind == Kind.INTEGER else None
            numbers = load(builder, t, s0.type(0)) if kind == Kind.TABLE else None

            def value(code: Any) -> Any:
                if kind == Kind.INTEGER:
                    return builder.fmul(builder.fsub(builder.uitofp(code, VECTOR), offset), scale)
                exact = _float8(builder, code) if kind == Kind.FLOAT8 else _looked_up(builder, t, numbers, code)
                return builder.fmul(exact, scale)

            with cgutils.for_range(builder, count) as loop:
                at = builder.mul(loop.index, count.type(LANES))
                code = _codes(builder, c, builder.add(c0, at))
                if bits == 8:
                    store(builder, p, builder.add(p0, at), value(code))
                else:
                    place = builder.add(p0, builder.shl(at, count.type(1)))
                    low, high = builder.and_(code, _integers(15)), builder.lshr(code, _integers(4))
                    store(builder, p, place, value(low))
                    store(builder, p, builder.add(place, count.type(LANES)), value(high))
            return context.get_dummy_value()

        numbers = [types.intp, types.intp]
        return types.void(_CODES, *numbers, FLOATS, FLOATS, types.intp, FLOATS, FLOATS, types.intp), generate

    made: Callable[..., None] = tile
    return made


def _codes(builder: Any, pointer: Any, offset: Any) -> Any:
    found = builder.load(builder.bitcast(builder.gep(pointer, [offset]), _BYTES.as_pointer()), align=1)
    return builder.zext(found, INTEGERS)


def _float8(builder: Any, code: Any) -> Any:
    """Exponent and fraction put where float16 has them are the number over 2^8, numbers below normal included."""
    magnitude = builder.shl(builder.and_(code, _integers(0x7F)), _integers(7))
    sign = builder.shl(builder.and_(code, _integers(0x80)), _integers(8))
    half = builder.bitcast(builder.trunc(builder.or_(magnitude, sign), _SHORTS), _HALVES)
    return builder.fmul(builder.fpext(half, VECTOR), constant(2.0**8))


def _looked_up(builder: Any, table: Any, numbers: Any, code: Any) -> Any:
    if HAS_WIDE_REGISTERS:
        permutation = ir.FunctionType(VECTOR, [VECTOR, INTEGERS])
        name = "llvm.x86.avx512.permvar.sf.512"
        return builder.call(cgutils.get_or_insert_function(builder.module, permutation, name), [numbers, code])
    found = splat(builder, builder.load(table))
    for lane in range(LANES):
        index = builder.extract_element(code, INTEGER(lane))
        found = builder.insert_element(found, builder.load(builder.gep(table, [index])), INTEGER(lane))
    return found


def _integers(value: int) -> Any:
    return ir.Constant(INTEGERS, [value] * LANES)
