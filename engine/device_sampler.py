"""The sampler where the logits lie on a device: nothing but the tokens and their log-probs comes back.

What it is for: the same order and the same noise as `sampler`, for all rows of a step at once, without waiting for the
device before the tokens are fetched. What may not enter: matchers, sequences, pages.

The idea: truncation ends as a mask. So whatever was asked for, a row is surveyed under its grammar's mask (log-probs)
and under what is left to draw from, and drawn by one kernel (`triton_sampling`). Rows with top-k, top-p or min-p are
sorted on the device; the others are read twice. The watermark chooses on the device too (`device_marks`). Two things
are the host's: typical sampling, and a marked row whose token is no usual spelling (one in a hundred) or whose context
a draft has just used: those rows, and only those, are copied there and handed to a CPU sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine import device_marks
from engine import triton_sampling as kernels
from engine.device_marks import Drawing, Group
from engine.device_masks import DeviceMasks
from engine.drawing import Drawn, Rejected, Row
from engine.masks import NO_NAMES, Names
from engine.messages import Alternative
from engine.noise import uniforms
from engine.sampler import CpuSampler
from engine.triton_sampling import Ruled
from watermark import Choice, Scheme

Send = Callable[[NDArray[Any]], torch.Tensor]


class DeviceSampler:
    """Implements the loop's sampler over logits on `device`. Only the loop's thread calls it."""

    def __init__(self, width: int, device: torch.device) -> None:
        self._width, self._device = width, device
        self._words = -(-width // 32)
        self.masks = DeviceMasks(self._words, device)
        self._alone, self._once = CpuSampler(width), CpuSampler(width)
        self._bits = torch.arange(32, dtype=torch.int32, device=device)

    def measure(
        self, logits: torch.Tensor, rows: Sequence[Row], masks: NDArray[np.int32], names: Names = NO_NAMES
    ) -> None:
        """Takes a step's rows: `logits` (R, V) float32 on the device. Waits for the device once, for the tokens."""
        self._logits, self._rows, self._masks_here, self._names = logits, rows, masks, names
        lone = [index for index, row in enumerate(rows) if row.known is None and row.rule.is_typical]
        self._lone = {index: place for place, index in enumerate(lone)}
        if lone:
            self._alone.measure(logits[self._sent(np.array(lone))], [rows[index] for index in lone], masks)
        groups, self._broken = device_marks.groups_of(rows)
        self._marked: dict[int, Scheme] = {index: group.scheme for group in groups for index in group.rows}
        if rows:  # a step may do no more than read a prompt's chunk
            self._fetched = self._settled(logits, rows, masks, groups).cpu().numpy()

    def draw(self, index: int) -> Drawn | Rejected:
        """What row `index` of the step gives."""
        if index in self._broken:
            raise self._broken[index]
        if index in self._lone:
            return self._alone.draw(self._lone[index])
        token, logprob, constrained_logprob, legal_mass, finite, first, second, *further = self._fetched[index].tolist()
        if not finite:
            return Rejected(is_numeric=True)
        if token < 0:
            return Rejected(is_numeric=False)
        if not self._rows[index].stands(int(token), was_marked=index in self._marked):
            return self._drawn_here(index)
        wanted, most = min(self._rows[index].alternatives, self._width), len(further) // 2
        alternatives = [Alternative(int(further[place]), further[most + place]) for place in range(wanted)]
        choice = self._choice(index, int(token), first, second)
        return Drawn(int(token), logprob, constrained_logprob, legal_mass, alternatives, choice)

    def _choice(self, index: int, token: int, first: float, second: float) -> Choice | None:
        if index in self._marked:
            return self._marked[index].as_choice(token, first, second)
        row = self._rows[index]
        return None if row.marking is None or row.known is not None else Choice(0, False)

    def _drawn_here(self, index: int) -> Drawn | Rejected:
        """Waits for the device again, for this row's logits."""
        self._once.measure(self._logits[index : index + 1], self._rows[index : index + 1], self._masks_here)
        return self._once.draw(0)

    def _settled(
        self, logits: torch.Tensor, rows: Sequence[Row], masks: NDArray[np.int32], groups: Sequence[Group]
    ) -> torch.Tensor:
        """(R, columns) float64 on the device: all that the host wants to know."""
        alone, drawn_of = self._masks_of(rows, masks)
        numbers = self._sent(np.array([row.rule.numbers for row in rows], np.float64))
        seeds = np.array([row.rule.seed for row in rows], np.uint64)
        noise = self._sent(uniforms(seeds, np.array([row.position for row in rows], np.uint64)))
        scales, greedy = numbers[:, 0].float(), numbers[:, 1].to(torch.int32)
        ones, no_mask = torch.ones_like(scales), torch.full_like(alone, -1)
        raw_lse = kernels.log_sum(*kernels.survey(Ruled(logits, self.masks.table, no_mask, ones)))
        legal_lse = kernels.log_sum(*kernels.survey(Ruled(logits, self.masks.table, alone, ones)))
        changed = _Changed(logits, rows, numbers, self._sent)
        drawn_of = self._truncated(logits, rows, drawn_of, numbers)
        ruled = Ruled(logits, self.masks.table, drawn_of, scales)
        surveyed = kernels.survey(ruled)
        drawn = kernels.draw(ruled, greedy, noise, surveyed)
        figures = device_marks.choose(groups, self._drawing(ruled, surveyed, noise), drawn, self._sent)
        changed.undo()
        known = self._sent(np.array([-1 if row.known is None else row.known for row in rows], np.int64))
        tokens = torch.where(known >= 0, known, drawn)
        chosen = logits.gather(1, tokens.clamp(min=0)[:, None])[:, 0].double()
        mass = (legal_lse - raw_lse).exp().clamp(max=1.0)
        columns = [tokens.double(), chosen - raw_lse, chosen - legal_lse, mass, torch.isfinite(raw_lse).double()]
        return torch.cat([torch.stack(columns, dim=1), figures, *self._alternatives(logits, rows, raw_lse)], dim=1)

    def _drawing(self, ruled: Ruled, surveyed: tuple[torch.Tensor, torch.Tensor], noise: torch.Tensor) -> Drawing:
        def dense(rows: torch.Tensor) -> torch.Tensor:
            scaled = ruled.logits[rows] * ruled.scales[rows, None]
            return torch.where(self._bits_of(ruled.mask_of[rows]), scaled, float("-inf"))

        return Drawing(ruled, *surveyed, noise, dense)

    def _alternatives(self, logits: torch.Tensor, rows: Sequence[Row], raw_lse: torch.Tensor) -> list[torch.Tensor]:
        """Ids, then log-probs, as many as the row that wants most; sorted stably, so that equal ones go by id."""
        most = min(max((row.alternatives for row in rows), default=0), self._width)
        if most == 0:
            return []
        values, ids = torch.sort(logits, dim=1, descending=True, stable=True)
        return [ids[:, :most].double(), values[:, :most].double() - raw_lse[:, None]]

    def _masks_of(self, rows: Sequence[Row], masks: NDArray[np.int32]) -> tuple[torch.Tensor, torch.Tensor]:
        wanted = [index for row in rows for index in (row.mask, row.drawn_from) if index is not None]
        places = self.masks.place(masks, wanted, self._names)
        return (
            self._sent(np.array([-1 if row.mask is None else places[row.mask] for row in rows], np.int32)),
            self._sent(np.array([-1 if row.drawn_from is None else places[row.drawn_from] for row in rows], np.int32)),
        )

    def _truncated(
        self, logits: torch.Tensor, rows: Sequence[Row], drawn_of: torch.Tensor, numbers: torch.Tensor
    ) -> torch.Tensor:
        """The masks to draw from, with those of rows that truncate replaced by their survivors'."""
        which = [index for index, row in enumerate(rows) if row.rule.truncates and row.known is None]
        if not which:
            return drawn_of
        chosen = self._sent(np.array(which))
        numbers, legal = numbers[chosen], self._bits_of(drawn_of[chosen])
        scaled = torch.where(legal, logits[chosen] * numbers[:, :1].float(), float("-inf"))
        kept = survivors(scaled, numbers[:, 2], numbers[:, 3], numbers[:, 4])
        table = self.masks.table
        first = self.masks.capacity
        if first + len(which) > len(table):
            self.masks.table = table = torch.cat([table, table.new_zeros((len(which), table.shape[1]))])
        table[first : first + len(which)] = self._packed(kept)
        own = torch.arange(first, first + len(which), dtype=torch.int32, device=self._device)
        return drawn_of.index_copy(0, chosen, own)

    def _bits_of(self, places: torch.Tensor) -> torch.Tensor:
        """(n, V) bool of rows of the table; −1: all."""
        words = self.masks.table[places.clamp(min=0).long()]
        bits = ((words[:, :, None] >> self._bits) & 1).flatten(1)[:, : self._width].bool()
        return bits | (places < 0)[:, None]

    def _packed(self, kept: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(kept, (0, 32 * self._words - self._width)).view(len(kept), self._words, 32)
        # Bit 31 is the sign: the sum of distinct powers of two wraps to the word that is meant.
        return (padded.to(torch.int32) << self._bits).sum(dim=2, dtype=torch.int32)

    def _sent(self, array: NDArray[Any]) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        if self._device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)


def survivors(scaled: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor, min_p: torch.Tensor) -> torch.Tensor:
    """(n, V) bool: what top-k (0: off), top-p of what it left, and min-p keep of scaled logits; equal ones go by id.

    At least one survives where any is legal (above −inf).
    """
    values, order = torch.sort(scaled, dim=1, descending=True, stable=True)
    place = torch.arange(values.shape[1], device=scaled.device)
    weights = (values - values[:, :1]).double().exp().nan_to_num(0.0)
    weights = torch.where((top_k[:, None] > 0) & (place >= top_k[:, None]), 0.0, weights)
    before = torch.cumsum(weights, dim=1) - weights
    kept = (before < top_p[:, None] * weights.sum(dim=1, keepdim=True)) | (top_p[:, None] >= 1.0)
    kept &= (weights > 0) & (weights >= min_p[:, None])
    return torch.zeros_like(kept).scatter(1, order, kept)


class _Changed:
    """Logit bias, then penalties, in place until `undo`; as `settling.change`."""

    def __init__(self, logits: torch.Tensor, rows: Sequence[Row], numbers: torch.Tensor, send: Send) -> None:
        self._flat, self._width = logits.view(-1), logits.shape[1]
        self._saved: list[tuple[torch.Tensor, torch.Tensor]] = []
        biased = [index for index, row in enumerate(rows) if row.rule.bias_ids]
        if biased:
            ids = [np.array(rows[index].rule.bias_ids, np.int64) for index in biased]
            bias = np.concatenate([np.array(rows[index].rule.bias, np.float32) for index in biased])
            owner = np.repeat(biased, [len(each) for each in ids])
            self._put(send(owner * self._width + np.concatenate(ids)), lambda x: x + send(bias))
        penalised = {index: row.history for index, row in enumerate(rows) if row.history is not None}
        if penalised:
            owner = np.repeat(list(penalised), [len(each.ids) for each in penalised.values()])
            ids = [each.ids for each in penalised.values()]
            counts = send(np.concatenate([each.counts for each in penalised.values()]))
            repetition, frequency, presence = numbers[send(owner)][:, 5:8].float().unbind(1)

            def penalty(x: torch.Tensor) -> torch.Tensor:
                repeated = torch.where(x > 0, x / repetition, x * repetition)
                return repeated - frequency * counts - presence * (counts > 0)

            self._put(send(owner * self._width + np.concatenate(ids)), penalty)

    def _put(self, places: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        before = self._flat[places]
        self._saved.append((places, before))
        self._flat[places] = change(before)

    def undo(self) -> None:
        """The logits are as they were."""
        for places, before in reversed(self._saved):
            self._flat[places] = before
