"""Forward pass, cache and attention of one kind of device, behind one small protocol.

What it is for: `runner` composes; this file says what a CPU and what an accelerator need around the forward pass. What
may not enter: loading, what a model says about itself.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from engine.batch import StepBatch
from engine.model.config import RunnerConfig
from engine.model.cpu_attention import CpuBackend, stored_shape
from engine.model.device_attention import DeviceBackend, cache_dtype, installed
from engine.model.device_batch import DeviceBatch, to_device
from engine.model.forward import ForwardPass
from engine.model.graphs import CudaRecorder, Geometry, StepBuffers, StepGraphs, Watcher, shapes
from engine.model.memory import free_cpu_bytes, page_bytes, page_count
from engine.model.parallel import Group

_log = logging.getLogger(__name__)


class Executor(Protocol):
    """Executes steps on one device."""

    pages: int
    page_bytes: int  # keys and values of one page in all layers

    def run(self, batch: StepBatch) -> torch.Tensor:
        """Float32 logits (R, vocabulary), contiguous and the caller's to change."""
        ...

    def copy_page(self, source: int, target: int) -> None:
        """Copies one page in every layer."""
        ...


class CpuExecutor:
    """The compiled kernels, which compute in float32 whatever the dtypes of weights and cache are."""

    def __init__(
        self,
        forward: ForwardPass,
        config: RunnerConfig,
        dtype: torch.dtype,
        threads: int,
        group: Group | None = None,
    ) -> None:
        layers = forward.layer_shapes()
        dtype = cache_dtype(config.cache_dtype, dtype, torch.device("cpu"))
        self.page_bytes = page_bytes([stored_shape(s) for s in layers], config.page_size, dtype.itemsize)
        free = free_cpu_bytes() // (1 if group is None else group.ranks)
        self.pages = agreed(page_count(config, self.page_bytes, free, device="cpu"), group)
        self._forward = forward
        self.backend = CpuBackend(layers, self.pages, config.page_size, threads, dtype)
        self.run(text_batch([min(3, config.page_size)], config.page_size, rows=1))  # compiles every kernel

    def run(self, batch: StepBatch) -> torch.Tensor:
        """As Executor."""
        return self._forward(
            torch.from_numpy(batch.token_ids),
            torch.from_numpy(batch.positions),
            torch.from_numpy(batch.logit_rows),
            self.backend.step(batch),
        )

    def copy_page(self, source: int, target: int) -> None:
        """As Executor."""
        self.backend.copy_page(source, target)


class DeviceExecutor:
    """Flash or Triton kernels over a cache on the device; small steps by CUDA graph where they can be recorded."""

    def __init__(
        self,
        forward: ForwardPass,
        config: RunnerConfig,
        dtype: torch.dtype,
        device: torch.device,
        longest: int,
        group: Group | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self._forward, self._device = forward, device
        dtype, layers = cache_dtype(config.cache_dtype, dtype, device), forward.layer_shapes()
        self.page_bytes = page_bytes(layers, config.page_size, dtype.itemsize)
        install = installed()
        if device.type == "cuda":
            trial = _largest_step(config, longest)
            self._backend = DeviceBackend(
                layers, int(trial.page_table.max()) + 1, config.page_size, dtype, device, install
            )
            free = _free_after(self, trial)
        else:
            free = 0
        self.pages = agreed(page_count(config, self.page_bytes, free, device="cuda"), group)
        spare = self.pages  # one page more, for the padding of graphs
        self._backend = DeviceBackend(layers, self.pages + 1, config.page_size, dtype, device, install)
        self.graphs = self._record(config, min(longest, self.pages * config.page_size), spare, watcher)

    def run(self, batch: StepBatch) -> torch.Tensor:
        """As Executor."""
        # What an adapter adds depends on the batch, which a recording cannot.
        if self.graphs is not None and batch.adapters is None:
            logits = self.graphs.run(batch)
            if logits is not None:
                return logits
        return self.eager(to_device(batch, self._device))

    def eager(self, batch: DeviceBatch) -> torch.Tensor:
        """A forward pass launched operation by operation."""
        return self._forward(batch.token_ids, batch.positions, batch.logit_rows, self._backend.step(batch))

    def copy_page(self, source: int, target: int) -> None:
        """As Executor."""
        self._backend.copy_page(source, target)

    def _record(self, config: RunnerConfig, longest: int, spare: int, watcher: Watcher | None) -> StepGraphs | None:
        if self._device.type != "cuda" or not config.cuda_graphs:
            return None
        sizes = shapes(config.max_sequences, config.guesses, config.cuda_graph_sizes)
        try:
            buffers = StepBuffers(Geometry.of(sizes, longest, config.page_size, spare), self._device)
            return StepGraphs(self.eager, buffers, sizes, CudaRecorder(self._device), watcher)
        except RuntimeError as error:  # a model that waits for the device inside its forward pass
            _log.warning("steps run without CUDA graphs: %s", error)
            return None


def agreed(pages: int, group: Group | None) -> int:
    """As many pages as every rank has room for: a page number means the same on all of them."""
    return pages if group is None else group.least(pages)


def _free_after(executor: DeviceExecutor, trial: StepBatch) -> int:
    """Bytes free on the device when the largest step's working memory is set aside."""
    device = executor._device
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    executor.eager(to_device(trial, device))
    torch.cuda.synchronize(device)
    working = torch.cuda.max_memory_allocated(device) - before
    del executor._backend
    torch.cuda.empty_cache()
    return max(torch.cuda.mem_get_info(device)[0] - working, 0)


def _largest_step(config: RunnerConfig, longest: int) -> StepBatch:
    whole, rest = divmod(config.max_batch_tokens, longest)
    lengths = [longest] * whole + [rest] * (rest > 0)
    return text_batch(lengths, config.page_size, rows=min(config.max_batch_tokens, max(256, 4 * config.max_sequences)))


def text_batch(lengths: Sequence[int], page_size: int, rows: int) -> StepBatch:
    """Whole texts of the given lengths in pages 0, 1, …; logits of the last `rows` tokens."""
    pages = [-(-length // page_size) for length in lengths]
    table = np.zeros((len(lengths), max(pages)), np.int32)
    for row, first, count in zip(table, np.cumsum([0, *pages[:-1]]), pages, strict=True):
        row[:count] = np.arange(first, first + count)
    positions = [np.arange(length, dtype=np.int64) for length in lengths]
    slots = [
        row[p // page_size].astype(np.int64) * page_size + p % page_size
        for row, p in zip(table, positions, strict=True)
    ]
    total = sum(lengths)
    return StepBatch(
        token_ids=np.zeros(total, np.int64),
        positions=np.concatenate(positions),
        query_starts=np.cumsum([0, *lengths]).astype(np.int32),
        context_lengths=np.array(lengths, np.int32),
        page_table=table,
        slots=np.concatenate(slots),
        logit_rows=np.arange(max(total - rows, 0), total, dtype=np.int64),
    )
