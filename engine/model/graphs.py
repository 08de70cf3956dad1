"""CUDA graphs for decode: one recorded forward pass per padded number of sequences.

What it is for: a decode step of a few sequences is bound by the host's launches; a graph replays them as one. What may
not enter: prefill (its shapes vary), sampling.

The idea: every input lives in a buffer of fixed address. A step copies its arrays in, pads with sequences that own one
token in a page nobody else uses, and replays. The staging buffers are pinned and written anew each step; that is safe
because the engine reads a step's logits, and so waits for its copies, before it plans the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from engine.batch import StepBatch
from engine.model.device_batch import DeviceBatch

Forward = Callable[[DeviceBatch], torch.Tensor]


def bucket_sizes(most: int) -> list[int]:
    """Numbers of sequences worth a graph: powers of two up to 8, then every eighth, the last at least `most`."""
    sizes = [size for size in (1, 2, 4, 8) if size < most]
    sizes += list(range(16, most, 8)) if most > 16 else []
    return [*sizes, most if most <= 8 else -(-most // 8) * 8]


def bucket_for(count: int, sizes: list[int]) -> int | None:
    """The least bucket that holds `count` sequences."""
    return next((size for size in sizes if size >= count), None)


@dataclass(frozen=True, slots=True)
class Geometry:
    """What the buffers must hold."""

    most_sequences: int
    most_positions: int
    page_size: int
    spare_page: int  # where padding sequences keep their one token


class DecodeBuffers:
    """A decode batch of the largest size at fixed addresses, and its pinned twin on the host."""

    def __init__(self, geometry: Geometry, device: torch.device) -> None:
        most, width = geometry.most_sequences, -(-geometry.most_positions // geometry.page_size)
        pinned = device.type == "cuda"
        self._geometry = geometry
        self._host = {
            "token_ids": torch.zeros(most, dtype=torch.int64, pin_memory=pinned),
            "positions": torch.zeros(most, dtype=torch.int64, pin_memory=pinned),
            "context_lengths": torch.ones(most, dtype=torch.int32, pin_memory=pinned),
            "slots": torch.zeros(most, dtype=torch.int64, pin_memory=pinned),
            "page_table": torch.zeros((most, width), dtype=torch.int32, pin_memory=pinned),
        }
        self._device = {name: tensor.to(device) for name, tensor in self._host.items()}
        self._starts = torch.arange(most + 1, dtype=torch.int32, device=device)
        self._rows = torch.arange(most, dtype=torch.int64, device=device)

    def view(self, size: int) -> DeviceBatch:
        """The first `size` sequences of the buffers; every one's logits are wanted."""
        device = self._device
        return DeviceBatch(
            token_ids=device["token_ids"][:size],
            positions=device["positions"][:size],
            query_starts=self._starts[: size + 1],
            context_lengths=device["context_lengths"][:size],
            page_table=device["page_table"][:size],
            slots=device["slots"][:size],
            logit_rows=self._rows[:size],
            query_lengths=np.ones(size, np.int32),
            longest_context=self._geometry.most_positions,
        )

    def fill(self, batch: StepBatch, size: int) -> None:
        """Copies a decode step in and pads it to `size` sequences."""
        count, width = batch.page_table.shape
        spare = self._geometry.spare_page
        padding = {
            "token_ids": 0,
            "positions": 0,
            "context_lengths": 1,
            "slots": spare * self._geometry.page_size,
            "page_table": spare,
        }
        for name, value in padding.items():
            host = self._host[name]
            host[count:size] = value
            if name == "page_table":
                host[:count, :width] = torch.from_numpy(batch.page_table)
                self._device[name][:size, :width].copy_(host[:size, :width], non_blocking=True)
            else:
                host[:count] = torch.from_numpy(getattr(batch, name))
                self._device[name][:size].copy_(host[:size], non_blocking=True)


class DecodeGraphs:
    """Records a graph per bucket, replays the one that fits."""

    def __init__(self, forward: Forward, geometry: Geometry, device: torch.device) -> None:
        self._sizes = bucket_sizes(geometry.most_sequences)
        self._buffers = DecodeBuffers(replace(geometry, most_sequences=self._sizes[-1]), device)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}
        self._views: list[DeviceBatch] = []  # what was derived from them before a recording is read by every replay
        pool = None
        for size in reversed(self._sizes):  # the largest first: the others then fit into its memory pool
            view = self._buffers.view(size)
            forward(view)  # kernels compile and workspaces are made outside of the recording
            torch.cuda.synchronize(device)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                logits = forward(view)
            pool = graph.pool()
            self._views.append(view)
            self._graphs[size] = (graph, logits)

    def run(self, batch: StepBatch) -> torch.Tensor | None:
        """The wanted logits of a decode step, or None if no graph fits (another kind of step, too many sequences)."""
        count = len(batch.context_lengths)
        size = bucket_for(count, self._sizes)
        if size is None or len(batch.token_ids) != count:
            return None
        self._buffers.fill(batch, size)
        graph, logits = self._graphs[size]
        graph.replay()
        if len(batch.logit_rows) == count:
            return logits[:count].clone()  # the next replay overwrites the graph's own
        return logits[torch.from_numpy(batch.logit_rows).to(logits.device)]
