"""From logits to tokens, one row at a time, whoever else is in the batch.

What it is for: the order of design section 5 in one place: raw logits → log-probs of the model → logit bias → grammar
mask → penalties → temperature → typical, top-k, top-p, min-p → watermark → draw. What may not enter: matchers,
sequences, pages.

The idea: a first, fused pass measures every row (is it finite? raw and legal log-sum-exp). Rows that change nothing
(greedy, or temperature 1 and no truncation) draw from those measures; the others pass over their row once more. Log-
probs always come from the first pass, so no bias, penalty, temperature, budget or watermark can show in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from engine import logits as passes
from engine.messages import Alternative, Sampling
from engine.noise import uniforms
from engine.typical import typical
from watermark import Choice, Embedder, Kind

_EVERYTHING = np.empty(0, np.int32)  # stands for "no mask" in the kernels


@dataclass(frozen=True, slots=True)
class History:
    """What penalties look at: `ids` without repeats; `counts[i]`: how often the output holds `ids[i]`."""

    ids: NDArray[np.int64]
    counts: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Marking:
    """The watermark's view of one position: eligible, with `context` standing before it in its value."""

    embedder: Embedder
    context: list[int]
    kind: Kind


@dataclass(frozen=True, slots=True)
class Row:
    """One row of logits to choose a token from, or to score a known one with."""

    sampling: Sampling
    position: int  # of the token among those emitted
    mask: int | None = None  # row of the masks: the grammar alone
    drawn_from: int | None = None  # row of the masks: what may be drawn
    alternatives: int = 0  # how many log-probs to report beside the token's own
    known: int | None = None
    forced: bool = False  # exactly one token is legal under the grammar alone
    history: History | None = None
    marking: Marking | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """What came of a row. Natural logarithms."""

    token_id: int
    logprob: float
    constrained_logprob: float
    legal_mass: float
    alternatives: list[Alternative]
    choice: Choice | None = None  # of the watermark, if the position was eligible


@dataclass(frozen=True, slots=True)
class Rejected:
    """Nothing can be drawn from this row: its logits are not finite, or no token is legal."""

    is_numeric: bool


class CpuSampler:
    """Buffers for one engine's rows; single-threaded."""

    def __init__(self, width: int) -> None:
        self._blocks = passes.blocks_of(width)
        self._rows: list[Row] = []
        self._grow(16)

    def _grow(self, rows: int) -> None:
        self._raw_peaks = np.empty((rows, self._blocks), np.float32)
        self._peaks = np.empty((rows, self._blocks), np.float32)
        self._sums = np.empty((rows, self._blocks), np.float32)
        self._raw_lse = np.empty(rows, np.float64)
        self._legal_lse = np.empty(rows, np.float64)

    def measure(self, logits: torch.Tensor, rows: list[Row], masks: NDArray[np.int32]) -> None:
        """Takes a step's rows: `logits` (R, V) float32 and the masks must stay until the last `draw`."""
        # From a GPU this copies the rows to the host; a sampler on the device is still to be written (issue 4).
        self._logits, self._rows, self._masks = logits.cpu().numpy(), rows, masks
        if len(rows) > len(self._raw_lse):
            self._grow(2 * len(rows))
        mask_of = np.array([-1 if row.mask is None else row.mask for row in rows], np.int64)
        passes.measure(
            self._logits, masks, mask_of, self._raw_peaks, self._peaks, self._sums, self._raw_lse, self._legal_lse
        )
        self._noise = uniforms(
            np.array([row.sampling.seed & 0xFFFFFFFFFFFFFFFF for row in rows], np.uint64),
            np.array([row.position for row in rows], np.uint64),
        )

    def draw(self, index: int) -> Drawn | Rejected:
        """What row `index` of the step gives. Leaves the logits as they were."""
        row, logits = self._rows[index], self._logits[index]
        raw_lse, legal_lse = float(self._raw_lse[index]), float(self._legal_lse[index])
        if not np.isfinite(raw_lse):
            return Rejected(is_numeric=True)
        choice: Choice | None = None
        token = row.known
        if token is None:
            token, choice = self._choose(index, row)
        if token < 0:
            return Rejected(is_numeric=False)
        logit = float(logits[token])
        return Drawn(
            token_id=token,
            logprob=logit - raw_lse,
            constrained_logprob=logit - legal_lse,
            legal_mass=min(1.0, float(np.exp(legal_lse - raw_lse))),
            alternatives=self._alternatives(index, raw_lse),
            choice=choice,
        )

    def _alternatives(self, index: int, raw_lse: float) -> list[Alternative]:
        count = self._rows[index].alternatives
        if count == 0:
            return []
        logits = self._logits[index]
        ids, values = passes.rank(logits, self._raw_peaks[index], min(count, len(logits)))
        return [Alternative(int(token), float(value) - raw_lse) for token, value in zip(ids, values, strict=True)]

    def _choose(self, index: int, row: Row) -> tuple[int, Choice | None]:
        """The token and, where the watermark looked at the position, its choice; −1 if no token is legal."""
        logits, touched = self._logits[index], _touched(row)
        if touched is None:
            return self._draw(index, row, measured=row.drawn_from == row.mask)
        saved = logits[touched].copy()
        try:
            _adjust(logits, row)
            return self._draw(index, row, measured=False)
        finally:
            logits[touched] = saved

    def _draw(self, index: int, row: Row, *, measured: bool) -> tuple[int, Choice | None]:
        logits, sampling, marking = self._logits[index], row.sampling, row.marking
        mask = _EVERYTHING if row.drawn_from is None else self._masks[row.drawn_from]
        peaks, sums, uniform = self._peaks[index], self._sums[index], float(self._noise[index])
        greedy = sampling.temperature == 0.0
        scale = 1.0 if greedy else 1.0 / sampling.temperature
        truncates = not greedy and _truncates(sampling)
        if not measured or (scale != 1.0 and not truncates):
            passes.weigh(logits, mask, scale, peaks, sums)
        if marking is not None and marking.embedder.marks(marking.context, marking.kind):
            ids, values = self._candidates(row, logits, mask, scale, peaks)
            return _marked(marking, ids, values, uniform, greedy=greedy)
        unmarked = None if marking is None else Choice(0, False)
        if greedy:
            return passes.best_legal(logits, mask, peaks), unmarked
        if not truncates:
            return passes.draw(logits, mask, scale, peaks, sums, uniform), unmarked
        ids, values = self._candidates(row, logits, mask, scale, peaks)
        return (int(ids[passes.pick(values, uniform)]) if len(ids) else -1), unmarked

    def _candidates(
        self, row: Row, logits: passes.F32, mask: NDArray[np.int32], scale: float, peaks: passes.F32
    ) -> tuple[NDArray[np.int32], passes.F32]:
        """What may still be chosen, with scaled logits."""
        sampling = row.sampling
        greedy = sampling.temperature == 0.0
        if greedy or not _truncates(sampling):
            reach = np.inf if row.marking is None else row.marking.embedder.window(greedy=greedy) / scale
            ids, values = passes.gather(logits, mask, peaks, reach)
            return ids, values * np.float32(scale)
        limits = np.array([sampling.top_k or 0, sampling.top_p, sampling.min_p])
        if sampling.typical_p >= 1.0:
            return passes.truncate(logits, mask, scale, peaks, limits)
        ids, values = passes.gather(logits, mask, peaks, np.inf)
        return typical(ids, values * np.float32(scale), sampling.typical_p, limits)


def _truncates(sampling: Sampling) -> bool:
    return bool(sampling.top_k) or sampling.top_p < 1.0 or sampling.min_p > 0.0 or sampling.typical_p < 1.0


def _marked(
    marking: Marking, ids: NDArray[np.int32], values: passes.F32, uniform: float, *, greedy: bool
) -> tuple[int, Choice | None]:
    if len(ids) == 0:
        return -1, None
    choice = marking.embedder.choose(ids, values, marking.context, marking.kind, uniform, greedy=greedy)
    return int(ids[choice.index]), choice


def _touched(row: Row) -> NDArray[np.int64] | None:
    """The ids whose logits bias or penalties change; None if they change none."""
    bias = list(row.sampling.logit_bias)
    if row.history is None:
        return np.array(bias, np.int64) if bias else None
    return np.union1d(row.history.ids, np.array(bias, np.int64)) if bias else row.history.ids


def _adjust(logits: passes.F32, row: Row) -> None:
    """Logit bias, then penalties, in place. Repetition (Keskar et al. 2019): over prompt and output; others: output."""
    sampling = row.sampling
    for token, bias in sampling.logit_bias.items():
        logits[token] += bias
    if row.history is None:
        return
    ids, counts = row.history.ids, row.history.counts
    values = logits[ids]
    if sampling.repetition_penalty != 1.0:
        values = np.where(values > 0, values / sampling.repetition_penalty, values * sampling.repetition_penalty)
    values = values - sampling.frequency_penalty * counts - sampling.presence_penalty * (counts > 0)
    logits[ids] = values.astype(np.float32)


def penalises(sampling: Sampling) -> bool:
    """Whether rows of this request need a History."""
    return sampling.repetition_penalty != 1.0 or sampling.frequency_penalty != 0.0 or sampling.presence_penalty != 0.0
