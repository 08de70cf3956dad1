"""transformers' fused experts, seen as matrices.

What it is for: a mixture holds its experts in two tensors of three dimensions, which some families transpose; whoever
packs or codes them wants (out, in) matrices, one after the other. What may not enter: products, codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_HELD = frozenset({"gate_up_proj", "down_proj"})


@dataclass(frozen=True, slots=True)
class Expert:
    """One expert's matrices: gate and up, in the order in which its family gates them, and down; (out, in) each."""

    up: torch.Tensor
    down: torch.Tensor


def are_experts(module: nn.Module) -> bool:
    """Fused experts that do no more than gate, up and down."""
    return (
        hasattr(module, "_apply_gate")
        and getattr(module, "has_gate", False)
        and not getattr(module, "has_post_expert_norm", False)
        and module._parameters.keys() >= _HELD
    )


def experts_of(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The experts of all layers, by name."""
    return ((name, module) for name, module in model.named_modules() if are_experts(module))


def take_experts(module: Any) -> list[Expert]:
    """The matrices, which the module holds no longer."""
    up, down = module._parameters.pop("gate_up_proj"), module._parameters.pop("down_proj")
    if module.is_transposed:
        up, down = up.transpose(1, 2), down.transpose(1, 2)
    return [Expert(up[e], down[e]) for e in range(up.shape[0])]
