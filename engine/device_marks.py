"""Which rows of a step carry the watermark, and their tokens, chosen where the logits lie.

What it is for: `device_sampler` lets all rows be drawn and then puts these tokens in the place of those that were drawn
with a request's own noise. What may not enter: keys, truncation, the host's kernels.

The idea: a scheme's rows are chosen together. The two defaults have kernels (`triton_marking`); what is asked for by
name (a biased draw, pairs, a tournament) is a dozen operations over whole rows (`watermark.tensors`), some rows at a
time, since they want memory. What the step before decided is known when a step is measured; whether two of its own
rows (a draft) share a context is not, so `draw` asks again and settles the rare difference on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine import triton_marking as kernels
from engine.drawing import Row
from engine.settling import NEAR_TIE, RACE, UNMARKED
from engine.triton_sampling import Ruled, log_sum
from watermark import Scheme, tensors
from watermark.schemes import Kgw

FIGURES = 2  # columns of what `Scheme.as_choice` reads
_ROOM = 1 << 21  # logits that `tensors` is given at once: it takes some tens of bytes for each

Send = Callable[[NDArray[Any]], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of a step that one scheme marks."""

    scheme: Scheme
    greedy: bool
    way: int  # as `Row.way`
    rows: list[int]
    seeds: list[tuple[np.uint64, ...]]  # of each row, equally many

    def shares(self, width: int) -> Iterator[Group]:
        """The same in parts that `tensors` has room for."""
        most = max(1, _ROOM // width)
        for at in range(0, len(self.rows), most):
            yield Group(self.scheme, self.greedy, self.way, self.rows[at : at + most], self.seeds[at : at + most])


def groups_of(rows: Sequence[Row]) -> tuple[list[Group], dict[int, Exception]]:
    """The rows whose next token the mark chooses, as far as can be known before the step's first token.

    And what went wrong with which: their own requests' affair, when they are drawn.
    """
    found: dict[tuple[Scheme, bool, int], Group] = {}
    broken: dict[int, Exception] = {}
    for index, row in enumerate(rows):
        try:
            way = row.way
            if row.marking is None or way == UNMARKED:
                continue
            scheme, greedy, seeds = row.marking.embedder.scheme, row.rule.is_greedy, row.marking.seeds
        except Exception as error:  # one request's guard
            broken[index] = error
            continue
        group = found.setdefault((scheme, greedy, len(seeds)), Group(scheme, greedy, way, [], []))
        group.rows.append(index)
        group.seeds.append(seeds)
    return list(found.values()), broken


@dataclass(frozen=True, slots=True)
class Drawing:
    """What a step's rows are drawn from, and what was found on the way."""

    ruled: Ruled
    peaks: torch.Tensor  # (R, blocks), as the sums: of `triton_sampling.survey`, told the same
    sums: torch.Tensor
    noise: torch.Tensor  # (R,) float64
    dense: Callable[[torch.Tensor], torch.Tensor]  # rows → (n, V) scaled logits, −inf where nothing may be drawn


def choose(groups: Sequence[Group], drawing: Drawing, drawn: torch.Tensor, send: Send) -> torch.Tensor:
    """Replaces the tokens of the groups' rows in `drawn` (R,); (R, 2) figures, NaN where there is no mark.

    A row without a legal token keeps its −1. Does not wait for the device.
    """
    figures = torch.full((len(drawn), FIGURES), torch.nan, dtype=torch.float64, device=drawn.device)
    for group in groups:
        by = _KERNELS.get(group.way)
        for part in [group] if by is not None else group.shares(drawing.ruled.logits.shape[1]):
            rows = send(np.array(part.rows, np.int32))
            seeds = send(np.array(part.seeds, np.uint64).view(np.int64))
            at = rows.long()
            tokens, told = (by or _by_tensors)(part, drawing, rows, seeds, drawn[at])
            figures.index_copy_(0, at, told)
            drawn.index_copy_(0, at, torch.where(drawn[at] < 0, -1, tokens))
    return figures


Chosen = tuple[torch.Tensor, torch.Tensor]
Choosing = Callable[[Group, Drawing, torch.Tensor, torch.Tensor, torch.Tensor], Chosen]


def _told(first: torch.Tensor) -> torch.Tensor:
    return torch.stack([first, torch.zeros_like(first)], dim=1)


def _race(_: Group, drawing: Drawing, rows: torch.Tensor, seeds: torch.Tensor, __: torch.Tensor) -> Chosen:
    """The keyed race, and the winner's probability."""
    winners = kernels.race(drawing.ruled, rows, seeds[:, 0].contiguous())
    at = rows.long()
    scales = drawing.ruled.scales[at]
    logits = drawing.ruled.logits[at, winners.clamp(min=0)] * scales
    lse = log_sum(drawing.peaks[at] * scales[:, None], drawing.sums[at])
    return winners, _told((logits.double() - lse).exp())


def _green(group: Group, drawing: Drawing, rows: torch.Tensor, seeds: torch.Tensor, drawn: torch.Tensor) -> Chosen:
    """The likeliest green near tie, else what was drawn (the best); the chance over keys that it is green."""
    scheme = group.scheme
    assert isinstance(scheme, Kgw)
    ruled, first = drawing.ruled, seeds[:, 0].contiguous()
    tokens, near = kernels.greenest(ruled, rows, first, drawing.peaks, scheme.gamma, scheme.delta)
    return torch.where(tokens < 0, drawn, tokens), _told(1.0 - (1.0 - scheme.gamma) ** near.double())


def _by_tensors(group: Group, drawing: Drawing, rows: torch.Tensor, seeds: torch.Tensor, _: torch.Tensor) -> Chosen:
    at = rows.long()
    return tensors.choose(group.scheme, drawing.dense(at), seeds, drawing.noise[at], greedy=group.greedy)


_KERNELS: dict[int, Choosing] = {RACE: _race, NEAR_TIE: _green}
