"""What a decoder layer does between its matrix products, in two compiled calls, on a CPU.

What it is for: at the rows of a decode step, making queries, keys and values, turning them, and the gate of the
feed-forward part are two dozen small operations of the modelling code, and each costs more than its arithmetic. Here
three products become one, two become one, and what lies behind each is one pass. What may not enter: products
(`linear`), norms (`norms`), dtypes other than float32.

The idea is that of `norms`: families differ in small ways, so nothing is assumed. A module of a known form is replaced
only if what takes its place asks attention for the same, and answers the same, on random rows at far apart positions.
Each element is computed alike wherever it stands, so a row's bits do not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers.models.granite.modeling_granite import GraniteAttention
from transformers.models.llama.modeling_llama import LlamaAttention
from transformers.models.mistral.modeling_mistral import MistralAttention
from transformers.models.mixtral.modeling_mixtral import MixtralAttention
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeAttention

from engine.model.attention import AttentionCall, AttentionStep
from engine.model.kernels import kernel
from engine.model.linear import PackedLinear
from engine.model.vector import gate
from engine.simd import LANES

Floats = NDArray[np.float32]

Parts = Mapping[str, tuple[str, slice]]  # a layer that is no more: the fused one, and its columns there

# Queries, keys and values straight from the hidden states, rotary embedding in halves over all of a head.
_PLAIN_ATTENTION = (
    GraniteAttention,
    LlamaAttention,
    MistralAttention,
    MixtralAttention,
    Qwen2Attention,
    Qwen2MoeAttention,
)
_POSITIONS = (0, 1, 7, 300, 20_000)


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


class FusedAttention(nn.Module):
    """Takes the place of an attention module that asked for `call` with these projections."""

    def __init__(self, module: Any, call: AttentionCall) -> None:
        super().__init__()
        self.qkv_proj, self.parts = _side_by_side(module, "qkv_proj", ("q_proj", "k_proj", "v_proj"))
        self.o_proj = module.o_proj
        self.layer_idx: int = module.layer_idx
        self._heads, self._dim = call.query.shape[1:]
        self._kv_heads = call.key.shape[1]
        self._scale, self._window = call.scale, call.window

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        *,
        paged: AttentionStep,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        """(1, T, width) to the same shape, over the paged cache; (1, T, dim) twice are cosines and sines."""
        fused, (cos, sin) = self.qkv_proj(hidden_states[0]), position_embeddings
        count = fused.shape[0]
        query = torch.empty(count, self._heads, self._dim)
        key, value = torch.empty(count, self._kv_heads, self._dim), torch.empty(count, self._kv_heads, self._dim)
        rotate(*(each.numpy() for each in (fused, cos[0], sin[0], query, key, value)))
        call = AttentionCall(self.layer_idx, query, key, value, self._scale, self._window)
        return self.o_proj(paged.attend(call).reshape(1, count, -1)), None


class GatedMlp(nn.Module):
    """Takes the place of down(silu(gate(x)) · up(x))."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.gate_up_proj, self.parts = _side_by_side(module, "gate_up_proj", ("gate_proj", "up_proj"))
        self.down_proj = module.down_proj

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(..., width) to the same shape."""
        fused = self.gate_up_proj(rows)
        width = fused.shape[-1] // 2
        out = torch.empty(*rows.shape[:-1], width)
        gated(fused.view(-1, 2 * width).numpy(), out.view(-1, width).numpy())
        answer: torch.Tensor = self.down_proj(out)
        return answer


def fuse_layers(model: nn.Module) -> int:
    """Replaces the parts that the compiled ones reproduce, before their products are packed; how many those were."""
    replaced = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            fused = _fused_attention(child) if type(child) in _PLAIN_ATTENTION else _fused_mlp(child)
            if fused is not None:
                setattr(module, name, fused)
                replaced += 1
    return replaced


def _fused_attention(module: Any) -> FusedAttention | None:
    if not _are_plain(module.q_proj, module.k_proj, module.v_proj):
        return None
    hidden = _random(len(_POSITIONS), module.q_proj.in_features)
    positions = torch.tensor([_POSITIONS])
    angles = positions[0, :, None] * 0.1 ** torch.arange(module.head_dim // 2)
    turns = torch.cat([angles, angles], dim=-1)[None]
    embeddings = turns.cos(), turns.sin()
    theirs, ours = _Recorder(), _Recorder()
    with torch.no_grad():
        expected, _ = module(
            hidden_states=hidden,
            position_embeddings=embeddings,
            position_ids=positions,
            attention_mask=None,
            paged=theirs,
        )
        call = theirs.call
        if call.softcap is not None or call.sinks is not None or call.slopes is not None:
            return None
        fused = FusedAttention(module, call)
        got, _ = fused(hidden, embeddings, paged=ours)
    same = all(_close(getattr(ours.call, name), getattr(call, name)) for name in ("query", "key", "value"))
    return fused if same and _close(got, expected) else None


def _fused_mlp(module: Any) -> GatedMlp | None:
    parts = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if not type(module).__name__.endswith("MLP") or not _are_plain(*parts) or parts[0].weight.shape[0] % LANES:  # type: ignore[union-attr]
        return None
    rows = _random(3, parts[0].in_features)  # type: ignore[union-attr]
    with torch.no_grad():
        fused = GatedMlp(module)
        return fused if _close(fused(rows), module(rows)) else None


def _are_plain(*parts: Any) -> bool:
    return all(type(part) is nn.Linear and part.weight.dtype == torch.float32 for part in parts)


def _side_by_side(module: Any, whole: str, names: Sequence[str]) -> tuple[PackedLinear, Parts]:
    layers: list[nn.Linear] = [getattr(module, name) for name in names]
    ends = list(accumulate(layer.weight.shape[0] for layer in layers))
    parts = {name: (whole, slice(*span)) for name, span in zip(names, pairwise([0, *ends]), strict=True)}
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    return PackedLinear(torch.cat([layer.weight for layer in layers]), bias), parts


def _random(count: int, width: int) -> torch.Tensor:
    return torch.randn(1, count, width, generator=torch.Generator().manual_seed(0))


def _close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Within what another order of additions makes of numbers of this size."""
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


class _Recorder:
    """An attention that remembers what it was asked for and answers with the queries."""

    def __init__(self) -> None:
        self._calls: list[AttentionCall] = []

    @property
    def call(self) -> AttentionCall:
        (call,) = self._calls
        return call

    def attend(self, call: AttentionCall) -> torch.Tensor:
        self._calls.append(call)
        return call.query
