"""Narrow numbers, sixteen at a time, against numpy's and torch's conversions: every bit pattern there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
import torch
from numba.core import types

from engine import simd

_ALL = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)


def _widening(load: Callable[..., Any]) -> Callable[[Any], np.ndarray]:
    """A compiled function from 16-bit integers to float32; `load` makes the code of one step."""

    @simd.intrinsic  # type: ignore[untyped-decorator]
    def block(_: Any, source: Any, at: Any, out: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            s, o = (simd.data(context, builder, signature, arguments, i) for i in (0, 2))
            simd.store(builder, o, arguments[1], load(builder, s, arguments[1], source.dtype))
            return context.get_dummy_value()

        return types.void(types.Array(source.dtype, 1, "C"), types.intp, simd.FLOATS), generate

    @numba.njit
    def widen(source: Any, out: Any) -> None:
        for at in range(0, len(source), 16):
            block(source, at, out)

    def widened(source: Any) -> np.ndarray:
        out = np.empty(len(source), np.float32)
        widen(source, out)
        return out

    return widened


def _without_hardware(builder: Any, data: Any, offset: Any, _: Any) -> Any:
    pointer = builder.bitcast(builder.gep(data, [offset]), simd.HALVES.as_pointer())
    return simd.widened(builder, builder.load(pointer, align=2), natively=False)


@pytest.mark.parametrize("load", [simd.load_stored, _without_hardware])
def test_float16_is_widened_exactly(load: Callable[..., Any]) -> None:
    """Subnormals, both infinities and every NaN included, with the processor's conversion and without."""
    with np.errstate(invalid="ignore"):
        wanted = _ALL.view(np.float16).astype(np.float32)
    np.testing.assert_array_equal(_widening(load)(_ALL.view(np.int16)), wanted)


def test_bfloat16_is_widened_exactly() -> None:
    """Bit by bit what torch makes of it."""
    wanted = torch.from_numpy(_ALL.view(np.int16)).view(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(_widening(simd.load_stored)(_ALL), wanted)


def test_other_integers_are_no_narrow_numbers() -> None:
    """A programmer's mistake ends when the kernel is compiled."""
    with pytest.raises(TypeError, match="sixteen at a time"):
        _widening(simd.load_stored)(_ALL.astype(np.int64))
