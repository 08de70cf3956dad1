"""The boundary between planning a step and running it.

What it is for: `StepBatch` is everything that a forward pass needs, as plain arrays; `Runner` is what executes it.
The scheduler makes the one and never touches a device; the runner executes the other and never decides anything. What
may not enter: requests, sampling, grammars.

The idea: a step is always "verify-shaped": each sequence brings q ≥ 1 query tokens behind the context it already has
in the cache. Decode is q = 1, a prefill chunk is q = its length, a draft to verify is q = 1 + its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.kernels import exact

if TYPE_CHECKING:
    import torch

    from engine.messages import ModelInfo


@dataclass(frozen=True, slots=True)
class StepBatch:
    """One forward pass over S sequences with T query tokens in all; logits are wanted for R of the tokens.

    Sequence s owns the tokens `query_starts[s]:query_starts[s + 1]`; its cache then holds `context_lengths[s]` tokens,
    this step's included, in the pages `page_table[s, :ceil(context_lengths[s] / page_size)]` (further entries are 0).
    """

    token_ids: NDArray[np.int64]  # (T,)
    positions: NDArray[np.int64]  # (T,)
    query_starts: NDArray[np.int32]  # (S + 1,)
    context_lengths: NDArray[np.int32]  # (S,)
    page_table: NDArray[np.int32]  # (S, widest)
    slots: NDArray[np.int64]  # (T,): page · page_size + offset, where each token's keys and values go
    logit_rows: NDArray[np.int64]  # (R,): which of the T tokens need logits, ascending
    adapters: NDArray[np.int32] | None = None  # (S,): each sequence's adapter slot, -1 for none; None: none at all


class Piece(NamedTuple):
    """What one sequence brings to a step: `tokens` from position `start` on; logits of its last `rows` are wanted.

    `adapter`: its slot; −1: the model as it is.
    """

    start: int
    tokens: Sequence[int]
    pages: Sequence[int]
    rows: int
    adapter: int = -1


def pack(pieces: Sequence[Piece], page_size: int) -> StepBatch:
    """The arrays of a step."""
    tokens: list[int] = []
    lengths: list[int] = []
    for piece in pieces:
        tokens += piece.tokens
        lengths.append(piece.start + len(piece.tokens))
    numbers = np.array([(piece.start, len(piece.tokens), piece.rows, piece.adapter) for piece in pieces], np.int32)
    table = _page_table(pieces, [-(-length // page_size) for length in lengths])
    starts, positions, slots, logit_rows = _spread(numbers, table, page_size, len(tokens))
    return StepBatch(
        token_ids=np.array(tokens, np.int64),
        positions=positions,
        query_starts=starts,
        context_lengths=np.array(lengths, np.int32),
        page_table=table,
        slots=slots,
        logit_rows=logit_rows,
        adapters=numbers[:, 3].copy() if any(piece.adapter >= 0 for piece in pieces) else None,
    )


def _page_table(pieces: Sequence[Piece], counts: list[int]) -> NDArray[np.int32]:
    table = np.zeros((len(pieces), max(counts)), np.int32)
    for row, piece, count in zip(table, pieces, counts, strict=True):
        row[:count] = piece.pages[:count]
    return table


@exact
def _spread(
    numbers: NDArray[np.int32], table: NDArray[np.int32], page_size: int, total: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Query starts, and by token position and slot; the tokens whose logits are wanted. One call, for each of numpy's
    would cost as much as the whole of it. `numbers`: the columns start, tokens, rows of each piece."""
    starts = np.zeros(len(numbers) + 1, np.int32)
    positions, slots = np.empty(total, np.int64), np.empty(total, np.int64)
    logit_rows = np.empty(np.sum(numbers[:, 2]), np.int64)
    token = row = 0
    for piece in range(len(numbers)):
        first, count, rows = numbers[piece, 0], numbers[piece, 1], numbers[piece, 2]
        for index in range(count):
            position = first + index
            positions[token] = position
            slots[token] = np.int64(table[piece, position // page_size]) * page_size + position % page_size
            if index >= count - rows:
                logit_rows[row] = token
                row += 1
            token += 1
        starts[piece + 1] = token
    return starts, positions, slots, logit_rows


class Runner(Protocol):
    """Executes steps. Single-threaded: only the engine loop calls it."""

    info: ModelInfo

    def run(self, batch: StepBatch) -> torch.Tensor:
        """Logits, float32, (R, vocab_size), on the runner's device; the buffer is valid until the next `run`."""
        ...

    def copy_page(self, source: int, target: int) -> None:
        """Copies the keys and values of one page in every layer (copy-on-write of a shared partial page)."""
        ...


class AdapterSlots(Protocol):
    """A runner that can hold LoRA adapters."""

    def load_adapter(self, slot: int, folder: str, most_rank: int) -> None:
        """Puts an adapter into a slot, which `StepBatch.adapters` names. Raises ModelError."""
        ...

    def unload_adapter(self, slot: int) -> None:
        """Empties a slot that no sequence names any more."""
        ...
