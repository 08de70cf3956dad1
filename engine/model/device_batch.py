"""A step batch on a device, with what the kernels need to know on the host."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from engine.batch import StepBatch

BRIEF = 32  # tokens


@dataclass(frozen=True, slots=True)
class DeviceBatch:
    """The arrays of a StepBatch as tensors, and bounds that size launches (they may exceed what the step holds)."""

    token_ids: torch.Tensor
    positions: torch.Tensor
    query_starts: torch.Tensor
    context_lengths: torch.Tensor
    page_table: torch.Tensor
    slots: torch.Tensor
    logit_rows: torch.Tensor
    query_lengths: NDArray[np.int32]  # on the host
    longest_context: int
    derived: dict[str | int, tuple[torch.Tensor, ...]] = field(default_factory=dict)  # computed once a step

    @property
    def is_decode(self) -> bool:
        """Every sequence brings one token."""
        return self.token_ids.shape[0] == len(self.query_lengths)

    @property
    def is_brief(self) -> bool:
        """Every sequence brings few tokens, as when guesses are verified: they are treated as single ones are."""
        return self.longest_query <= BRIEF

    @property
    def longest_query(self) -> int:
        """Most tokens that a sequence brings."""
        return int(self.query_lengths.max(initial=0))

    def blocks(self, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cuts each sequence's queries into blocks of `tokens`: (sequence, first token) of each block, int32."""
        if tokens not in self.derived:
            self.derived[tokens] = self._cut(tokens)
        sequences, firsts = self.derived[tokens]
        return sequences, firsts

    def key_starts(self) -> torch.Tensor:
        """(S + 1,) int32: context lengths added up."""
        if "key_starts" not in self.derived:
            ends = torch.cumsum(self.context_lengths, 0, dtype=torch.int32)
            self.derived["key_starts"] = (torch.nn.functional.pad(ends, (1, 0)),)
        return self.derived["key_starts"][0]

    def _cut(self, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        device = self.token_ids.device
        if (self.query_lengths == self.longest_query).all():  # nothing comes from the host: can be recorded
            each = -(-self.longest_query // tokens)
            blocks = torch.arange(len(self.query_lengths) * each, dtype=torch.int32, device=device)
            return blocks // each, blocks % each * tokens
        counts = -(-self.query_lengths // tokens)
        owners = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        ordinal = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        return torch.from_numpy(owners).to(device), torch.from_numpy((ordinal * tokens).astype(np.int32)).to(device)


def to_device(batch: StepBatch, device: torch.device) -> DeviceBatch:
    """Copies; asynchronous with respect to the device, not to the host."""

    def moved(array: NDArray[np.int64] | NDArray[np.int32]) -> torch.Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    return DeviceBatch(
        token_ids=moved(batch.token_ids),
        positions=moved(batch.positions),
        query_starts=moved(batch.query_starts),
        context_lengths=moved(batch.context_lengths),
        page_table=moved(batch.page_table),
        slots=moved(batch.slots),
        logit_rows=moved(batch.logit_rows),
        query_lengths=np.diff(batch.query_starts),
        longest_context=int(batch.context_lengths.max(initial=0)),
    )
