"""A runner without a model: logits are a function of the tokens that the page table leads to.

It keeps a token id where a real runner keeps keys and values. So a page that is shared wrongly, reused too early or
addressed wrongly changes the logits, and with them the output: what a test compares with `alone`, which needs no pages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from engine.batch import StepBatch
from engine.messages import ModelInfo


def logits_of(context: Sequence[int], width: int) -> NDArray[np.float32]:
    """What the imaginary model says after `context`."""
    seed = hashlib.blake2b(np.array(context, np.int64).tobytes(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(seed, "little")).standard_normal(width).astype(np.float32) * 2


class SlotRunner:
    """Implements `engine.batch.Runner`."""

    def __init__(self, width: int = 64, pages: int = 16, page_size: int = 4, max_positions: int = 10_000) -> None:
        self.info = ModelInfo(
            model_type="slots",
            vocab_size=width,
            max_positions=max_positions,
            eos_token_ids=[0],
            dtype="float32",
            device="cpu",
            page_size=page_size,
            pages=pages,
            parameters=0,
        )
        self.cache = np.full((pages, page_size), -1, np.int64)
        self.batches: list[StepBatch] = []

    def run(self, batch: StepBatch) -> torch.Tensor:
        self.batches.append(batch)
        self.cache.reshape(-1)[batch.slots] = batch.token_ids
        rows = [self._row(batch, int(token)) for token in batch.logit_rows]
        return torch.from_numpy(np.stack(rows) if rows else np.zeros((0, self.info.vocab_size), np.float32))

    def _row(self, batch: StepBatch, token: int) -> NDArray[np.float32]:
        sequence = int(np.searchsorted(batch.query_starts, token, side="right")) - 1
        length = int(batch.positions[token]) + 1
        assert length <= batch.context_lengths[sequence]
        pages = batch.page_table[sequence, : -(-length // self.info.page_size)]
        context = self.cache[pages].reshape(-1)[:length]
        assert (context >= 0).all(), "a token was read that nobody wrote"
        return logits_of(context.tolist(), self.info.vocab_size)

    def copy_page(self, source: int, target: int) -> None:
        self.cache[target] = self.cache[source]
