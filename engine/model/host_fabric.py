"""What stands between a decoder layer's matrix products, in compiled passes over float32 rows on a CPU.

What it is for: `fusion` puts them in the place of two dozen small operations of the modelling code. What may not enter:
which modules may be replaced, other dtypes.

Each element is computed alike wherever it stands, so a row's bits do not depend on its neighbours. (Of numba's cached
code: the trap in `vector`.)
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.model.kernels import kernel
from engine.model.linear import PackedLinear
from engine.model.quantization.coded import CodedWeight, Weight
from engine.model.vector import gate
from engine.simd import LANES

Floats = NDArray[np.float32]


@kernel
def rotate(fused: Floats, cos: Floats, sin: Floats, query: Floats, key: Floats, value: Floats) -> None:
    """Rows of queries, keys and values side by side (T, width) to (T, heads, dim) each, the first two turned.

    `cos`, `sin`: (T, dim). Of each head, dimension d turns with dimension d + dim / 2.
    """
    dim = cos.shape[1]
    half = dim // 2
    for token in range(fused.shape[0]):
        at = 0
        for head in range(query.shape[1]):
            for d in range(half):
                a, b = fused[token, at + d], fused[token, at + half + d]
                query[token, head, d] = a * cos[token, d] - b * sin[token, d]
                query[token, head, half + d] = b * cos[token, half + d] + a * sin[token, half + d]
            at += dim
        for head in range(key.shape[1]):
            for d in range(half):
                a, b = fused[token, at + d], fused[token, at + half + d]
                key[token, head, d] = a * cos[token, d] - b * sin[token, d]
                key[token, head, half + d] = b * cos[token, half + d] + a * sin[token, half + d]
            at += dim
        for head in range(value.shape[1]):
            for d in range(value.shape[2]):
                value[token, head, d] = fused[token, at + d]
            at += value.shape[2]


@kernel
def gated(fused: Floats, out: Floats) -> None:
    """(T, 2 · width) rows of gates and values side by side to (T, width): silu(gate) · value; width in sixteens."""
    width = out.shape[1]
    flat, flat_out = fused.reshape(-1), out.reshape(-1)
    for token in range(out.shape[0]):
        gate(flat, 2 * token * width, (2 * token + 1) * width, width, flat_out, token * width)


class HostFabric:
    """Implements `fusion.Fabric`."""

    def serves(self, weight: Weight) -> bool:
        """As Fabric."""
        return isinstance(weight, CodedWeight) or weight.dtype == torch.float32

    def serves_gates(self, width: int) -> bool:
        """As Fabric."""
        return width % LANES == 0

    def linear(self, weight: Weight, bias: torch.Tensor | None) -> nn.Module:
        """As Fabric."""
        return PackedLinear(weight, bias)

    def turned(
        self, fused: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, heads: int, kv_heads: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As Fabric."""
        count, dim = cos.shape
        query = torch.empty(count, heads, dim)
        key, value = torch.empty(count, kv_heads, dim), torch.empty(count, kv_heads, dim)
        rotate(*(each.numpy() for each in (fused, cos, sin, query, key, value)))
        return query, key, value

    def gated(self, fused: torch.Tensor) -> torch.Tensor:
        """As Fabric."""
        width = fused.shape[-1] // 2
        out = torch.empty(*fused.shape[:-1], width)
        gated(fused.view(-1, 2 * width).numpy(), out.view(-1, width).numpy())
        return out
