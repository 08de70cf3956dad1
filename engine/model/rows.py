"""Activations on a CPU that give a row the same bits whatever rows stand beside it.

What it is for: torch computes silu, gelu and sigmoid on whole vectors in one way and on the elements left over at the
end of a thread's share in another, which may differ in the last bit. Here no element is ever left over. What may not
enter: matrix products (`linear`), norms and softmax, which torch computes row by row.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeSparseMoeBlock

_STRIDE = 64  # elements; a multiple of every vector width, and of the pairs that gated activations split a row into
_SHARED_OUT = 1 << 15  # from this many elements on torch splits the work among threads
_HOMES = frozenset({"torch.nn.modules.activation", "transformers.activations"})

Activation = Callable[[torch.Tensor], torch.Tensor]


def row_stable(function: Activation, rows: torch.Tensor) -> torch.Tensor:
    """`function` of (..., width) rows, where it treats each element, or each pair within a row, alike."""
    width = rows.shape[-1]
    if width % _STRIDE == 0 and (rows.numel() < _SHARED_OUT or torch.get_num_threads() == 1):
        return function(rows)
    flat = rows.reshape(-1, width)
    count = flat.shape[0]
    if width % _STRIDE:
        flat = nn.functional.pad(flat, (0, 0, 0, -count % _STRIDE))
    block = max(_STRIDE, (_SHARED_OUT - 1) // width // _STRIDE * _STRIDE)
    out = torch.cat([function(part) for part in torch.split(flat, block)])[:count]
    return out.view(*rows.shape[:-1], out.shape[-1])


class RowStable(nn.Module):
    """Takes the place of an activation module."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """As the inner module."""
        return row_stable(self.inner, rows)


class RowStableQwen2MoeBlock(Qwen2MoeSparseMoeBlock):
    """Its gate is a sigmoid of one element a row, outside any module."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """As Qwen2MoeSparseMoeBlock."""
        rows = hidden_states.flatten(0, 1)
        _, weights, chosen = self.gate(rows)
        shared = row_stable(torch.sigmoid, self.shared_expert_gate(rows)) * self.shared_expert(rows)
        out: torch.Tensor = self.experts(rows, chosen, weights) + shared
        return out.view_as(hidden_states)


def stabilize_activations(model: nn.Module) -> None:
    """Wraps every activation module, and the one block that computes one inline."""
    for module in list(model.modules()):
        if type(module) is Qwen2MoeSparseMoeBlock:
            module.__class__ = RowStableQwen2MoeBlock
        for name, child in list(module.named_children()):
            if type(child).__module__ in _HOMES:
                setattr(module, name, RowStable(child))
