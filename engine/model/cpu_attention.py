"""The CPU backend: cache tensors in the layout that the compiled kernels want, and one step's attention over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from engine.batch import StepBatch
from engine.model.attention import AttentionCall
from engine.model.cpu_kernels import TILE, attend, store
from engine.model.vector import LANES

_NONE = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class LayerShape:
    """The cache that one layer needs per token."""

    kv_heads: int
    key_dim: int
    value_dim: int


class CpuCache:
    """Keys and values of every layer, paged. Owns the memory; pages are handed out elsewhere."""

    def __init__(self, layers: Sequence[LayerShape], pages: int, page_size: int) -> None:
        self.keys = [
            np.zeros((pages, s.kv_heads, page_size // LANES, s.key_dim, LANES), np.float32) for s in layers
        ]
        self.values = [
            np.zeros((pages, s.kv_heads, page_size, -(-s.value_dim // LANES) * LANES), np.float32) for s in layers
        ]
        self.page_size = page_size

    def copy_page(self, source: int, target: int) -> None:
        """Copies one page in every layer."""
        for array in (*self.keys, *self.values):
            array[target] = array[source]


class CpuStep:
    """Attention for one step batch on the CPU."""

    def __init__(self, cache: CpuCache, batch: StepBatch) -> None:
        self._cache, self._batch = cache, batch
        longest = int(batch.context_lengths.max(initial=0)) + 2 * LANES
        self._scores = np.empty(TILE * longest, np.float32)

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """Stores keys and values, returns (T, heads, value_dim) in the query's dtype."""
        batch, keys, values = self._batch, self._cache.keys[call.layer], self._cache.values[call.layer]
        query = _plain(call.query)
        store(_plain(call.key), _plain(call.value), keys, values, batch.slots)
        out = np.empty((*query.shape[:2], call.value.shape[2]), np.float32)
        attend(
            query,
            keys,
            values,
            batch.query_starts,
            batch.context_lengths,
            batch.page_table,
            call.scale,
            call.window or 0,
            call.softcap or 0.0,
            _NONE if call.sinks is None else _plain(call.sinks),
            _NONE if call.slopes is None else _plain(call.slopes),
            self._scores,
            out,
        )
        return torch.from_numpy(out).to(call.query.dtype)


def _plain(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().contiguous().numpy()
    return array
