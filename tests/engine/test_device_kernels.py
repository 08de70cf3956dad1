"""The sampler's kernels go through the compiler for a real device, which needs none to be there."""

from __future__ import annotations

import os
from typing import Any

import pytest
from triton import compile as compiled
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from engine import triton_marking, triton_sampling

_HOPPER = GPUTarget("cuda", 90, 32)
_RULED = {"logits": "*fp32", "masks": "*i32", "mask_of": "*i32", "scales": "*fp32"}
_SHAPE = {"width": "i32", "words": "i32", "blocks": "i32", "BLOCK": "constexpr"}
_SURVEYED = {"peaks": "*fp32", "sums": "*fp32"}
_MARKED = {"rows": "*i32", "seeds": "*i64"}
_BLOCK, _BLOCKS = {"BLOCK": 1024}, {"BLOCK": 1024, "BLOCKS": 128}

_KERNELS: list[tuple[Any, dict[str, str], dict[str, int]]] = [
    (triton_sampling._survey, _RULED | _SURVEYED | _SHAPE, _BLOCK),
    (
        triton_sampling._draw,
        _RULED
        | {"greedy": "*i32", "noise": "*fp64"}
        | _SURVEYED
        | {"tokens": "*i64"}
        | _SHAPE
        | {"BLOCKS": "constexpr"},
        _BLOCKS,
    ),
    (triton_marking._heats, _RULED | _MARKED | {"scores": "*fp32"} | _SHAPE, _BLOCK),
    (
        triton_marking._final,
        _RULED | _MARKED | {"scores": "*fp32", "winners": "*i64"} | _SHAPE | {"BLOCKS": "constexpr"},
        _BLOCKS,
    ),
    (
        triton_marking._greens,
        _RULED
        | _MARKED
        | {"peaks": "*fp32", "floors": "*fp64", "counts": "*i32", "values": "*fp32", "tokens": "*i64"}
        | {"threshold": "i64"}
        | _SHAPE,
        _BLOCK,
    ),
]


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="nothing is compiled there")
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")  # Triton 3.9 says that 3.10 will change a default
@pytest.mark.parametrize(("kernel", "signature", "constants"), _KERNELS, ids=lambda each: getattr(each, "__name__", ""))
def test_a_kernel_compiles_for_hopper(
    kernel: Any, signature: dict[str, str], constants: dict[str, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Down to machine code, as a launch with 131,072 logits would; the types of its arguments are what we send."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    assert compiled(source, target=_HOPPER).asm["cubin"]
