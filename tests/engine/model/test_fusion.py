"""Compiled parts of a decoder layer stand in for transformers' own only where they say the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaMLP, apply_rotary_pos_emb

from engine.model.attention import ATTENTION_NAME, register_attention
from engine.model.fusion import FusedAttention, GatedMlp, fuse_layers
from engine.model.host_fabric import HostFabric, gated, rotate
from tests.engine.model.families import build_family


def fused_parts(family: str) -> tuple[int, int]:
    """(attention modules, feed-forward modules) of the family's tiny model that were replaced."""
    register_attention()
    model = build_family(family)
    model.config._attn_implementation = ATTENTION_NAME
    fuse_layers(model, HostFabric())
    found = [type(module) for module in model.modules()]
    return found.count(FusedAttention), found.count(GatedMlp)


@pytest.mark.parametrize(
    ("family", "parts"),
    [
        ("llama", (2, 2)),
        ("mistral", (2, 2)),
        ("qwen2_sliding", (2, 2)),
        ("mixtral", (2, 0)),  # experts are packed one by one
        ("qwen2_moe", (2, 0)),  # its shared expert is 40 wide
        ("granite", (2, 2)),
        ("qwen3", (0, 2)),  # queries and keys are normed
        ("gemma2", (0, 0)),  # scores are capped, and the gate is a gelu
        ("gpt2", (0, 0)),
    ],
)
def test_what_is_replaced_in_which_family(family: str, parts: tuple[int, int]) -> None:
    """That the replaced families give transformers' logits is `test_families`; that rows stay apart, `test_rows`."""
    assert fused_parts(family) == parts


_Mlp: Any = LlamaMLP  # untyped


class _ScaledMLP(_Mlp):  # type: ignore[misc]
    """Has the parts of a gated feed-forward module, and does something else with them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = 1.01 * super().forward(x)
        return out


def test_a_module_that_answers_otherwise_is_left_alone() -> None:
    """Its form alone does not decide."""
    model: Any = build_family("llama")
    config = model.config
    config.intermediate_size = 48
    holder = nn.ModuleDict({"plain": _Mlp(config), "scaled": _ScaledMLP(config)}).requires_grad_(False)

    assert fuse_layers(holder, HostFabric()) == 1
    assert type(holder["plain"]) is GatedMlp
    assert type(holder["scaled"]) is _ScaledMLP


def test_turning_is_transformers_rotary_embedding() -> None:
    """Queries and keys are turned, values are not."""
    rng = np.random.default_rng(0)
    fused = rng.standard_normal((5, (3 + 2 + 2) * 8), np.float32)
    angles = torch.from_numpy(np.tile(rng.standard_normal((5, 4), np.float32) * 50, 2))
    query, key, value = (np.empty((5, heads, 8), np.float32) for heads in (3, 2, 2))

    rotate(fused, angles.cos().numpy(), angles.sin().numpy(), query, key, value)

    heads = torch.from_numpy(fused).view(1, 5, 7, 8).transpose(1, 2)
    wanted = apply_rotary_pos_emb(heads[:, :3], heads[:, 3:5], angles.cos()[None], angles.sin()[None])
    for got, want in ((query, wanted[0]), (key, wanted[1]), (value, heads[:, 5:])):
        torch.testing.assert_close(torch.from_numpy(got), want[0].transpose(0, 1), atol=1e-5, rtol=1e-5)


def test_the_gate_is_silu_over_all_of_float32() -> None:
    """Far out it is 0 or the number itself; a NaN stays one."""
    gates = np.array(
        [-1e30, -200, -88.5, -20, -1, -1e-30, 0, 1e-30, 0.5, 1, 20, 88.5, 200, 1e30, np.nan, 3], np.float32
    )
    ups = np.linspace(-2, 2, 16, dtype=np.float32)
    out = np.empty((2, 16), np.float32)

    gated(np.tile(np.concatenate([gates, ups]), (2, 1)), out)

    want = nn.functional.silu(torch.from_numpy(gates).double()).numpy() * ups
    np.testing.assert_allclose(out, np.tile(want.astype(np.float32), (2, 1)), rtol=3e-6, atol=1e-7)
