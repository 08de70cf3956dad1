"""Sixteen at a time: narrow numbers, every bit pattern there is, against other conversions; exponentials."""

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


def _exp(builder: Any, data: Any, offset: Any, _: Any) -> Any:
    return simd.exp(builder, simd.load(builder, data, offset))


def test_exponentials_are_right_to_a_few_units_in_the_last_place() -> None:
    """Wherever float32 has a normal number for them; best where they matter, exact at 0."""
    x = np.linspace(-87.3, 88, 1 << 16, dtype=np.float32)
    x[:16] = 0.0
    got = _widening(_exp)(x)
    wanted = np.exp(x.astype(np.float64))
    assert (got[:16] == 1.0).all()
    off = np.abs(got / wanted - 1.0)
    assert off.max() < 3.6e-7
    assert off[np.abs(x) <= 30].max() < 2e-7


def test_exponentials_of_what_is_no_ordinary_number() -> None:
    """Far below, and -inf: next to nothing. NaN, whatever its payload, stays NaN: a broken row must be seen."""
    low = np.full(16, -np.inf, np.float32)
    low[:8] = -1e30
    assert (_widening(_exp)(low) < 2e-38).all()
    broken = np.array([0x7FC00000, 0xFFC00001, 0x7FC001FF, 0x7FFFFFFF] * 4, np.uint32).view(np.float32)
    assert np.isnan(_widening(_exp)(broken)).all()


def test_other_integers_are_no_narrow_numbers() -> None:
    """A programmer's mistake ends when the kernel is compiled."""
    with pytest.raises(TypeError, match="sixteen at a time"):
        _widening(simd.load_stored)(_ALL.astype(np.int64))
