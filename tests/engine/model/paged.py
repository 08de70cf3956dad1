"""Drives a runner as the scheduler would, with pages scattered at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from engine.batch import Runner, StepBatch


@dataclass
class PagedSequence:
    """A sequence in the cache: its tokens so far and the pages they lie in."""

    pages: list[int] = field(default_factory=list)
    length: int = 0


class PagedDriver:
    """Feeds chunks of named sequences to a runner; every token's logits come back."""

    def __init__(self, runner: Runner, seed: int = 0) -> None:
        self.runner = runner
        self._free = [int(p) for p in np.random.default_rng(seed).permutation(runner.info.pages)]
        self.sequences: dict[int, PagedSequence] = {}

    def step(self, chunks: Sequence[tuple[int, Sequence[int]]]) -> list[torch.Tensor]:
        """One forward pass over (sequence, further tokens) pairs; logits (len(tokens), vocabulary) for each pair."""
        batch = self.plan(chunks)
        logits = self.runner.run(batch).clone()
        return list(torch.split(logits, [len(tokens) for _, tokens in chunks]))

    def plan(self, chunks: Sequence[tuple[int, Sequence[int]]]) -> StepBatch:
        """The step's batch, pages taken as needed."""
        size = self.runner.info.page_size
        positions: list[NDArray[np.int64]] = []
        for name, tokens in chunks:
            sequence = self.sequences.setdefault(name, PagedSequence())
            positions.append(np.arange(sequence.length, sequence.length + len(tokens), dtype=np.int64))
            sequence.length += len(tokens)
            while len(sequence.pages) * size < sequence.length:
                sequence.pages.append(self._free.pop())
        held = [self.sequences[name] for name, _ in chunks]
        table = np.zeros((len(held), max(len(s.pages) for s in held)), np.int32)
        for row, sequence in zip(table, held, strict=True):
            row[: len(sequence.pages)] = sequence.pages
        slots = [row[p // size].astype(np.int64) * size + p % size for row, p in zip(table, positions, strict=True)]
        total = sum(map(len, positions))
        return StepBatch(
            token_ids=np.concatenate([np.asarray(tokens, np.int64) for _, tokens in chunks]),
            positions=np.concatenate(positions),
            query_starts=np.cumsum([0, *map(len, positions)]).astype(np.int32),
            context_lengths=np.array([s.length for s in held], np.int32),
            page_table=table,
            slots=np.concatenate(slots),
            logit_rows=np.arange(total, dtype=np.int64),
        )


def random_tokens(count: int, vocabulary: int, seed: int) -> list[int]:
    """Token ids, drawn evenly."""
    return [int(t) for t in np.random.default_rng(seed).integers(3, vocabulary, count)]
