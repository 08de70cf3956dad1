"""The accelerator backend: cache tensors, and which attention kernel runs over them.

What it is for: on CUDA, FlashAttention where it is installed and takes what the layer asks for, the Triton kernel for
all else. What may not enter: the CPU's kernels, CUDA graphs (`graphs`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch

from engine.model.attention import AttentionCall
from engine.model.config import CacheDtypeName
from engine.model.device_batch import DeviceBatch
from engine.model.errors import UnsupportedModel
from engine.model.memory import LayerShape

varlen_attn: Any = None
with suppress(ImportError):  # a torch without it
    from torch.nn.attention.varlen import varlen_attn
flash_attn_varlen_func: Any = None
with suppress(ImportError):  # the cuda extra is not installed
    from flash_attn import flash_attn_varlen_func  # type: ignore[no-redef]
triton_attention: Any = None
store: Any = None
with suppress(ImportError):  # no Triton on this platform
    from engine.model.device_fabric import store
    from engine.model.triton_attention import triton_attention

PagedKernel = Callable[[AttentionCall, torch.Tensor, torch.Tensor, DeviceBatch], torch.Tensor]

_FLASH_PAGE = 256  # FlashAttention 2 takes pages of multiples of this many tokens only
_FLASH_DTYPES = (torch.float16, torch.bfloat16)
_FP8_CAPABILITY = (8, 9)  # Ada and Hopper


@dataclass(frozen=True, slots=True)
class Install:
    """Which kernels this machine has."""

    flash_attn: bool
    torch_varlen: bool
    triton: bool


def installed() -> Install:
    """Found by import; torch's function counts if it takes a block table."""
    return Install(
        flash_attn=flash_attn_varlen_func is not None,
        torch_varlen=varlen_attn is not None and "block_table" in signature(varlen_attn).parameters,
        triton=triton_attention is not None,
    )


def cache_dtype(name: CacheDtypeName, weights: torch.dtype, device: torch.device) -> torch.dtype:
    """What keys and values are stored in. fp8 is e4m3 without a scale, in whose range they lie as a rule.

    Raises UnsupportedModel where the device has no such type.
    """
    if name == "auto":
        return weights
    if name != "fp8":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < _FP8_CAPABILITY:
        raise UnsupportedModel(f"this {torch.cuda.get_device_name(device)} has no fp8; give a cache dtype of 16 bits")
    return torch.float8_e4m3fn


def choose_kernel(call: AttentionCall, page_size: int, install: Install, stored: torch.dtype | None = None) -> str:
    """The name of the kernel for a layer: `flash_attn`, `torch_varlen` or `triton`; `stored`: the cache's dtype."""
    dims = {call.query.shape[-1], call.key.shape[-1], call.value.shape[-1]}
    flash = (
        call.query.dtype in _FLASH_DTYPES
        and stored in (None, call.query.dtype)
        and page_size % _FLASH_PAGE == 0
        and len(dims) == 1
        and max(dims) <= 256
        and max(dims) % 8 == 0
        and call.sinks is None
    )
    if flash and install.flash_attn:
        return "flash_attn"
    if flash and install.torch_varlen and call.softcap is None and call.slopes is None:
        return "torch_varlen"
    if install.triton:
        return "triton"
    raise UnsupportedModel("no paged attention kernel for this model on this device; install triton (the cuda extra)")


def flash_arguments(
    call: AttentionCall, keys: torch.Tensor, values: torch.Tensor, batch: DeviceBatch
) -> dict[str, Any]:
    """What flash-attn's `flash_attn_varlen_func` is called with."""
    return {
        "q": call.query.contiguous(),
        "k": keys,
        "v": values,
        "cu_seqlens_q": batch.query_starts,
        "cu_seqlens_k": batch.key_starts(),
        "max_seqlen_q": batch.longest_query,
        "max_seqlen_k": batch.longest_context,
        "softmax_scale": call.scale,
        "causal": True,
        "window_size": (-1 if call.window is None else call.window - 1, 0),
        "softcap": call.softcap or 0.0,
        "alibi_slopes": None if call.slopes is None else call.slopes.float(),
        "block_table": batch.page_table,
    }


def varlen_arguments(
    call: AttentionCall, keys: torch.Tensor, values: torch.Tensor, batch: DeviceBatch
) -> dict[str, Any]:
    """What torch's `varlen_attn` is called with."""
    return {
        "query": call.query.contiguous(),
        "key": keys,
        "value": values,
        "cu_seq_q": batch.query_starts,
        "cu_seq_k": None,
        "max_q": batch.longest_query,
        "max_k": batch.longest_context,
        "scale": call.scale,
        "window_size": (-1 if call.window is None else call.window - 1, 0),
        "enable_gqa": call.query.shape[1] != keys.shape[2],
        "seqused_k": batch.context_lengths,
        "block_table": batch.page_table,
    }


def _flash(call: AttentionCall, keys: torch.Tensor, values: torch.Tensor, batch: DeviceBatch) -> torch.Tensor:
    assert flash_attn_varlen_func is not None
    out: torch.Tensor = flash_attn_varlen_func(**flash_arguments(call, keys, values, batch))
    return out


def _varlen(call: AttentionCall, keys: torch.Tensor, values: torch.Tensor, batch: DeviceBatch) -> torch.Tensor:
    assert varlen_attn is not None
    out: torch.Tensor = varlen_attn(**varlen_arguments(call, keys, values, batch))
    return out


def _triton(call: AttentionCall, keys: torch.Tensor, values: torch.Tensor, batch: DeviceBatch) -> torch.Tensor:
    assert triton_attention is not None
    out: torch.Tensor = triton_attention(call, keys, values, batch)
    return out


_KERNELS: dict[str, PagedKernel] = {"flash_attn": _flash, "torch_varlen": _varlen, "triton": _triton}


class DeviceBackend:
    """Keys and values of every layer: (pages, page_size, kv_heads, dim), in the model's dtype."""

    def __init__(
        self,
        layers: Sequence[LayerShape],
        pages: int,
        page_size: int,
        dtype: torch.dtype,
        device: torch.device,
        install: Install,
    ) -> None:
        self.keys = [torch.zeros((pages, page_size, s.kv_heads, s.key_dim), dtype=dtype, device=device) for s in layers]
        self.values = [
            torch.zeros((pages, page_size, s.kv_heads, s.value_dim), dtype=dtype, device=device) for s in layers
        ]
        self._page_size, self._install = page_size, install
        self._chosen: dict[int, PagedKernel] = {}

    def step(self, batch: DeviceBatch) -> DeviceStep:
        """What travels with one forward pass."""
        return DeviceStep(self, batch)

    def copy_page(self, source: int, target: int) -> None:
        """Copies one page in every layer."""
        for tensor in (*self.keys, *self.values):
            tensor[target].copy_(tensor[source])

    def kernel(self, call: AttentionCall) -> PagedKernel:
        """The layer's kernel, chosen at its first call."""
        if call.layer not in self._chosen:
            self._chosen[call.layer] = _KERNELS[choose_kernel(call, self._page_size, self._install, self.keys[0].dtype)]
        return self._chosen[call.layer]


class DeviceStep:
    """Attention for one step batch on the device."""

    def __init__(self, backend: DeviceBackend, batch: DeviceBatch) -> None:
        self._backend, self._batch = backend, batch

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """Stores keys and values, returns (T, heads, value_dim)."""
        keys, values = self._backend.keys[call.layer], self._backend.values[call.layer]
        _put(call, keys, values, self._batch.slots)
        return self._backend.kernel(call)(call, keys, values, self._batch)


def _put(call: AttentionCall, keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor) -> None:
    """Writes a layer's new keys and values to their slots, in the cache's dtype: one launch where Triton is there."""
    if store is not None and keys.dtype.itemsize > 1:
        store(call.key, call.value, keys, values, slots)
        return
    for cache, rows in ((keys, call.key), (values, call.value)):
        stored = rows.to(cache.dtype)
        if cache.dtype.itemsize == 1:  # torch copies fp8 by index only as bytes
            cache, stored = cache.view(torch.uint8), stored.view(torch.uint8)  # noqa: PLW2901
        cache.flatten(0, 1).index_copy_(0, slots, stored)
