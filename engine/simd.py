"""Sixteen lanes at a time: what LLVM vector code for numba kernels is put together from.

What it is for: the inner loops of attention and matrix products (`model/vector.py`) and of the passes over logits
(`surveys.py`) are written as LLVM vectors, so that their order of operations is fixed by construction and their speed
does not hang on what a compiler makes of a loop. What may not enter: loops, what the lanes mean.

All functions build code: `builder` is llvmlite's, values are LLVM's. LLVM cuts sixteen lanes to what the machine has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numba.core.cgutils
import numba.extending
from llvmlite import ir
from numba.core import types

LANES = 16

cgutils: Any = numba.core.cgutils  # untyped
intrinsic: Any = numba.extending.intrinsic  # replaces a signature by that of the generated code

FLOAT = ir.FloatType()
INTEGER = ir.IntType(32)
VECTOR = ir.VectorType(FLOAT, LANES)
INTEGERS = ir.VectorType(INTEGER, LANES)
HALVES = ir.VectorType(ir.IntType(16), LANES)
_CONVERTS_HALVES = bool(llvm.get_host_cpu_features().get("f16c", False))
FLOATS = types.Array(types.float32, 1, "C")


def exp(builder: Any, x: Any) -> Any:
    """exp of x ≤ 88 to 3.6e-7, to 2e-7 for |x| ≤ 30 (Cephes' expf); at most 2e-38 below -87.3; NaN stays NaN."""
    x = builder.select(builder.fcmp_ordered("<", x, constant(-87.3)), constant(-87.3), x)
    # Adding 1.5 · 2^23 rounds to an integer, which then stands in the low bits; unlike a conversion, NaN does no harm.
    shifted = fma(builder, x, constant(1.4426950408889634), constant(12582912.0))
    n = builder.fsub(shifted, constant(12582912.0))
    r = fma(builder, n, constant(-0.6931471805599453), x)  # one rounding: ln 2 itself is off by 2e-9
    p = constant(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = fma(builder, p, r, constant(c))
    y = builder.fadd(fma(builder, p, builder.fmul(r, r), r), constant(1.0))
    power = builder.shl(builder.add(builder.bitcast(shifted, INTEGERS), _bits(127)), _bits(23))
    return builder.fmul(y, builder.bitcast(power, VECTOR))


def across(builder: Any, vector: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Combines the lanes pairwise: 8 with 8, 4 with 4, 2 with 2, 1 with 1."""
    lanes = [builder.extract_element(vector, INTEGER(i)) for i in range(LANES)]
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [combine(a, b) for a, b in zip(lanes[:half], lanes[half:], strict=True)]
    return lanes[0]


def data(context: Any, builder: Any, signature: Any, arguments: Any, index: int) -> Any:
    return context.make_array(signature.args[index])(context, builder, arguments[index]).data


def variable(builder: Any, value: float = 0.0) -> Any:
    slot = cgutils.alloca_once(builder, VECTOR)
    builder.store(constant(value), slot)
    return slot


def constant(value: float) -> Any:
    return ir.Constant(VECTOR, [value] * LANES)


def splat(builder: Any, scalar: Any) -> Any:
    type_ = ir.VectorType(scalar.type, LANES)
    first = builder.insert_element(ir.Constant(type_, ir.Undefined), scalar, INTEGER(0))
    return builder.shuffle_vector(first, ir.Constant(type_, ir.Undefined), ir.Constant(INTEGERS, [0] * LANES))


def load(builder: Any, data: Any, offset: Any) -> Any:
    return builder.load(builder.bitcast(builder.gep(data, [offset]), VECTOR.as_pointer()), align=4)


def load_stored(builder: Any, data: Any, offset: Any, stored: Any) -> Any:
    """Sixteen numbers as `load` gives them, from an array of numba type `stored`: what is narrower is widened, exactly.

    uint16: the bits of bfloat16; int16: the bits of float16 (numba has no arrays of either on a CPU).
    """
    if stored == types.float32:
        return load(builder, data, offset)
    bits = builder.load(builder.bitcast(builder.gep(data, [offset]), HALVES.as_pointer()), align=2)
    if stored == types.uint16:
        return builder.bitcast(builder.shl(builder.zext(bits, INTEGERS), _bits(16)), VECTOR)
    if stored == types.int16:
        return widened(builder, bits, natively=_CONVERTS_HALVES)
    raise TypeError(f"no arrays of {stored} are read sixteen at a time")


def widened(builder: Any, halves: Any, *, natively: bool) -> Any:
    """The bits of sixteen float16 to float32, subnormals, infinities and NaNs included.

    Natively LLVM converts; where the processor cannot, that would call a library function which nobody links. Otherwise
    exponent and fraction are put where float32 has them and multiplied by 2^112, the difference of the two biases,
    which also makes subnormals right.
    """
    if natively:
        return builder.fpext(builder.bitcast(halves, ir.VectorType(ir.HalfType(), LANES)), VECTOR)
    wide = builder.zext(halves, INTEGERS)
    sign = builder.shl(builder.and_(wide, _bits(0x8000)), _bits(16))
    magnitude = builder.shl(builder.and_(wide, _bits(0x7FFF)), _bits(13))
    number = builder.bitcast(builder.fmul(builder.bitcast(magnitude, VECTOR), constant(2.0**112)), INTEGERS)
    beyond = builder.or_(magnitude, _bits(0x7F800000))  # infinity or NaN: all bits of the exponent are set
    number = builder.select(builder.icmp_unsigned(">=", magnitude, _bits(0x0F800000)), beyond, number)
    return builder.bitcast(builder.or_(number, sign), VECTOR)


def _bits(value: int) -> Any:
    return ir.Constant(INTEGERS, [value] * LANES)


def store(builder: Any, data: Any, offset: Any, vector: Any) -> None:
    builder.store(vector, builder.bitcast(builder.gep(data, [offset]), VECTOR.as_pointer()), align=4)


def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), "llvm.fma.v16f32")
    return builder.call(function, [a, b, c])
