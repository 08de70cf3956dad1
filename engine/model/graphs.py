"""CUDA graphs for decoding and verifying: one recorded forward pass per padded shape of a step.

What it is for: a step of a few positions is bound by the host's launches; a graph replays them as one. What may not
enter: long prompts (their shapes vary), sampling.

The idea: every input lives in a buffer of fixed address. A step copies its arrays in, pads, and replays. A shape is a
number of tokens, a number of sequences, and the most tokens that one of them may bring; how the tokens are shared out
among the sequences is data, so one recording serves a sequence with many guesses as well as many with one each. The
staging buffers are pinned and written anew each step, once the copies of the step before have been made: a step that
draws nothing is not waited for by anyone else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from engine.batch import StepBatch
from engine.model.device_batch import DeviceBatch

Forward = Callable[[DeviceBatch], torch.Tensor]

_WIDEST = 256  # tokens of a recorded verifying step; where there are more, computing hides the launches


class Shape(NamedTuple):
    """What a recording has room for."""

    tokens: int
    sequences: int
    longest: int  # tokens of one sequence


def bucket_sizes(most: int, wanted: Sequence[int] = ()) -> list[int]:
    """Numbers of sequences worth a graph: powers of two up to 8, then every eighth, the last at least `most`.

    Of the `wanted` ones, if any are, those that a step of `most` sequences can fill.
    """
    if wanted:
        return sorted({min(size, most) for size in wanted})
    sizes = [size for size in (1, 2, 4, 8) if size < most]
    sizes += list(range(16, most, 8)) if most > 16 else []
    return [*sizes, most if most <= 8 else -(-most // 8) * 8]


def shapes(most_sequences: int, guesses: int, wanted: Sequence[int] = ()) -> list[Shape]:
    """A shape for each bucket of sequences that decode; with guesses coarser ones too, in which they verify.

    Where some numbers of sequences are `wanted`, both are of these.

    Ascending. A verifying step's tokens are 2, 4, … times its sequences, up to every sequence's `guesses` + 1.
    """
    decode = [Shape(size, size, 1) for size in bucket_sizes(most_sequences, wanted)]
    longest = guesses + 1
    each = [count for count in (2, 4, 8, 16, 32) if 2 * count <= longest] + [longest] * (guesses > 0)
    powers = [1 << exponent for exponent in range((most_sequences - 1).bit_length() + 1)]
    some = bucket_sizes(most_sequences, wanted) if wanted else powers
    verify = {Shape(min(count * size, _WIDEST), size, longest) for size in some for count in each if size < _WIDEST}
    return sorted([*decode, *verify])


def fitting(batch: StepBatch, sizes: Sequence[Shape]) -> Shape | None:
    """The least of ascending shapes that holds a step."""
    sequences, tokens = len(batch.context_lengths), len(batch.token_ids)
    longest = int(np.diff(batch.query_starts).max(initial=0))
    for shape in sizes:
        if shape.tokens >= tokens and shape.sequences >= sequences and shape.longest >= longest:
            return shape
    return None


@dataclass(frozen=True, slots=True)
class Geometry:
    """What the buffers must hold."""

    most_tokens: int
    most_sequences: int
    most_positions: int
    page_size: int
    spare_page: int  # where padding keeps its keys and values

    @classmethod
    def of(cls, sizes: Sequence[Shape], most_positions: int, page_size: int, spare_page: int) -> Geometry:
        """Room for each of these shapes."""
        tokens, sequences = max(size.tokens for size in sizes), max(size.sequences for size in sizes)
        return cls(tokens, sequences, most_positions, page_size, spare_page)


class StepBuffers:
    """A step of the largest shape at fixed addresses, and its pinned twin on the host."""

    def __init__(self, geometry: Geometry, device: torch.device) -> None:
        tokens, most = geometry.most_tokens, geometry.most_sequences
        width = -(-geometry.most_positions // geometry.page_size)
        pinned = device.type == "cuda"
        self._geometry = geometry
        self._host = {
            "token_ids": torch.zeros(tokens, dtype=torch.int64, pin_memory=pinned),
            "positions": torch.zeros(tokens, dtype=torch.int64, pin_memory=pinned),
            "slots": torch.zeros(tokens, dtype=torch.int64, pin_memory=pinned),
            "query_starts": torch.zeros(most + 1, dtype=torch.int32, pin_memory=pinned),
            "context_lengths": torch.ones(most, dtype=torch.int32, pin_memory=pinned),
            "page_table": torch.zeros((most, width), dtype=torch.int32, pin_memory=pinned),
        }
        self._device = {name: tensor.to(device) for name, tensor in self._host.items()}
        self._rows = torch.arange(tokens, dtype=torch.int64, device=device)
        # Of the last step, out of the staging buffers.
        self._copied = torch.cuda.Event() if pinned else None  # type: ignore[no-untyped-call]

    def view(self, shape: Shape) -> DeviceBatch:
        """The buffers as a step of this shape; every token's logits are wanted."""
        device = self._device
        return DeviceBatch(
            token_ids=device["token_ids"][: shape.tokens],
            positions=device["positions"][: shape.tokens],
            query_starts=device["query_starts"][: shape.sequences + 1],
            context_lengths=device["context_lengths"][: shape.sequences],
            page_table=device["page_table"][: shape.sequences],
            slots=device["slots"][: shape.tokens],
            logit_rows=self._rows[: shape.tokens],
            query_lengths=np.full(shape.sequences, shape.longest, np.int32),
            longest_context=self._geometry.most_positions,
        )

    def fill(self, batch: StepBatch, shape: Shape) -> None:
        """Copies a step in and pads it: further sequences own a token each while there are tokens, then none.

        A padding token is at position 0 of the spare page. Those that no sequence owns attend to nothing.
        """
        spare, size = self._geometry.spare_page, self._geometry.page_size
        if self._copied is not None:
            self._copied.synchronize()
        self._put("token_ids", batch.token_ids, shape.tokens, 0)
        self._put("positions", batch.positions, shape.tokens, 0)
        self._put("slots", batch.slots, shape.tokens, spare * size)
        self._put("context_lengths", batch.context_lengths, shape.sequences, 1)
        self._put("query_starts", _padded_starts(batch.query_starts, shape), shape.sequences + 1, 0)
        count, width = batch.page_table.shape
        host = self._host["page_table"]
        host[count : shape.sequences] = spare
        host[:count, :width] = torch.from_numpy(batch.page_table)
        part = (slice(shape.sequences), slice(width))
        self._device["page_table"][part].copy_(host[part], non_blocking=True)
        if self._copied is not None:
            self._copied.record()

    def _put(self, name: str, values: NDArray[np.int64] | NDArray[np.int32], size: int, padding: int) -> None:
        host = self._host[name]
        host[: len(values)] = torch.from_numpy(values)
        host[len(values) : size] = padding
        self._device[name][:size].copy_(host[:size], non_blocking=True)


def _padded_starts(starts: NDArray[np.int32], shape: Shape) -> NDArray[np.int32]:
    further = np.arange(1, shape.sequences + 2 - len(starts), dtype=np.int32)
    return np.concatenate([starts, np.minimum(starts[-1] + further, np.int32(shape.tokens))])


class Watcher(Protocol):
    """Who keeps what goes into the output matrix, as Medusa heads do."""

    hidden: torch.Tensor  # (rows of the last pass's logits, width)


@dataclass(frozen=True, slots=True)
class Recording:
    """`replay` computes `logits` (tokens of the shape, vocabulary) anew from the buffers, and `hidden` with them."""

    replay: Callable[[], None]
    logits: torch.Tensor
    hidden: torch.Tensor | None = None  # what a watcher saw


Record = Callable[[Callable[[], torch.Tensor]], Recording]


class CudaRecorder:
    """Records what a function launches. The largest first: the others then fit into its memory pool.

    All write their logits into one tensor: kept apart, those of all shapes of a vocabulary of 128k take a gigabyte.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None  # torch keeps the handle's type to itself
        self._out: torch.Tensor | None = None

    def __call__(self, compute: Callable[[], torch.Tensor]) -> Recording:
        """Runs it once before: kernels compile and workspaces are made outside of the recording."""
        logits = compute()
        out = self._out = torch.empty_like(logits) if self._out is None else self._out
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            logits = compute()
            out[: len(logits)].copy_(logits)
        self._pool = graph.pool()
        return Recording(graph.replay, out[: len(logits)])


class StepGraphs:
    """Records a graph per shape, replays the one that fits."""

    def __init__(
        self, forward: Forward, buffers: StepBuffers, sizes: Sequence[Shape], record: Record, watcher: Watcher | None
    ) -> None:
        self._buffers, self._sizes, self._watcher = buffers, sorted(sizes), watcher
        self._recordings: dict[Shape, Recording] = {}
        for shape in reversed(self._sizes):
            # A view of its own for every pass: what one derives from the buffers' contents has to be recorded.
            made = record(lambda shape=shape: forward(buffers.view(shape)))  # type: ignore[misc]
            self._recordings[shape] = made if watcher is None else replace(made, hidden=watcher.hidden)

    def run(self, batch: StepBatch) -> torch.Tensor | None:
        """The wanted logits of a step, the caller's until the next; None if no recording has room for it."""
        shape = fitting(batch, self._sizes)
        if shape is None:
            return None
        self._buffers.fill(batch, shape)
        recording = self._recordings[shape]
        recording.replay()
        if self._watcher is not None and recording.hidden is not None:
            self._watcher.hidden = _wanted(recording.hidden, batch)
        return _wanted(recording.logits, batch)


def _wanted(computed: torch.Tensor, batch: StepBatch) -> torch.Tensor:
    """The wanted rows; of a rank that has no logits, none."""
    count = len(batch.token_ids)
    if len(batch.logit_rows) == count or not len(computed):
        return computed[:count]
    rows = torch.from_numpy(batch.logit_rows)
    if computed.device.type == "cuda":
        rows = rows.pin_memory()  # from pageable memory the copy would wait for the pass
    return computed[rows.to(computed.device, non_blocking=True)]
