"""The accelerator's path up to the device: which kernel, with which arguments."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine.model import UnsupportedModel
from engine.model.attention import AttentionCall
from engine.model.device_attention import Install, choose_kernel, flash_arguments, varlen_arguments
from engine.model.device_batch import to_device
from engine.model.executors import text_batch

_CPU = torch.device("cpu")
_ALL = Install(flash_attn=True, torch_varlen=True, triton=True)


def _call(dtype: torch.dtype = torch.bfloat16, value_dim: int = 64, **options: object) -> AttentionCall:
    query, key = torch.zeros(3, 4, 64, dtype=dtype), torch.zeros(3, 2, 64, dtype=dtype)
    value = torch.zeros(3, 2, value_dim, dtype=dtype)
    return AttentionCall(0, query, key, value, 0.125, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "page_size", "install", "kernel"),
    [
        (_call(), 256, _ALL, "flash_attn"),
        (_call(), 256, replace(_ALL, flash_attn=False), "torch_varlen"),
        (_call(), 16, _ALL, "triton"),
        (_call(torch.float32), 256, _ALL, "triton"),
        (_call(value_dim=32), 256, _ALL, "triton"),
        (_call(sinks=torch.zeros(4)), 256, _ALL, "triton"),
        (_call(softcap=30.0), 256, _ALL, "flash_attn"),
        (_call(softcap=30.0), 256, replace(_ALL, flash_attn=False), "triton"),
        (_call(slopes=torch.zeros(4)), 256, replace(_ALL, flash_attn=False), "triton"),
    ],
)
def test_the_kernel_is_chosen_by_what_the_layer_asks_for(
    call: AttentionCall, page_size: int, install: Install, kernel: str
) -> None:
    """Flash kernels where they are exact for the layer, Triton elsewhere."""
    assert choose_kernel(call, page_size, install) == kernel


def test_a_cache_of_another_type_goes_to_triton() -> None:
    """The flash kernels read keys and values in the queries' own type."""
    assert choose_kernel(_call(), 256, _ALL, torch.bfloat16) == "flash_attn"
    assert choose_kernel(_call(), 256, _ALL, torch.float8_e4m3fn) == "triton"


def test_no_kernel_at_all_is_a_refusal() -> None:
    """The message names the extra to install."""
    with pytest.raises(UnsupportedModel, match="triton"):
        choose_kernel(_call(torch.float32), 16, Install(flash_attn=True, torch_varlen=True, triton=False))


def test_flash_kernels_get_windows_lengths_and_pages_in_their_own_terms() -> None:
    """A window of w tokens is w - 1 to the left; key starts are context lengths added up."""
    batch = to_device(text_batch([3, 5], 16, rows=1), _CPU)
    cache = torch.zeros(4, 16, 2, 64)
    flash = flash_arguments(_call(window=7), cache, cache, batch)
    assert flash["window_size"] == (6, 0)
    assert flash["cu_seqlens_k"].tolist() == [0, 3, 8]
    assert flash["cu_seqlens_k"].dtype == torch.int32
    assert (flash["max_seqlen_q"], flash["max_seqlen_k"], flash["softcap"]) == (5, 5, 0.0)
    varlen = varlen_arguments(_call(), cache, cache, batch)
    assert varlen["window_size"] == (-1, 0)
    assert varlen["enable_gqa"] is True
    assert varlen["seqused_k"].tolist() == [3, 5]
    assert varlen["block_table"] is batch.page_table


def test_queries_are_cut_into_blocks_of_one_sequence_each() -> None:
    """(sequence, first token): no block reaches over a border."""
    sequences, firsts = to_device(text_batch([5, 1, 4], 16, rows=1), _CPU).blocks(2)
    assert list(zip(sequences.tolist(), firsts.tolist(), strict=True)) == [
        (0, 0),
        (0, 2),
        (0, 4),
        (1, 0),
        (2, 0),
        (2, 2),
    ]
