"""The CPU backend: cache arrays in the layout that the compiled kernels want, and one step's attention over them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.batch import StepBatch
from engine.model.attention import AttentionCall
from engine.model.cpu_kernels import TILE, attend, store
from engine.model.errors import BrokenModel, UnsupportedModel
from engine.model.memory import LayerShape
from engine.simd import LANES

_NONE = np.zeros(0, np.float32)
# What the kernels read (`simd.load_stored`): numpy has no bfloat16, and numba no array of float16.
_BITS: dict[torch.dtype, type[np.generic]] = {
    torch.float32: np.float32,
    torch.bfloat16: np.uint16,
    torch.float16: np.int16,
}


class CpuBackend:
    """Keys and values of every layer, paged, and the threads that attend over them.

    `dtype` is what they are stored in: float32, or one of 16 bits, which is half the memory, to hold and to read. All
    arithmetic is float32.
    """

    def __init__(
        self,
        layers: Sequence[LayerShape],
        pages: int,
        page_size: int,
        threads: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if page_size % LANES:
            raise BrokenModel(f"page_size {page_size} is no multiple of {LANES}, which the CPU backend needs")
        if dtype not in _BITS:
            raise UnsupportedModel(f"a cache in {dtype} is not served on a CPU; use float32, bfloat16 or float16")
        bits, shapes = _BITS[dtype], [stored_shape(s) for s in layers]
        self.dtype = dtype
        self.keys = [np.zeros((pages, s.kv_heads, page_size // LANES, s.key_dim, LANES), bits) for s in shapes]
        self.values = [np.zeros((pages, s.kv_heads, page_size, s.value_dim), bits) for s in shapes]
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="attention") if threads > 1 else None

    def step(self, batch: StepBatch) -> CpuStep:
        """What travels with one forward pass."""
        return CpuStep(self, batch)

    def copy_page(self, source: int, target: int) -> None:
        """Copies one page in every layer."""
        for array in (*self.keys, *self.values):
            array[target] = array[source]


class CpuStep:
    """Attention for one step batch on the CPU."""

    def __init__(self, backend: CpuBackend, batch: StepBatch) -> None:
        self._backend, self._batch = backend, batch
        longest = int(batch.context_lengths.max(initial=0)) + 2 * LANES
        self._scores = np.empty((backend.threads, TILE * longest), np.float32)

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """Stores keys and values, returns (T, heads, value_dim) in the query's dtype."""
        backend, query = self._backend, _plain(call.query)
        store(
            _stored(call.key, backend.dtype),
            _stored(call.value, backend.dtype),
            backend.keys[call.layer],
            backend.values[call.layer],
            self._batch.slots,
        )
        out = np.empty((*query.shape[:2], call.value.shape[2]), np.float32)
        sinks = _NONE if call.sinks is None else _plain(call.sinks)
        slopes = _NONE if call.slopes is None else _plain(call.slopes)
        if backend.pool is None:
            self._share(call, query, sinks, slopes, out, 0)
        else:
            shares = [
                backend.pool.submit(self._share, call, query, sinks, slopes, out, i) for i in range(1, backend.threads)
            ]
            self._share(call, query, sinks, slopes, out, 0)
            for share in shares:
                share.result()
        return torch.from_numpy(out).to(call.query.dtype)

    def _share(
        self,
        call: AttentionCall,
        query: NDArray[np.float32],
        sinks: NDArray[np.float32],
        slopes: NDArray[np.float32],
        out: NDArray[np.float32],
        share: int,
    ) -> None:
        """One thread's part: every `threads`-th pair of sequence and head, from the `share`-th on."""
        batch, backend = self._batch, self._backend
        attend(
            query,
            backend.keys[call.layer],
            backend.values[call.layer],
            batch.query_starts,
            batch.context_lengths,
            batch.page_table,
            call.scale,
            call.window or 0,
            call.softcap or 0.0,
            sinks,
            slopes,
            self._scores[share],
            out,
            share,
            backend.threads,
        )


def stored_shape(shape: LayerShape) -> LayerShape:
    """As it lies in the cache: values are padded to whole vectors."""
    return LayerShape(shape.kv_heads, shape.key_dim, -(-shape.value_dim // LANES) * LANES)


def _stored(tensor: torch.Tensor, dtype: torch.dtype) -> NDArray[Any]:
    """Rounded to the nearest number of the cache's dtype, as the kernels read it."""
    narrow = tensor.detach().to(dtype).contiguous()
    return (narrow if dtype == torch.float32 else narrow.view(torch.int16)).numpy().view(_BITS[dtype])


def _plain(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().contiguous().numpy()
    return array
