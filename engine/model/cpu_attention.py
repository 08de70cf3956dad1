"""The CPU backend: cache arrays in the layout that the compiled kernels want, and one step's attention over them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from engine.batch import StepBatch
from engine.model.attention import AttentionCall
from engine.model.cpu_kernels import TILE, attend, store
from engine.model.errors import BrokenModel
from engine.model.memory import LayerShape
from engine.simd import LANES

_NONE = np.zeros(0, np.float32)


class CpuBackend:
    """Keys and values of every layer in float32, paged, and the threads that attend over them."""

    def __init__(self, layers: Sequence[LayerShape], pages: int, page_size: int, threads: int) -> None:
        if page_size % LANES:
            raise BrokenModel(f"page_size {page_size} is no multiple of {LANES}, which the CPU backend needs")
        stored = [stored_shape(s) for s in layers]
        self.keys = [np.zeros((pages, s.kv_heads, page_size // LANES, s.key_dim, LANES), np.float32) for s in stored]
        self.values = [np.zeros((pages, s.kv_heads, page_size, s.value_dim), np.float32) for s in stored]
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
        backend, key, value = self._backend, _plain(call.key), _plain(call.value)
        store(key, value, backend.keys[call.layer], backend.values[call.layer], self._batch.slots)
        query = _plain(call.query)
        out = np.empty((*query.shape[:2], value.shape[2]), np.float32)
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


def _plain(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().contiguous().numpy()
    return array
