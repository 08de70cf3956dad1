"""From logits to tokens, one row at a time, whoever else is in the batch.

What it is for: the order of design section 5 in one place: raw logits → log-probs of the model → logit bias → grammar
mask → penalties → temperature → typical, top-k, top-p, min-p → watermark → draw. What may not enter: matchers,
sequences, pages.

The idea: a first, fused pass measures every row (is it finite? raw and legal log-sum-exp). Rows that change nothing
(greedy, or temperature 1 and no truncation) draw from those measures; the others pass over their row once or twice
more. Log-probs always come from the first pass, so no bias, penalty, temperature, budget or watermark can show in them.
All rows that need nothing but numbers are settled in one compiled call (`settling`), the two default watermarks
among them. Typical sampling, the other watermarks and a marked token that does not stand are drawn row by row, when
they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from engine import logits as passes
from engine.drawing import Drawn, Marking, Rejected, Row, Rule
from engine.masks import NO_NAMES, Names
from engine.messages import Alternative, Sampling
from engine.noise import uniform as uniform_at
from engine.noise import uniforms
from engine.settling import (
    BY_ROW,
    LEFT_OUT,
    NEAR_TIE,
    NOT_FINITE,
    RACE,
    UNMARKED,
    Buffers,
    Changes,
    Marks,
    change,
    restore,
    settle,
)
from engine.truncation import scratch, truncate
from engine.typical import typical
from watermark import Choice
from watermark.schemes import Kgw

_EVERYTHING = np.empty(0, np.int32)  # stands for "no mask" in the kernels
_RESPELLINGS = 16  # unusual spellings in a row after which the first is taken
_WORTH_A_THREAD = 1 << 18  # logits: about 50 µs of work


class CpuSampler:
    """Buffers for one engine's rows. Only the loop's thread calls it; it shares rows out among `threads`."""

    def __init__(self, width: int, threads: int = 1) -> None:
        self._width = width
        self._every = np.arange(width, dtype=np.int32)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="sampler") if threads > 1 else None
        self._rows: Sequence[Row] = []
        self._out, self._one = _buffers(16, width), _buffers(1, width)
        self._rooms = [scratch(width) for _ in range(threads)]

    def measure(
        self,
        logits: torch.Tensor,
        rows: Sequence[Row],
        masks: NDArray[np.int32],
        names: Names = NO_NAMES,  # noqa: ARG002 - the masks are read where they lie
    ) -> None:
        """As Sampler."""
        self._logits, self._rows, self._masks = logits.cpu().numpy(), rows, masks
        if len(rows) > len(self._out.tokens):
            self._out = _buffers(2 * len(rows), self._width)
        packed = b"".join([row.rule.packed for row in rows])
        self._rules = np.frombuffer(bytearray(packed), np.float64).reshape(len(rows), 8)
        self._changes = _changes(rows)
        self._marks, self._broken = _marks(rows)
        self._noise = uniforms(
            np.array([row.rule.seed for row in rows], np.uint64), np.array([row.position for row in rows], np.uint64)
        )
        self._settle()
        self._tokens: list[int] = self._out.tokens[: len(rows)].tolist()
        self._usual = usual_spellings(rows, self._tokens)
        self._figures: list[list[float]] = self._out.figures[: len(rows)].tolist()

    def _settle(self) -> None:
        rows = self._rows
        mask_of = np.array([-1 if row.mask is None else row.mask for row in rows], np.int64)
        drawn_of = np.array([-1 if row.drawn_from is None else row.drawn_from for row in rows], np.int64)
        known = np.array(
            [_known(row, kind) for row, kind in zip(rows, self._marks.kinds.tolist(), strict=True)], np.int64
        )

        def share(thread: int, first: int, last: int) -> None:
            settle(
                self._logits,
                self._masks,
                mask_of,
                drawn_of,
                known,
                self._rules,
                self._noise,
                self._changes,
                self._marks,
                self._out,
                self._rooms[thread],
                first,
                last,
            )

        shares = min(self._threads, len(rows), 1 + len(rows) * self._width // _WORTH_A_THREAD)
        borders = [len(rows) * index // shares for index in range(shares + 1)] if rows else [0, 0]
        own, *others = pairwise(borders)
        waiting = [self._pool.submit(share, 1 + i, *other) for i, other in enumerate(others)] if self._pool else []
        share(0, *own)
        for each in waiting:
            each.result()

    def draw(self, index: int) -> Drawn | Rejected:
        """What row `index` of the step gives. Leaves the logits as they were."""
        if index in self._broken:
            raise self._broken[index]
        token, row = self._tokens[index], self._rows[index]
        was_marked = bool(self._marks.kinds[index] != UNMARKED)
        if token >= 0 and (index in self._usual or row.stands(token, was_marked=was_marked)):
            logprob, constrained_logprob, legal_mass = self._figures[index]
            choice = self._choice(index, row) if row.marking is not None and row.known is None else None
            return Drawn(token, logprob, constrained_logprob, legal_mass, self._alternatives(index), choice)
        if token < 0 and token != LEFT_OUT:
            return Rejected(is_numeric=token == NOT_FINITE)
        settled = (token, self._choice(index, row)) if token >= 0 and row.is_marked == was_marked else None
        by_candidates = row.rule.truncates or row.way == BY_ROW
        token, choice = (self._choose if by_candidates else self._settled_again)(index, row, settled)
        if token < 0:
            return Rejected(is_numeric=False)
        logit = float(self._logits[index, token])
        raw_lse, legal_lse = float(self._out.raw_lse[index]), float(self._out.legal_lse[index])
        return Drawn(
            token,
            logit - raw_lse,
            logit - legal_lse,
            min(1.0, math.exp(legal_lse - raw_lse)),  # libm's, as in the kernel: numpy's own differs in the last bit
            self._alternatives(index),
            choice,
        )

    def _choice(self, index: int, row: Row) -> Choice:
        """Of a row that was settled."""
        return _choice(row, int(self._marks.kinds[index]), self._tokens[index], float(self._out.marked[index]))

    def _alternatives(self, index: int) -> list[Alternative]:
        count = self._rows[index].alternatives
        if count == 0:
            return []
        logits, raw_lse = self._logits[index], float(self._out.raw_lse[index])
        ids, values = passes.rank(logits, self._out.raw_peaks[index], min(count, len(logits)))
        return [Alternative(int(token), float(value) - raw_lse) for token, value in zip(ids, values, strict=True)]

    # Rows that are drawn alone

    def _settled_again(self, index: int, row: Row, settled: tuple[int, Choice] | None) -> tuple[int, Choice | None]:
        """As `_choose`, by the compiled call: what is no usual spelling leaves the mask, and the rest is settled.

        Greedy rows end with the likeliest of what is left, unmarked.
        """
        assert row.marking is not None
        mask = np.full((self._width + 31) // 32, -1, np.int32) if row.drawn_from is None else self._mask_of(row).copy()
        first = settled
        if settled is not None:
            _leave_out(mask, settled[0])
        for tries in range(int(settled is not None), _RESPELLINGS * (1 + row.rule.is_greedy)):
            kind = row.way if tries < _RESPELLINGS else UNMARKED
            token, figure = self._settle_alone(index, row, mask, kind, tries)
            if token < 0:
                break
            found = token, _choice(row, kind, token, figure)
            if row.marking.keeps is None or row.marking.keeps(token):
                return found
            first = first or found
            _leave_out(mask, token)
        return first or (-1, None)

    def _settle_alone(self, index: int, row: Row, mask: NDArray[np.int32], kind: int, tries: int) -> tuple[int, float]:
        """The token of one row under another mask, and what is to be said of its mark; each try has its own noise."""
        marks = _no_marks(1)
        if kind != UNMARKED:
            _mark(marks, 0, row)
        noise = self._noise[index] if tries == 0 else uniform_at(row.rule.seed, row.position + (tries << 48))
        here, only, draws = slice(index, index + 1), np.zeros(1, np.int64), np.full(1, -1, np.int64)
        settle(
            self._logits[here],
            mask[None],
            only,
            only,
            draws,
            self._rules[here],
            np.full(1, noise),
            _changes([row]),
            marks,
            self._one,
            self._rooms[0],
            0,
            1,
        )
        return int(self._one.tokens[0]), float(self._one.marked[0])

    def _choose(self, index: int, row: Row, settled: tuple[int, Choice] | None) -> tuple[int, Choice | None]:
        """The token and, where the watermark looked at the position, its choice; −1 if no token is legal.

        `settled`: what was chosen already, and is no usual spelling.
        """
        logits, rule = self._logits[index], row.rule
        saved = change(logits, self._changes, index, self._rules[index])
        try:
            if len(saved) or row.drawn_from != row.mask or (rule.scale != 1.0 and not rule.truncates):
                mask = self._mask_of(row)
                passes.weigh(logits, mask, rule.scale, self._out.peaks[index], self._out.sums[index])
            return self._draw(index, row) if settled is None else self._respelled(index, row, settled)
        finally:
            restore(logits, self._changes, index, saved)

    def _draw(self, index: int, row: Row) -> tuple[int, Choice | None]:
        ids, values = self._candidates(row, self._logits[index], self._mask_of(row), self._out.peaks[index])
        if not len(ids):
            return -1, None
        marking, uniform, choice = row.marking, float(self._noise[index]), Choice(0, False)
        if marking is not None and marking.marks:
            choice = self._marked(row, marking, ids, values, uniform)
            token = int(ids[choice.index])
        else:
            token = int(ids[passes.pick(values, uniform)])
        if marking is None:
            return token, None
        if marking.keeps is None or marking.keeps(token):
            return token, choice
        return self._respelled(index, row, (token, choice))

    @staticmethod
    def _marked(row: Row, marking: Marking, ids: NDArray[np.int32], values: passes.F32, uniform: float) -> Choice:
        return marking.embedder.choose(ids, values, marking.context, marking.kind, uniform, greedy=row.rule.is_greedy)

    def _respelled(self, index: int, row: Row, first: tuple[int, Choice]) -> tuple[int, Choice]:
        """The choice among the usual spellings: what is none is left out, and the choice made again.

        Each time with noise of its own, else what follows the left-out token's interval would be drawn too often.
        """
        marking = row.marking
        assert marking is not None
        ids, values = self._candidates(row, self._logits[index], self._mask_of(row), self._out.peaks[index])
        token = first[0]
        for tries in range(1, _RESPELLINGS):
            rest = ids != token
            ids, values = ids[rest], values[rest]
            if not len(ids):
                break
            uniform = uniform_at(row.rule.seed, row.position + (tries << 48))
            choice = self._marked(row, marking, ids, values, uniform)
            token = int(ids[choice.index])
            if marking.keeps is None or marking.keeps(token):
                return token, choice
        return (self._likeliest_kept(index, row, marking) if row.rule.is_greedy else None) or first

    def _likeliest_kept(self, index: int, row: Row, marking: Marking) -> tuple[int, Choice] | None:
        """The best usual spelling beyond the near ties, unmarked; None if there is none among the first few."""
        ids, values = passes.gather(self._logits[index], self._mask_of(row), self._out.peaks[index], np.inf)
        least = np.partition(values, -_RESPELLINGS)[-_RESPELLINGS] if len(values) > _RESPELLINGS else -np.inf
        few = np.flatnonzero(values >= least)  # sorting all of them would take longer than the rest of the step
        for place in few[np.argsort(-values[few], kind="stable")][:_RESPELLINGS]:
            if marking.keeps is None or marking.keeps(int(ids[place])):
                return int(ids[place]), Choice(0, False)
        return None

    def _mask_of(self, row: Row) -> NDArray[np.int32]:
        return _EVERYTHING if row.drawn_from is None else self._masks[row.drawn_from]

    def _candidates(
        self, row: Row, logits: passes.F32, mask: NDArray[np.int32], peaks: passes.F32
    ) -> tuple[NDArray[np.int32], passes.F32]:
        """What may still be chosen, with scaled logits."""
        rule = row.rule
        if not rule.truncates and not len(mask) and not rule.is_greedy:
            return self._every, logits * np.float32(rule.scale) if rule.scale != 1.0 else logits
        if not rule.truncates:
            reach = np.inf if row.marking is None else row.marking.embedder.window(greedy=rule.is_greedy) / rule.scale
            ids, values = passes.gather(logits, mask, peaks, reach)
            return ids, values * np.float32(rule.scale)
        if rule.typical_p >= 1.0:
            return truncate(logits, mask, rule.scale, peaks, rule.limits, self._rooms[0])
        ids, values = passes.gather(logits, mask, peaks, np.inf)
        return typical(ids, values * np.float32(rule.scale), rule.typical_p, rule.limits)


def usual_spellings(rows: Sequence[Row], tokens: Sequence[int]) -> set[int]:
    """Of the first rows of requests, those whose tokens are usual spellings: they stand, since nothing precedes them.

    Asked for when a row is drawn, amid all else, each answer would take several times as long: the tokenizer is then no
    longer in the processor's caches. A request's rows share its rule, and no other's do.
    """
    usual: set[int] = set()
    for index, row in enumerate(rows):
        marking = row.marking
        if (
            marking is None
            or row.known is not None
            or tokens[index] < 0
            or (index and rows[index - 1].rule is row.rule)
        ):
            continue
        with suppress(Exception):  # it is asked again in the guard of its own request
            if marking.keeps is None or marking.keeps(tokens[index]):
                usual.add(index)
    return usual


def _choice(row: Row, kind: int, token: int, figure: float) -> Choice:
    """What the watermark says of a token that `settle` chose."""
    assert row.marking is not None
    return Choice(0, False) if kind == UNMARKED else row.marking.embedder.scheme.as_choice(token, figure)


def _leave_out(mask: NDArray[np.int32], token: int) -> None:
    mask.view(np.uint32)[token >> 5] &= np.uint32(0xFFFFFFFF ^ (1 << (token & 31)))


def _known(row: Row, kind: int) -> int:
    """What `settle` is told: a token to score, to draw, or to leave out what it cannot draw."""
    if row.known is not None:
        return row.known
    return LEFT_OUT if row.rule.is_typical or kind == BY_ROW else -1


def _marks(rows: Sequence[Row]) -> tuple[Marks, dict[int, Exception]]:
    """How each row is marked, by what is committed now; `settle` makes the two default choices.

    What goes wrong with a row is its own request's affair: it is kept, and raised when that row is drawn.
    """
    broken: dict[int, Exception] = {}
    made = _no_marks(len(rows))
    for index, row in enumerate(rows):
        try:
            _mark(made, index, row)
        except Exception as error:  # one request's guard
            broken[index] = error
    return made, broken


def _no_marks(rows: int) -> Marks:
    return Marks(np.full(rows, UNMARKED), np.zeros(rows, np.uint64), np.zeros(rows), np.zeros(rows))


def _mark(made: Marks, index: int, row: Row) -> None:
    way = row.way
    if row.marking is not None and way in {RACE, NEAR_TIE}:
        scheme = row.marking.embedder.scheme
        made.seeds[index] = row.marking.seeds[0]
        if isinstance(scheme, Kgw):
            made.gammas[index], made.deltas[index] = scheme.gamma, scheme.delta
    made.kinds[index] = way  # last: what failed before this is not marked, and told when the row is drawn


def _buffers(rows: int, width: int) -> Buffers:
    blocks = passes.blocks_of(width)
    return Buffers(
        raw_peaks=np.empty((rows, blocks), np.float32),
        peaks=np.empty((rows, blocks), np.float32),
        sums=np.empty((rows, blocks), np.float32),
        raw_lse=np.empty(rows, np.float64),
        legal_lse=np.empty(rows, np.float64),
        tokens=np.empty(rows, np.int64),
        figures=np.zeros((rows, 3), np.float64),
        marked=np.zeros(rows, np.float64),
    )


def _changes(rows: Sequence[Row]) -> Changes:
    """Bias first, then penalties, row by row."""
    if not any(row.history is not None or row.rule.bias_ids for row in rows):
        nothing = np.empty(0, np.float32)
        return Changes(np.zeros(len(rows) + 1, np.int64), np.empty(0, np.int64), nothing, nothing)
    counts = [len(row.rule.bias_ids) + (0 if row.history is None else len(row.history.ids)) for row in rows]
    starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    total = int(starts[-1])
    made = Changes(starts, np.empty(total, np.int64), np.zeros(total, np.float32), np.full(total, -1, np.float32))
    for row, start, stop in zip(rows, starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        bias = start + len(row.rule.bias_ids)
        made.ids[start:bias], made.bias[start:bias] = row.rule.bias_ids, row.rule.bias
        if row.history is not None:
            made.ids[bias:stop], made.counts[bias:stop] = row.history.ids, row.history.counts
    return made


def warm() -> None:
    """Compiles (or loads from numba's cache) every kernel, so that none falls on a request."""
    sampler = CpuSampler(40)
    logits, masks = torch.zeros((2, 40)), np.full((1, 2), -1, np.int32)
    plain = Rule.of(Sampling(max_tokens=1, seed=0, top_p=0.9, logit_bias={1: 1.0}))
    rare = Rule.of(Sampling(max_tokens=1, seed=0, top_p=0.9, typical_p=0.9))
    sampler.measure(logits, [Row(plain, 0, mask=0, drawn_from=0, alternatives=2), Row(rare, 0)], masks)
    sampler.draw(0)
    sampler.draw(1)
    peaks = np.zeros(1, np.float32)
    truncate(logits[0].numpy(), masks[0], 1.0, peaks, np.array([3.0, 0.9, 0.1]), scratch(40))
    passes.weigh(logits[0].numpy(), masks[0], 1.0, peaks, peaks.copy())
