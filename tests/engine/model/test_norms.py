"""Compiled norms stand in only where they give what the family's own norm gives."""

from __future__ import annotations

import torch
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from engine.model.norms import FusedRmsNorm, fuse_norms


def _with_norm(norm: nn.Module) -> nn.Sequential:
    nn.init.normal_(norm.weight)  # type: ignore[arg-type]
    return nn.Sequential(norm).requires_grad_(False)


def test_both_conventions_of_the_weight_are_recognized() -> None:
    """Llama multiplies by the weight, Gemma by one plus the weight; widths need not be whole vectors."""
    for kind, width in ((LlamaRMSNorm, 64), (Gemma2RMSNorm, 19)):
        model = _with_norm(kind(width))
        rows = torch.randn(2, 5, width)
        want = model(rows)
        assert fuse_norms(model) == 1
        assert isinstance(model[0], FusedRmsNorm)
        torch.testing.assert_close(model(rows), want, atol=1e-5, rtol=1e-5)


def test_a_row_has_the_same_bits_alone() -> None:
    """As everything on a CPU."""
    norm = FusedRmsNorm(torch.randn(100), 1e-6)
    rows = torch.randn(9, 100)
    whole = norm(rows)
    assert all(torch.equal(norm(rows[i : i + 1])[0], whole[i]) for i in range(9))


class StrangeRMSNorm(LlamaRMSNorm):
    """Named as one, but something else."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states * 2.0


def test_a_norm_that_computes_something_else_stays() -> None:
    """The name proves nothing."""
    model = _with_norm(StrangeRMSNorm(32))
    assert fuse_norms(model) == 0
    assert isinstance(model[0], StrangeRMSNorm)
