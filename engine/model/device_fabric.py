# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# (Triton gives the kernels' arguments their types.)
# ruff: noqa: N803 - Triton names compile-time arguments in capitals
"""What stands between a decoder layer's matrix products, in Triton: rotary embedding, gates, the cache's writes.

What it is for: at the few rows of a decode step a small operation costs a launch, two microseconds even in a recorded
graph, and the modelling code has some thirty of them in a layer. `fusion` and `device_attention` put these kernels in
their place. What may not enter: which modules may be replaced, matrix products, attention.

Arithmetic is float32 whatever the dtype, rounded once at the end.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import nn

from engine.model.quantization.coded import Weight

_BLOCK = 1024


@triton.jit
def _turn(  # noqa: PLR0913, PLR0917
    fused,
    cos,
    sin,
    query,
    key,
    value,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    half: tl.constexpr = DIM // 2
    d = tl.arange(0, BLOCK)
    inside = d < half
    row = fused + token * ((HEADS + 2 * KV_HEADS) * DIM) + head * DIM
    a = tl.load(row + d, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(row + half + d, mask=inside, other=0.0).to(tl.float32)
    turns = inside & (head + 0 * d < HEADS + KV_HEADS)  # values stay as they are
    angle = token * DIM + d
    first = a * tl.load(cos + angle, mask=turns, other=1.0).to(tl.float32)
    first -= b * tl.load(sin + angle, mask=turns, other=0.0).to(tl.float32)
    second = b * tl.load(cos + angle + half, mask=turns, other=1.0).to(tl.float32)
    second += a * tl.load(sin + angle + half, mask=turns, other=0.0).to(tl.float32)
    if head < HEADS:
        out = query + (token * HEADS + head) * DIM
    elif head < HEADS + KV_HEADS:
        out = key + (token * KV_HEADS + head - HEADS) * DIM
    else:
        out = value + (token * KV_HEADS + head - HEADS - KV_HEADS) * DIM
    tl.store(out + d, first.to(query.dtype.element_ty), mask=inside)
    tl.store(out + half + d, second.to(query.dtype.element_ty), mask=inside)


@triton.jit
def _norm(rows, weight, out, width, epsilon, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * width
    at = tl.arange(0, BLOCK)
    inside = at < width
    x = tl.load(rows + row + at, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, 0) / width + epsilon)
    x *= scale * tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row + at, x.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gate(fused, out, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    opened = tl.load(fused + row * 2 * width + at, mask=inside, other=0.0).to(tl.float32)
    passed = tl.load(fused + row * 2 * width + width + at, mask=inside, other=0.0).to(tl.float32)
    answer = opened / (1.0 + tl.exp(-opened)) * passed
    tl.store(out + row * width + at, answer.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _store(  # noqa: PLR0913, PLR0917
    key,
    value,
    keys,
    values,
    slots,
    key_token,
    key_head,
    value_token,
    value_head,
    KV_HEADS: tl.constexpr,
    KEY_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place = tl.load(slots + token) * KV_HEADS + head
    d = tl.arange(0, BLOCK)
    k = tl.load(key + token * key_token + head * key_head + d, mask=d < KEY_DIM, other=0.0)
    tl.store(keys + place * KEY_DIM + d, k.to(keys.dtype.element_ty), mask=d < KEY_DIM)
    v = tl.load(value + token * value_token + head * value_head + d, mask=d < VALUE_DIM, other=0.0)
    tl.store(values + place * VALUE_DIM + d, v.to(values.dtype.element_ty), mask=d < VALUE_DIM)


def rms_norm(rows: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """(…, width) over the root of the mean square plus epsilon, times the weight; torch's own is slower at one row."""
    flat = rows.contiguous()
    out, width = torch.empty_like(flat), weight.shape[0]
    block = triton.next_power_of_2(width)
    count = flat.numel() // width
    if count:
        _norm[(count,)](flat, weight, out, width, epsilon, BLOCK=block, num_warps=min(16, max(1, block // 256)))
    return out


def store(
    key: torch.Tensor, value: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor
) -> None:
    """Writes (T, kv_heads, dim) each to slots of caches (pages, page_size, kv_heads, dim), in the caches' type."""
    key, value = (each if each.stride(-1) == 1 else each.contiguous() for each in (key, value))
    count, kv_heads, key_dim = key.shape
    value_dim = value.shape[2]
    if count:
        _store[(count, kv_heads)](
            key,
            value,
            keys,
            values,
            slots,
            *key.stride()[:2],
            *value.stride()[:2],
            KV_HEADS=kv_heads,
            KEY_DIM=key_dim,
            VALUE_DIM=value_dim,
            BLOCK=triton.next_power_of_2(max(key_dim, value_dim)),
        )


class DeviceFabric:
    """Implements `fusion.Fabric`."""

    def serves(self, weight: Weight) -> bool:
        """As Fabric."""
        if not isinstance(weight, torch.Tensor) or type(weight.data) is not torch.Tensor:  # a package's own kind
            return False
        return weight.dtype in (torch.float32, torch.bfloat16, torch.float16)

    def serves_gates(self, width: int) -> bool:
        """As Fabric."""
        return width > 0

    def linear(self, weight: Weight, bias: torch.Tensor | None) -> nn.Module:
        """As Fabric."""
        assert isinstance(weight, torch.Tensor)
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
        layer.weight = nn.Parameter(weight, requires_grad=False)
        if bias is not None:
            layer.bias = nn.Parameter(bias, requires_grad=False)
        return layer

    def turned(
        self, fused: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, heads: int, kv_heads: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As Fabric."""
        count, dim = cos.shape
        query = fused.new_empty(count, heads, dim)
        key, value = fused.new_empty(count, kv_heads, dim), fused.new_empty(count, kv_heads, dim)
        _turn[(count, heads + 2 * kv_heads)](
            fused,
            cos.contiguous(),
            sin.contiguous(),
            query,
            key,
            value,
            HEADS=heads,
            KV_HEADS=kv_heads,
            DIM=dim,
            BLOCK=triton.next_power_of_2(dim // 2),
        )
        return query, key, value

    def gated(self, fused: torch.Tensor) -> torch.Tensor:
        """As Fabric."""
        width = fused.shape[-1] // 2
        out = fused.new_empty(*fused.shape[:-1], width)
        _gate[(out.numel() // width, triton.cdiv(width, _BLOCK))](fused, out, width, BLOCK=_BLOCK)
        return out
