"""Sixteen lanes at a time: what LLVM vector code for numba kernels is put together from.

What it is for: the inner loops of attention and matrix products (`model/vector.py`) and of the passes over logits
(`surveys.py`) are written as LLVM vectors, so that their order of operations is fixed by construction and their speed
does not hang on what a compiler makes of a loop. What may not enter: loops, what the lanes mean.

All functions build code: `builder` is llvmlite's, values are LLVM's. LLVM cuts sixteen lanes to what the machine has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba.core.cgutils
import numba.extending
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types

LANES = 16

cgutils: Any = numba.core.cgutils  # untyped
intrinsic: Any = numba.extending.intrinsic  # replaces a signature by that of the generated code

FLOAT = ir.FloatType()
INTEGER = ir.IntType(32)
VECTOR = ir.VectorType(FLOAT, LANES)
INTEGERS = ir.VectorType(INTEGER, LANES)
FLOATS = types.Array(types.float32, 1, "C")


def exp(builder: Any, x: Any) -> Any:
    """exp of x ≤ 88 within about one unit in the last place (Cephes' expf); 0 below -87.3; NaN stays NaN."""
    tiny = builder.fcmp_ordered("<", x, constant(-87.3))
    x = builder.select(tiny, constant(-87.3), x)
    # Adding 1.5 · 2^23 rounds to an integer, which then stands in the low bits; unlike a conversion, NaN does no harm.
    shifted = fma(builder, x, constant(1.4426950408889634), constant(12582912.0))
    n = builder.fsub(shifted, constant(12582912.0))
    r = fma(builder, n, constant(-0.693359375), x)
    r = fma(builder, n, constant(2.12194440e-4), r)
    p = constant(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = fma(builder, p, r, constant(c))
    y = builder.fadd(fma(builder, p, builder.fmul(r, r), r), constant(1.0))
    bits = builder.bitcast(shifted, INTEGERS)
    exponent = builder.sub(bits, ir.Constant(INTEGERS, [0x4B400000 - 127] * LANES))
    power = builder.bitcast(builder.shl(exponent, ir.Constant(INTEGERS, [23] * LANES)), VECTOR)
    return builder.select(tiny, constant(0.0), builder.fmul(y, power))


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


def store(builder: Any, data: Any, offset: Any, vector: Any) -> None:
    builder.store(vector, builder.bitcast(builder.gep(data, [offset]), VECTOR.as_pointer()), align=4)


def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), "llvm.fma.v16f32")
    return builder.call(function, [a, b, c])
