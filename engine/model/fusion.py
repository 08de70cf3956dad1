"""What a decoder layer does between its matrix products, in two calls instead of two dozen.

What it is for: at the rows of a decode step, making queries, keys and values, turning them, and the gate of the
feed-forward part are many small operations of the modelling code, and each costs more than its arithmetic. Here three
products become one, two become one, and what lies behind each is one pass. What may not enter: products (`linear`),
norms (`norms`), how a pass is computed (`host_fabric`, `device_fabric`).

The idea is that of `norms`: families differ in small ways, so nothing is assumed. A module of a known form is replaced
only if what takes its place asks attention for the same, and answers the same, on random rows at far apart positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Protocol

import torch
from torch import nn
from transformers.models.granite.modeling_granite import GraniteAttention
from transformers.models.llama.modeling_llama import LlamaAttention
from transformers.models.mistral.modeling_mistral import MistralAttention
from transformers.models.mixtral.modeling_mixtral import MixtralAttention
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeAttention

from engine.model.attention import AttentionCall, AttentionStep
from engine.model.quantization.coded import CodedLinear, CodedWeight, Weight, beside, fit_beside
from engine.model.replacing import replace_modules

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


# How far two ways to round may lie apart, as a share of the largest number.
_APART = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


class Fabric(Protocol):
    """How a device computes what is fused."""

    def serves(self, weight: Weight) -> bool:
        """Whether layers of such weights may be fused."""
        ...

    def serves_gates(self, width: int) -> bool:
        """Whether gates of this width may be."""
        ...

    def linear(self, weight: Weight, bias: torch.Tensor | None) -> nn.Module:
        """The product with a weight (out, in)."""
        ...

    def turned(
        self, fused: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, heads: int, kv_heads: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values side by side (T, width) to (T, heads, dim) each, the first two turned by (T, dim).

        Of each head, dimension d turns with dimension d + dim / 2.
        """
        ...

    def gated(self, fused: torch.Tensor) -> torch.Tensor:
        """Gates and values side by side (…, 2 · width) to (…, width): silu(gate) · value."""
        ...


class FusedAttention(nn.Module):
    """Takes the place of an attention module that asked for `call` with these projections."""

    def __init__(self, module: Any, call: AttentionCall, fabric: Fabric) -> None:
        super().__init__()
        self.qkv_proj, self.parts = _side_by_side(module, "qkv_proj", ("q_proj", "k_proj", "v_proj"), fabric)
        self.o_proj = module.o_proj
        self.layer_idx: int = module.layer_idx
        self._heads, self._kv_heads, self._fabric = call.query.shape[1], call.key.shape[1], fabric
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
        turned = self._fabric.turned(fused, cos[0], sin[0], self._heads, self._kv_heads)
        call = AttentionCall(self.layer_idx, *turned, self._scale, self._window)
        return self.o_proj(paged.attend(call).reshape(1, len(fused), -1)), None


class GatedMlp(nn.Module):
    """Takes the place of down(silu(gate(x)) · up(x))."""

    def __init__(self, module: Any, fabric: Fabric) -> None:
        super().__init__()
        self.gate_up_proj, self.parts = _side_by_side(module, "gate_up_proj", ("gate_proj", "up_proj"), fabric)
        self.down_proj = module.down_proj
        self._fabric = fabric

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(..., width) to the same shape."""
        answer: torch.Tensor = self.down_proj(self._fabric.gated(self.gate_up_proj(rows)))
        return answer


def fuse_layers(model: nn.Module, fabric: Fabric) -> int:
    """Replaces the parts that the fused ones reproduce, before their products are packed; how many those were."""

    def fused(module: nn.Module) -> nn.Module | None:
        return _fused_attention(module, fabric) if type(module) in _PLAIN_ATTENTION else _fused_mlp(module, fabric)

    return replace_modules(model, fused)


def _fused_attention(module: Any, fabric: Fabric) -> FusedAttention | None:
    if not _fit_together(fabric, module.q_proj, module.k_proj, module.v_proj):
        return None
    hidden = _random(len(_POSITIONS), module.q_proj)
    positions = torch.tensor([_POSITIONS])
    angles = positions[0, :, None] * 0.1 ** torch.arange(module.head_dim // 2)
    turns = torch.cat([angles, angles], dim=-1)[None]
    embeddings = turns.cos().to(hidden), turns.sin().to(hidden)
    theirs, ours = _Recorder(), _Recorder()
    with torch.no_grad():
        expected, _ = module(
            hidden_states=hidden,
            position_embeddings=embeddings,
            position_ids=positions.to(hidden.device),
            attention_mask=None,
            paged=theirs,
        )
        call = theirs.call
        if call.softcap is not None or call.sinks is not None or call.slopes is not None:
            return None
        fused = FusedAttention(module, call, fabric)
        got, _ = fused(hidden, embeddings, paged=ours)
    same = all(_close(getattr(ours.call, name), getattr(call, name)) for name in ("query", "key", "value"))
    return fused if same and _close(got, expected) else None


def _fused_mlp(module: Any, fabric: Fabric) -> GatedMlp | None:
    gate, up, down = (getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj"))
    if not type(module).__name__.endswith("MLP") or not _fit_together(fabric, gate, up):
        return None
    if not _fit_together(fabric, down) or not fabric.serves_gates(gate.weight.shape[0]):  # type: ignore[union-attr]
        return None
    rows = _random(3, gate)
    with torch.no_grad():
        fused = GatedMlp(module, fabric)
        return fused if _close(fused(rows), module(rows)) else None


def _fit_together(fabric: Fabric, *layers: Any) -> bool:
    """Can the layers be one? Quantized ones must be coded alike."""
    if not all(type(layer) in {nn.Linear, CodedLinear} and fabric.serves(layer.weight) for layer in layers):
        return False
    weights = [layer.weight for layer in layers]
    coded = [weight for weight in weights if isinstance(weight, CodedWeight)]
    return not coded or (len(coded) == len(weights) and fit_beside(coded))


def _side_by_side(module: Any, whole: str, names: Sequence[str], fabric: Fabric) -> tuple[nn.Module, Parts]:
    layers: list[Any] = [getattr(module, name) for name in names]
    ends = list(accumulate(layer.weight.shape[0] for layer in layers))
    parts = {name: (whole, slice(*span)) for name, span in zip(names, pairwise([0, *ends]), strict=True)}
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    weights = [layer.weight for layer in layers]
    weight = beside(weights) if isinstance(weights[0], CodedWeight) else torch.cat(weights).detach()
    return fabric.linear(weight, None if bias is None else bias.detach()), parts


def _random(count: int, layer: Any) -> torch.Tensor:
    """Rows for a layer, of its type and where it is."""
    weight: Weight = layer.weight
    rows = torch.randn(1, count, weight.shape[1], generator=torch.Generator().manual_seed(0))
    return rows if isinstance(weight, CodedWeight) else rows.to(weight)


def _close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Within what another order of additions makes of numbers of this size."""
    apart = _APART[theirs.dtype]
    return ours.shape == theirs.shape and torch.allclose(
        ours, theirs, rtol=10 * apart, atol=apart * float(theirs.abs().max())
    )


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
