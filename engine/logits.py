"""Compiled passes over logits on the CPU: measure, draw, gather, rank.

What it is for: everything that touches a whole row of logits. One row is read at most three times: once to measure
(finite? raw and legal log-sum-exp, fused), once more if temperature, penalties or truncation changed what is drawn
from, once over a part of it to find the token. What may not enter: requests, Python objects, state.

The idea: rows are cut into blocks of 1,024, which stay in the nearest cache while they are worked on; each block
keeps its own maximum and its sum relative to it. So no sum underflows however small the legal mass is, and a draw by
inverse CDF first walks a hundred blocks and then one of them. Sums inside a block are float32, across blocks float64:
1e-6 in all. To measure a row costs as much as to exponentiate each logit once (`simd.exp`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.kernels import exact, kernel
from engine.simd import LANES
from engine.surveys import survey

BLOCK = 1024
_WORDS = BLOCK // 32
_FAR = np.float32(40.0)  # nats between a guess and the maximum: exponentials and their sums stay normal numbers

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

ABSENT = np.float32(-np.inf)  # the maximum of a block without legal tokens

_survey, _survey_masked = survey(masked=False), survey(masked=True)


def blocks_of(width: int) -> int:
    """How many blocks a row of `width` logits has."""
    return (width + BLOCK - 1) // BLOCK


@kernel
def _exp(x: np.float32) -> np.float32:
    """e^x for x in [-87, 88], relative error 1e-7; a NaN stays one. Straight-line, so that LLVM makes vectors of it."""
    scaled = x * np.float32(1.4426950408889634)
    whole = np.float32(np.floor(scaled + np.float32(0.5)))
    part = (x - whole * np.float32(0.693359375)) + whole * np.float32(2.12194440e-4)
    value = np.float32(1.9875691500e-4)
    value = value * part + np.float32(1.3981999507e-3)
    value = value * part + np.float32(8.3334519073e-3)
    value = value * part + np.float32(4.1665795894e-2)
    value = value * part + np.float32(1.6666665459e-1)
    value = value * part + np.float32(5.0000001201e-1)
    value = value * part * part + part + np.float32(1.0)
    power = (np.int32(whole) + np.int32(127)) << np.int32(23)
    return value * np.int32(power).view(np.float32)


@kernel
def _survey_tail(logits: F32, first: int, last: int, guess: np.float32, scale: np.float32, mask: I32, out: F32) -> None:
    """Adds what is left over behind whole vectors to a survey of four numbers; an empty mask: all are legal."""
    for token in range(first, last):
        distance = (logits[token] - guess) * scale
        weight = np.float32(0.0) if distance < np.float32(-87.3) else _exp(distance)
        out[0] = max(out[0], logits[token])
        out[1] += weight
        if len(mask) > 0 and (mask[token >> 5] >> (token & 31)) & 1:
            out[2] = max(out[2], logits[token])
            out[3] += weight


@exact
def _ask(logits: F32, start: int, stop: int, guess: np.float32, scale: np.float32, mask: I32, out: F32) -> None:
    """One survey of a block; an empty mask: all are legal, and out[2:] stays."""
    whole = start + (stop - start) // LANES * LANES
    out[0], out[1], out[2], out[3] = ABSENT, np.float32(0.0), ABSENT, np.float32(0.0)
    if whole > start:
        if len(mask) == 0:
            _survey(logits, start, whole, guess, scale, mask, out)
        else:
            _survey_masked(logits, start, whole, guess, scale, mask, out)
    _survey_tail(logits, whole, stop, guess, scale, mask, out)


@exact
def _is_far(top: np.float32, guess: np.float32, scale: np.float32) -> bool:
    """Whether sums relative to the guess may have lost digits."""
    return bool(abs((top - guess) * scale) > _FAR)


@exact
def _survey_block(
    logits: F32, start: int, stop: int, guess: np.float32, scale: np.float32, mask: I32, out: F32
) -> np.float32:
    """out[0:4] = raw peak, raw sum, legal peak, legal sum, each sum relative to its own peak; the next block's guess.

    An empty mask: all are legal. A peak is `ABSENT` where there is no token, and the sum then 0. A NaN or +inf among
    the logits makes the raw sum NaN, whatever its peak. Reads the block once, as a rule.
    """
    _ask(logits, start, stop, guess, scale, mask, out)
    if _is_far(out[0], guess, scale) and out[0] != ABSENT:
        guess = out[0]
        _ask(logits, start, stop, guess, scale, mask, out)
    raw_peak, raw_sum = out[0], out[1]
    if len(mask) == 0:
        out[2], out[3] = out[0], out[1]
    elif _is_far(out[2], guess, scale) and out[2] != ABSENT:
        _ask(logits, start, stop, out[2], scale, mask, out)
        out[0], out[1] = raw_peak, raw_sum * np.float32(np.exp((guess - raw_peak) * scale))
        return guess
    if raw_peak == ABSENT:  # all are -inf, or NaN
        out[0], out[1] = (np.float32(0.0), raw_sum) if np.isnan(raw_sum) else (ABSENT, np.float32(0.0))
    else:
        out[1] = raw_sum * np.float32(np.exp((guess - raw_peak) * scale))
    out[3] = np.float32(0.0) if out[2] == ABSENT else out[3] * np.float32(np.exp((guess - out[2]) * scale))
    return guess if raw_peak == ABSENT else raw_peak


@exact
def _coverage(mask: I32, start: int, stop: int) -> int:
    """0: no token of the block is legal; 1: some; 2: all."""
    some, whole = np.int32(0), np.int32(-1)
    last = stop >> 5
    for word in range(start >> 5, last):
        some |= mask[word]
        whole &= mask[word]
    if stop & 31:
        tail = np.int32((np.int64(1) << (stop & 31)) - 1)
        some |= mask[last] & tail
        if (mask[last] & tail) != tail:
            whole = np.int32(0)
    if some == 0:
        return 0
    return 2 if whole == -1 else 1


@exact
def combine(peaks: F32, sums: F32, scale: float) -> float:
    """log-sum-exp over the blocks, at a temperature of 1 / scale."""
    best = best_of(peaks)
    if best == ABSENT:
        return -np.inf
    return float(float(best) * scale + np.log(np.sum(_block_weights(peaks, sums, scale, best))))


@exact
def _measure_row(logits: F32, mask: I32, raw_peaks: F32, peaks: F32, sums: F32) -> tuple[float, float]:
    width, one, nothing = len(logits), np.float32(1.0), np.empty(0, np.int32)
    raw_sums, found, guess = np.empty(len(peaks), np.float32), np.empty(4, np.float32), np.float32(0.0)
    for block in range(len(peaks)):
        start, stop = block * BLOCK, min(width, (block + 1) * BLOCK)
        cover = 2 if len(mask) == 0 else _coverage(mask, start, stop)
        guess = _survey_block(logits, start, stop, guess, one, mask if cover == 1 else nothing, found)
        raw_peaks[block], raw_sums[block], peaks[block], sums[block] = found[0], found[1], found[2], found[3]
        if cover == 0:
            peaks[block], sums[block] = ABSENT, np.float32(0.0)
    return combine(raw_peaks, raw_sums, 1.0), combine(peaks, sums, 1.0)


@exact
def measure(  # noqa: PLR0913, PLR0917 - kernels take arrays, not objects
    logits: F32, masks: I32, mask_of: I64, raw_peaks: F32, peaks: F32, sums: F32, raw_lse: F64, legal_lse: F64
) -> None:
    """For each row of `logits` (R, V): raw and legal log-sum-exp, and the blocks' raw peaks, legal peaks and sums.

    `mask_of[r]` is the row of `masks` (M, ceil(V / 32)) that applies, or −1: all are legal. A row with a NaN or +inf
    measures NaN. One read of the logits.
    """
    nothing = np.empty(0, np.int32)
    for row in range(len(logits)):
        mask = nothing if mask_of[row] < 0 else masks[mask_of[row]]
        raw_lse[row], legal_lse[row] = _measure_row(logits[row], mask, raw_peaks[row], peaks[row], sums[row])


@exact
def weigh(logits: F32, mask: I32, scale: float, peaks: F32, sums: F32) -> float:
    """The legal log-sum-exp of one row under one mask (empty: all are legal) at a temperature of 1 / scale."""
    width, nothing, found = len(logits), np.empty(0, np.int32), np.empty(4, np.float32)
    guess, factor = np.float32(0.0), np.float32(scale)
    for block in range(len(peaks)):
        start, stop = block * BLOCK, min(width, (block + 1) * BLOCK)
        cover = 2 if len(mask) == 0 else _coverage(mask, start, stop)
        peaks[block], sums[block] = ABSENT, np.float32(0.0)
        if cover > 0:
            guess = _survey_block(logits, start, stop, guess, factor, mask if cover == 1 else nothing, found)
            peaks[block], sums[block] = found[2], found[3]
    return combine(peaks, sums, scale)


@exact
def best_legal(logits: F32, mask: I32, peaks: F32) -> int:
    """The first of the legal tokens with the highest logit; −1 if none is legal."""
    top = 0
    for block in range(1, len(peaks)):
        if peaks[block] > peaks[top]:
            top = block
    best = peaks[top]
    if best == ABSENT:
        return -1
    for token in range(top * BLOCK, min(len(logits), (top + 1) * BLOCK)):
        if logits[token] == best and _is_legal(mask, token):
            return token
    return -1


@exact
def best_of(peaks: F32) -> np.float32:
    """The greatest of the blocks' peaks."""
    best = np.float32(-np.inf)
    for block in range(len(peaks)):
        best = max(best, peaks[block])
    return best


@exact
def _is_legal(mask: I32, token: int) -> bool:
    return len(mask) == 0 or ((mask[token >> 5] >> (token & 31)) & 1) == 1


@exact
def _block_weights(peaks: F32, sums: F32, scale: float, best: np.float32) -> F64:
    weights = np.zeros(len(peaks), np.float64)
    for block in range(len(peaks)):
        if peaks[block] > ABSENT:
            weights[block] = np.exp((float(peaks[block]) - float(best)) * scale) * float(sums[block])
    return weights


@exact
def draw(logits: F32, mask: I32, scale: float, peaks: F32, sums: F32, uniform: float) -> int:
    """Inverse CDF over the legal tokens in order of their ids; −1 if none is legal."""
    best = best_of(peaks)
    if best == ABSENT:
        return -1
    weights = _block_weights(peaks, sums, scale, best)
    rest, chosen = uniform * np.sum(weights), 0
    for block in range(len(peaks)):
        if weights[block] > 0.0:
            chosen = block
            if rest < weights[block]:
                break
            rest -= weights[block]
    # Rounding may lead past the chosen block's end: the draw is then that block's last legal token.
    last = -1
    for token in range(chosen * BLOCK, min(len(logits), (chosen + 1) * BLOCK)):
        weight = np.exp((float(logits[token]) - float(best)) * scale) if _is_legal(mask, token) else 0.0
        if weight > 0.0:
            last = token
            if rest < weight:
                return token
            rest -= weight
    return last


@exact
def gather(logits: F32, mask: I32, peaks: F32, distance: float) -> tuple[I32, F32]:
    """The legal tokens whose logits lie at most `distance` below the best one, in order of their ids."""
    lowest = float(np.finfo(np.float32).min)
    least = np.float32(max(float(best_of(peaks)) - distance, lowest))
    count = 0
    for block in range(len(peaks)):
        if peaks[block] >= least:
            count += _count(logits[block * BLOCK : (block + 1) * BLOCK], _bits(mask, block), least)
    # One place more than is filled: each token is written, and the place moves on if it was one.
    ids, values, place = np.empty(count + 1, np.int32), np.empty(count + 1, np.float32), 0
    for block in range(len(peaks)):
        if peaks[block] >= least:
            for token in range(block * BLOCK, min(len(logits), (block + 1) * BLOCK)):
                ids[place], values[place] = token, logits[token]
                place += int(logits[token] >= least) & int(_is_legal(mask, token))
    return ids[:count], values[:count]


@exact
def _bits(mask: I32, block: int) -> I32:
    return mask[block * _WORDS : (block + 1) * _WORDS]


@exact
def _count(logits: F32, mask: I32, least: np.float32) -> int:
    found = np.int32(0)
    if len(mask) == 0:
        for token in range(len(logits)):
            found += np.int32(logits[token] >= least)
    else:
        for token in range(len(logits)):
            found += np.int32(logits[token] >= least) & ((mask[token >> 5] >> np.int32(token & 31)) & np.int32(1))
    return int(found)


@exact
def pick(values: F32, uniform: float) -> int:
    """Inverse CDF over a few scaled logits, in the order given."""
    weights = np.exp(values.astype(np.float64) - float(np.max(values)))
    rest = uniform * np.sum(weights)
    for index in range(len(weights)):
        if rest < weights[index]:
            return index
        rest -= weights[index]
    return len(weights) - 1


@exact
def rank(logits: F32, raw_peaks: F32, count: int) -> tuple[I32, F32]:
    """The `count` highest logits, best first, equal ones by id. Blocks below the worst so far are not read."""
    ids, values = np.full(count, -1, np.int32), np.full(count, -np.inf, np.float32)
    for block in np.argsort(-raw_peaks, kind="mergesort"):
        if raw_peaks[block] < values[count - 1]:
            break
        for token in range(block * BLOCK, min(len(logits), (block + 1) * BLOCK)):
            value = logits[token]
            place = count
            while place > 0 and (value > values[place - 1] or (value == values[place - 1] and token < ids[place - 1])):
                place -= 1
            if place < count:
                ids[place + 1 :] = ids[place : count - 1].copy()
                values[place + 1 :] = values[place : count - 1].copy()
                ids[place], values[place] = token, value
    return ids, values
