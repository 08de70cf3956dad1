"""All rows of a step in one compiled call: bias, mask, penalties, temperature, truncation, draw.

What it is for: the order of design section 5 between the measured logits and the token, for every row that needs
nothing but numbers; the two default watermarks among them, whose key arrives as one. What may not enter: typical
sampling and other watermarks, which draw row by row in `sampler`; Python objects.

The idea: a call of a compiled function from Python costs as much as a short row, so a step makes one. Each row is
treated by itself, with its own numbers; threads may share the rows out in any way without changing a token.

Trap: numba's disk cache looks at this file only, not at the kernels of `watermark` that are compiled into `settle`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels import exact
from engine.logits import ABSENT, F32, F64, I32, I64, best_legal, best_of, combine, draw, measure, weigh
from engine.truncation import Scratch, draw_truncated, keep
from watermark import rows as marked_rows

# What `tokens` says where there is no token; −1: none is legal.
LEFT_OUT, NOT_FINITE = -2, -3

# Columns of `rules`.
SCALE, GREEDY, TOP_K, TOP_P, MIN_P, REPETITION, FREQUENCY, PRESENCE = range(8)


class Changes(NamedTuple):
    """Logits that bias and penalties change, one after the other; row r's are starts[r] … starts[r + 1] − 1."""

    starts: I64
    ids: I64
    bias: F32
    counts: F32  # of the token in the output; negative: a bias alone, no penalty


# What `Marks.kinds` says; rows of the last kind are left out.
UNMARKED, RACE, NEAR_TIE, BY_ROW = range(4)


class Marks(NamedTuple):
    """The watermark of each row: how it chooses, the seed of its context, and the parameters of green lists."""

    kinds: I64
    seeds: NDArray[np.uint64]
    gammas: F64
    deltas: F64


class Buffers(NamedTuple):
    """What `settle` writes, by row."""

    raw_peaks: F32
    peaks: F32
    sums: F32
    raw_lse: F64
    legal_lse: F64
    tokens: I64
    figures: F64  # (R, 3): log-prob, constrained log-prob, legal mass
    marked: F64  # (R,): what `Scheme.as_choice` is told of a marked row


@exact
def settle(  # noqa: PLR0913, PLR0917 - kernels take arrays, not objects
    logits: F32,
    masks: I32,
    mask_of: I64,
    drawn_of: I64,
    known: I64,
    rules: F64,
    noise: F64,
    changes: Changes,
    marks: Marks,
    out: Buffers,
    room: Scratch,
    first: int,
    last: int,
) -> None:
    """Measures rows first … last − 1 and draws from them; the logits are as before when it returns.

    `mask_of`, `drawn_of`: the row of `masks` that is the grammar's own, and the one to draw from; −1: all are legal.
    `known`: a token to score instead of drawing, −1 to draw, −2 to measure only.
    """
    here = slice(first, last)
    measure(
        logits[here],
        masks,
        mask_of[here],
        out.raw_peaks[here],
        out.peaks[here],
        out.sums[here],
        out.raw_lse[here],
        out.legal_lse[here],
    )
    nothing = np.empty(0, np.int32)
    for row in range(first, last):
        token = known[row]
        if not np.isfinite(out.raw_lse[row]):
            token = NOT_FINITE
        elif token == -1:
            mask = nothing if drawn_of[row] < 0 else masks[drawn_of[row]]
            measured = drawn_of[row] == mask_of[row]
            saved = change(logits[row], changes, row, rules[row])
            if len(saved) > 0:
                measured = False
            _survey_again(logits[row], mask, rules[row], out.peaks[row], out.sums[row], measured)
            if marks.kinds[row] == UNMARKED:
                token = _token(logits[row], mask, rules[row], noise[row], out.peaks[row], out.sums[row], room)
            else:
                token = _marked_token(logits[row], mask, rules[row], marks, row, out, room)
            restore(logits[row], changes, row, saved)
        out.tokens[row] = token
        if token >= 0:
            logit, raw, legal = float(logits[row, token]), out.raw_lse[row], out.legal_lse[row]
            out.figures[row, 0], out.figures[row, 1] = logit - raw, logit - legal
            out.figures[row, 2] = min(1.0, np.exp(legal - raw))


@exact
def change(logits: F32, changes: Changes, row: int, rule: F64) -> F32:
    """Bias and penalties, in place; what stood there before."""
    first, last = changes.starts[row], changes.starts[row + 1]
    saved = np.empty(last - first, np.float32)
    for at in range(first, last):
        token, count = changes.ids[at], changes.counts[at]
        saved[at - first] = logits[token]
        value = logits[token] + changes.bias[at]
        if count >= 0:
            if rule[REPETITION] != 1.0:
                value = value / rule[REPETITION] if value > 0 else value * rule[REPETITION]
            if count > 0:
                value -= rule[FREQUENCY] * count + rule[PRESENCE]
        logits[token] = value
    return saved


@exact
def restore(logits: F32, changes: Changes, row: int, saved: F32) -> None:
    """Undoes `change`, last first: a token may have been changed twice."""
    first = changes.starts[row]
    for at in range(len(saved) - 1, -1, -1):
        logits[changes.ids[first + at]] = saved[at]


@exact
def _truncates(rule: F64) -> bool:
    return bool(rule[GREEDY] <= 0.0 and (rule[TOP_K] > 0 or rule[TOP_P] < 1.0 or rule[MIN_P] > 0.0))


@exact
def _survey_again(logits: F32, mask: I32, rule: F64, peaks: F32, sums: F32, measured: bool) -> None:
    """`measured`: peaks and sums are those of this mask and these logits at temperature 1."""
    if not measured or (rule[SCALE] != 1.0 and not _truncates(rule)):
        weigh(logits, mask, rule[SCALE], peaks, sums)


@exact
def _token(logits: F32, mask: I32, rule: F64, uniform: float, peaks: F32, sums: F32, room: Scratch) -> int:
    if rule[GREEDY] > 0.0:
        return best_legal(logits, mask, peaks)
    if not _truncates(rule):
        return draw(logits, mask, rule[SCALE], peaks, sums, uniform)
    return draw_truncated(logits, mask, rule[SCALE], peaks, rule[TOP_K : MIN_P + 1], uniform, room)


@exact
def _marked_token(logits: F32, mask: I32, rule: F64, marks: Marks, row: int, out: Buffers, room: Scratch) -> int:
    """The watermark's choice; what is to be said of it goes to `out.marked`."""
    peaks, seed = out.peaks[row], marks.seeds[row]
    top = best_of(peaks)
    if top == ABSENT:
        return -1
    if marks.kinds[row] == NEAR_TIE:
        threshold = int(np.rint(marks.gammas[row] * 2.0**32))
        token, near = marked_rows.near_tie(logits, mask, top, seed, threshold, marks.deltas[row])
        out.marked[row] = 1.0 - (1.0 - marks.gammas[row]) ** near
        return token if token >= 0 else best_legal(logits, mask, peaks)
    scale = rule[SCALE]
    if _truncates(rule):
        # Truncation ends as a mask: then no kernel that Python calls too, and that returns arrays, is compiled in here
        # (loaded from numba's cache behind this one, such a kernel fails).
        bits = np.empty((len(logits) + 31) // 32, np.int32)
        total = keep(logits, mask, scale, peaks, rule[TOP_K : MIN_P + 1], room, bits)
        token = marked_rows.race(logits, bits, scale, top, seed)
        out.marked[row] = np.exp((float(logits[token]) - float(top)) * scale) / total
        return token
    token = marked_rows.race(logits, mask, scale, top, seed)
    scaled = float(logits[token] * np.float32(scale))
    out.marked[row] = np.exp(scaled - combine(peaks, out.sums[row], scale))
    return token
