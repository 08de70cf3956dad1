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

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from typing import Protocol

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from engine import logits as passes
from engine.history import History
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
from watermark import Choice, Embedder, Kind
from watermark.schemes import Gumbel, Kgw, SelfHash

_EVERYTHING = np.empty(0, np.int32)  # stands for "no mask" in the kernels
_RESPELLINGS = 16  # unusual spellings in a row after which the first is taken
_WORTH_A_THREAD = 1 << 18  # logits: about 50 µs of work


class Rule(msgspec.Struct, frozen=True):
    """How a request draws, as the kernels read it; the same for all of its rows."""

    numbers: tuple[float, ...]  # the columns of `settling.settle`'s rules
    packed: bytes  # the same as float64: a step's rules are these, one behind the other
    seed: int
    typical_p: float
    bias_ids: list[int]
    bias: list[float]

    @classmethod
    def of(cls, sampling: Sampling) -> Rule:
        """`temperature == 0` is greedy: then nothing is scaled or truncated."""
        greedy = sampling.temperature == 0.0
        numbers = (
            1.0 if greedy else 1.0 / sampling.temperature,
            float(greedy),
            float(sampling.top_k or 0),
            sampling.top_p,
            sampling.min_p,
            sampling.repetition_penalty,
            sampling.frequency_penalty,
            sampling.presence_penalty,
        )
        return cls(
            numbers=numbers,
            packed=np.array(numbers, np.float64).tobytes(),
            seed=sampling.seed & 0xFFFFFFFFFFFFFFFF,
            typical_p=1.0 if greedy else sampling.typical_p,
            bias_ids=list(sampling.logit_bias),
            bias=list(sampling.logit_bias.values()),
        )

    @property
    def scale(self) -> float:
        return self.numbers[0]

    @property
    def is_greedy(self) -> bool:
        return self.numbers[1] > 0.0

    @property
    def limits(self) -> NDArray[np.float64]:
        """(top_k or 0, top_p, min_p)."""
        return np.array(self.numbers[2:5])

    @property
    def truncates(self) -> bool:
        """Whether some legal tokens may not be drawn."""
        top_k, top_p, min_p = self.numbers[2:5]
        return not self.is_greedy and (top_k > 0 or top_p < 1.0 or min_p > 0.0 or self.typical_p < 1.0)

    @property
    def is_typical(self) -> bool:
        """Whether the survivors are not simply the likeliest."""
        return self.typical_p < 1.0

    @property
    def penalises(self) -> bool:
        """Whether rows of this request need a History."""
        return self.numbers[5:8] != (1.0, 0.0, 0.0)


class Marking(msgspec.Struct, frozen=True):
    """The watermark's view of one position: eligible, with `context` standing before it in its value."""

    embedder: Embedder
    context: list[int]
    kind: Kind
    keeps: Callable[[int], bool] | None = None  # whether a token is the usual spelling; None: any will do

    @property
    def marks(self) -> bool:
        """Whether the scheme chooses here."""
        return self.embedder.marks(self.context, self.kind)

    @property
    def seeds(self) -> tuple[np.uint64, ...]:
        """What kernels must know to choose here, where the scheme does."""
        return self.embedder.seeds(self.context, self.kind)


class Row(msgspec.Struct, frozen=True):
    """One row of logits to choose a token from, or to score a known one with."""

    rule: Rule
    position: int  # of the token among those emitted
    mask: int | None = None  # row of the masks: the grammar alone
    drawn_from: int | None = None  # row of the masks: what may be drawn
    alternatives: int = 0  # how many log-probs to report beside the token's own
    known: int | None = None
    forced: bool = False  # exactly one token is legal under the grammar alone
    history: History | None = None
    marking: Marking | None = None

    @property
    def is_marked(self) -> bool:
        """Whether the watermark chooses its token, by what is committed now."""
        marking = self.marking
        if marking is None or self.known is not None:
            return False
        return (marking.embedder.scheme.marks_greedy or not self.rule.is_greedy) and marking.marks

    @property
    def way(self) -> int:
        """Who makes the choice, here and on a device: UNMARKED, RACE, NEAR_TIE, or BY_ROW for all without a kernel."""
        if self.marking is None or self.rule.is_typical or not self.is_marked:
            return UNMARKED
        scheme = self.marking.embedder.scheme
        if isinstance(scheme, Gumbel):
            return RACE
        is_list = isinstance(scheme, Kgw) and not isinstance(scheme, SelfHash)
        return NEAR_TIE if is_list and self.rule.is_greedy else BY_ROW

    def stands(self, token: int, *, was_marked: bool) -> bool:
        """Whether a token that was chosen with the step's other rows stays, now that all before it are committed.

        It does not if a draft's token has just used its context, or if it is no usual spelling.
        """
        if self.marking is None or self.known is not None:
            return True
        return self.is_marked == was_marked and (self.marking.keeps is None or self.marking.keeps(token))


class Drawn(msgspec.Struct, frozen=True):
    """What came of a row. Natural logarithms."""

    token_id: int
    logprob: float
    constrained_logprob: float
    legal_mass: float
    alternatives: list[Alternative] = []
    choice: Choice | None = None  # of the watermark, if the position was eligible


class Rejected(msgspec.Struct, frozen=True):
    """Nothing can be drawn from this row: its logits are not finite, or no token is legal."""

    is_numeric: bool


class Sampler(Protocol):
    """Draws for the rows of a step; the loop's, where logits lie."""

    def measure(
        self, logits: torch.Tensor, rows: Sequence[Row], masks: NDArray[np.int32], names: Names = NO_NAMES
    ) -> None:
        """Takes a step's rows: `logits` (R, V) float32 and the masks must stay until the last `draw`.

        `names`: what some rows of the masks are known by, step after step (`MaskRows.names`).
        """
        ...

    def draw(self, index: int) -> Drawn | Rejected:
        """What row `index` of the step gives; the logits are as they were."""
        ...


class CpuSampler:
    """Buffers for one engine's rows. Only the loop's thread calls it; it shares rows out among `threads`."""

    def __init__(self, width: int, threads: int = 1) -> None:
        self._width = width
        self._every = np.arange(width, dtype=np.int32)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="sampler") if threads > 1 else None
        self._rows: Sequence[Row] = []
        self._out = _buffers(16, width)
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
        look_at_spellings(rows, self._tokens)
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
        if token >= 0 and row.stands(token, was_marked=was_marked):
            logprob, constrained_logprob, legal_mass = self._figures[index]
            choice = self._choice(index, row) if row.marking is not None and row.known is None else None
            return Drawn(token, logprob, constrained_logprob, legal_mass, self._alternatives(index), choice)
        if token < 0 and token != LEFT_OUT:
            return Rejected(is_numeric=token == NOT_FINITE)
        settled = (token, self._choice(index, row)) if token >= 0 and row.is_marked == was_marked else None
        token, choice = self._choose(index, row, settled)
        if token < 0:
            return Rejected(is_numeric=False)
        logit = float(self._logits[index, token])
        raw_lse, legal_lse = float(self._out.raw_lse[index]), float(self._out.legal_lse[index])
        return Drawn(
            token,
            logit - raw_lse,
            logit - legal_lse,
            min(1.0, float(np.exp(legal_lse - raw_lse))),
            self._alternatives(index),
            choice,
        )

    def _choice(self, index: int, row: Row) -> Choice:
        """Of a row that was settled."""
        assert row.marking is not None
        if self._marks.kinds[index] == UNMARKED:
            return Choice(0, False)
        return row.marking.embedder.scheme.as_choice(self._tokens[index], float(self._out.marked[index]))

    def _alternatives(self, index: int) -> list[Alternative]:
        count = self._rows[index].alternatives
        if count == 0:
            return []
        logits, raw_lse = self._logits[index], float(self._out.raw_lse[index])
        ids, values = passes.rank(logits, self._out.raw_peaks[index], min(count, len(logits)))
        return [Alternative(int(token), float(value) - raw_lse) for token, value in zip(ids, values, strict=True)]

    # Rows that are drawn alone

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
        logits, rule, marking, mask = self._logits[index], row.rule, row.marking, self._mask_of(row)
        peaks, sums, uniform = self._out.peaks[index], self._out.sums[index], float(self._noise[index])
        choice = Choice(0, False)
        if marking is not None and marking.marks:
            ids, values = self._candidates(row, logits, mask, peaks)
            if not len(ids):
                return -1, None
            choice = self._marked(row, marking, ids, values, uniform)
            token = int(ids[choice.index])
        elif rule.is_greedy:
            token = passes.best_legal(logits, mask, peaks)
        elif not rule.truncates:
            token = passes.draw(logits, mask, rule.scale, peaks, sums, uniform)
        else:
            ids, values = self._candidates(row, logits, mask, peaks)
            token = int(ids[passes.pick(values, uniform)]) if len(ids) else -1
        if marking is None:
            return token, None
        if token < 0 or marking.keeps is None or marking.keeps(token):
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


def look_at_spellings(rows: Sequence[Row], tokens: Sequence[int]) -> None:
    """Asks of every request's first new token whether it is the usual spelling, one after the other.

    The answers are kept (`canonical`). Asked for when a row is drawn, amid all else, each would take several times as
    long: the tokenizer is then no longer in the processor's caches.
    """
    before = None
    for row, token in zip(rows, tokens, strict=True):
        marking = row.marking
        if marking is None or marking.embedder is before or row.known is not None or token < 0:
            continue
        before = marking.embedder
        if marking.keeps is not None:
            with suppress(Exception):  # it is asked again in the guard of its own request
                marking.keeps(token)


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
    made = Marks(np.full(len(rows), UNMARKED), np.zeros(len(rows), np.uint64), np.zeros(len(rows)), np.zeros(len(rows)))
    for index, row in enumerate(rows):
        try:
            _mark(made, index, row)
        except Exception as error:  # one request's guard
            broken[index] = error
    return made, broken


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
    passes.best_legal(logits[0].numpy(), masks[0], peaks)
    passes.draw(logits[0].numpy(), masks[0], 1.0, peaks, peaks, 0.5)
    passes.weigh(logits[0].numpy(), masks[0], 1.0, peaks, peaks.copy())
