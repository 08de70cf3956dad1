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
    counts = np.array([len(piece.tokens) for piece in pieces], np.int32)
    starts = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=starts[1:])
    before = np.array([piece.start for piece in pieces], np.int32)
    owner = np.repeat(np.arange(len(counts)), counts)
    positions = np.arange(len(owner), dtype=np.int64) + (before - starts[:-1])[owner]
    table = _page_table(pieces, -(-(before + counts) // page_size))
    return StepBatch(
        token_ids=np.fromiter((token for piece in pieces for token in piece.tokens), np.int64, len(owner)),
        positions=positions,
        query_starts=starts,
        context_lengths=before + counts,
        page_table=table,
        slots=table[owner, positions // page_size].astype(np.int64) * page_size + positions % page_size,
        logit_rows=_logit_rows(pieces, starts),
        adapters=_adapters(pieces),
    )


def _adapters(pieces: Sequence[Piece]) -> NDArray[np.int32] | None:
    slots = np.array([piece.adapter for piece in pieces], np.int32)
    return slots if (slots >= 0).any() else None


def _page_table(pieces: Sequence[Piece], lengths: NDArray[np.int32]) -> NDArray[np.int32]:
    table = np.zeros((len(pieces), int(lengths.max())), np.int32)
    for row, piece in enumerate(pieces):
        table[row, : lengths[row]] = piece.pages[: lengths[row]]
    return table


def _logit_rows(pieces: Sequence[Piece], starts: NDArray[np.int32]) -> NDArray[np.int64]:
    wanted = [
        np.arange(end - piece.rows, end, dtype=np.int64)
        for piece, end in zip(pieces, starts[1:].tolist(), strict=True)
        if piece.rows
    ]
    return np.concatenate(wanted) if wanted else np.empty(0, np.int64)


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
