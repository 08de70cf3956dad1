"""Compiled passes over logits on the CPU: measure, draw, gather, rank.

What it is for: everything that touches a whole row of logits. One row is read at most three times: once to measure
(finite? raw and legal log-sum-exp, fused), once more if temperature, penalties or truncation changed what is drawn
from, once over a part of it to find the token. What may not enter: requests, Python objects, state.

The idea: rows are cut into blocks of 1,024, which stay in the nearest cache while they are worked on; each block
keeps its own maximum and its sum relative to it. So no sum underflows however small the legal mass is, and a draw by
inverse CDF first walks a hundred blocks and then one of them. Sums inside a block are float32, across blocks float64:
1e-6 in all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.kernels import exact, kernel, nan_free

BLOCK = 1024
_WORDS = BLOCK // 32
_BUCKETS = 256
_PER_NAT = 8.0  # histogram buckets in one nat: the last one begins at 32 nats, where p < 1e-14 of the best

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

ABSENT = np.float32(-np.inf)  # the maximum of a block without legal tokens


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


@nan_free
def _maximum(logits: F32, start: int, stop: int) -> np.float32:
    best = np.float32(-np.inf)
    for token in range(start, stop):
        best = max(best, logits[token])
    return best


@nan_free
def _legal_maximum(logits: F32, mask: I32, start: int, stop: int) -> np.float32:
    best = np.float32(-np.inf)
    for word in range(start >> 5, (stop + 31) >> 5):
        bits = mask[word]
        if bits == 0:
            continue
        base = word << 5
        for lane in range(min(32, stop - base)):
            value = logits[base + lane] if (bits >> lane) & 1 else np.float32(-np.inf)
            best = max(best, value)
    return best


@kernel
def _sum(logits: F32, start: int, stop: int, scale: np.float32, best: np.float32) -> np.float32:
    total = np.float32(0.0)
    for token in range(start, stop):
        distance = (logits[token] - best) * scale
        distance = np.float32(-87.0) if distance < np.float32(-87.0) else distance
        total += _exp(distance)
    return total


@kernel
def _legal_sum(logits: F32, mask: I32, start: int, stop: int, scale: np.float32, best: np.float32) -> np.float32:
    total = np.float32(0.0)
    for word in range(start >> 5, (stop + 31) >> 5):
        bits = mask[word]
        if bits == 0:
            continue
        base = word << 5
        for lane in range(min(32, stop - base)):
            distance = (logits[base + lane] - best) * scale
            distance = np.float32(-87.0) if distance < np.float32(-87.0) else distance
            total += _exp(distance) * np.float32((bits >> lane) & 1)
    return total


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
def _combine(peaks: F32, sums: F32, scale: float) -> float:
    """log-sum-exp over the blocks, at a temperature of 1 / scale."""
    best = _best(peaks)
    if best == ABSENT:
        return -np.inf
    return float(float(best) * scale + np.log(np.sum(_block_weights(peaks, sums, scale, best))))


@exact
def _measure_row(logits: F32, mask: I32, raw_peaks: F32, peaks: F32, sums: F32) -> tuple[float, float]:
    width = len(logits)
    raw_sums = np.empty(len(peaks), np.float32)
    for block in range(len(peaks)):
        start, stop = block * BLOCK, min(width, (block + 1) * BLOCK)
        raw_peaks[block] = _maximum(logits, start, stop)
        raw_sums[block] = 0.0
        if raw_peaks[block] != ABSENT:  # else every logit is -inf, or there is a NaN: _sum tells which
            raw_sums[block] = _sum(logits, start, stop, np.float32(1.0), raw_peaks[block])
        elif np.isnan(np.sum(logits[start:stop])):
            raw_peaks[block], raw_sums[block] = np.float32(0.0), np.float32(np.nan)
        cover = 2 if len(mask) == 0 else _coverage(mask, start, stop)
        if cover == 2:
            peaks[block], sums[block] = raw_peaks[block], raw_sums[block]
        elif cover == 0:
            peaks[block], sums[block] = ABSENT, np.float32(0.0)
        else:
            peaks[block] = _legal_maximum(logits, mask, start, stop)
            sums[block] = _legal_sum(logits, mask, start, stop, np.float32(1.0), peaks[block])
    return _combine(raw_peaks, raw_sums, 1.0), _combine(peaks, sums, 1.0)


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
    width, factor = len(logits), np.float32(scale)
    for block in range(len(peaks)):
        start, stop = block * BLOCK, min(width, (block + 1) * BLOCK)
        cover = 2 if len(mask) == 0 else _coverage(mask, start, stop)
        peaks[block], sums[block] = ABSENT, np.float32(0.0)
        if cover == 2:
            peaks[block] = _maximum(logits, start, stop)
            if peaks[block] != ABSENT:
                sums[block] = _sum(logits, start, stop, factor, peaks[block])
        elif cover == 1:
            peaks[block] = _legal_maximum(logits, mask, start, stop)
            if peaks[block] != ABSENT:
                sums[block] = _legal_sum(logits, mask, start, stop, factor, peaks[block])
    return _combine(peaks, sums, scale)


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
def _best(peaks: F32) -> np.float32:
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
    best = _best(peaks)
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
def _cut(logits: F32, mask: I32, scale: float, peaks: F32, limits: F64) -> tuple[int, float]:
    """The histogram bucket (of distance below the best, in 1/8 nat) that surely holds the last survivor, and all mass.

    `limits` = (top_k or 0, top_p, min_p). Never too small: what is gathered up to it is sorted and cut exactly later.
    The mass is relative to that of the best token.
    """
    counts, masses = np.zeros(_BUCKETS, np.int64), np.zeros(_BUCKETS, np.float64)
    best = _best(peaks)
    for token in range(len(logits)):
        if _is_legal(mask, token):
            distance = (best - logits[token]) * np.float32(scale)
            bucket = int(min(distance * np.float32(_PER_NAT), np.float32(_BUCKETS - 1)))
            counts[bucket] += 1
            if bucket < _BUCKETS - 1:
                masses[bucket] += _exp(-distance)
    return _last_bucket(counts, masses, limits), float(np.sum(masses))


@exact
def _last_bucket(counts: I64, masses: F64, limits: F64) -> int:
    """Top-k's bucket if top-k is asked for (top-p then needs the mass of all k), else the nearer of the other two."""
    seen, mass, enough = 0, 0.0, limits[1] * np.sum(masses) * (1 + 1e-5)
    by_ratio = int(-np.log(limits[2]) * _PER_NAT) + 1 if limits[2] > 0.0 else _BUCKETS - 1
    for bucket in range(_BUCKETS - 1):
        seen += counts[bucket]
        mass += masses[bucket]
        if limits[0] > 0:
            if seen >= limits[0]:
                return bucket
        elif (limits[1] < 1.0 and mass >= enough) or bucket >= by_ratio:
            return bucket + 1
    return _BUCKETS - 1


@exact
def _pour(logits: F32, mask: I32, peaks: F32, least: np.float32, ids: I32, values: F32) -> int:
    """Writes the legal tokens with logits of at least `least` into the buffers (none, if they are empty); how many."""
    count = 0
    for block in range(len(peaks)):
        if peaks[block] >= least:
            for token in range(block * BLOCK, min(len(logits), (block + 1) * BLOCK)):
                if logits[token] >= least and _is_legal(mask, token):
                    if len(ids) > 0:
                        ids[count], values[count] = token, logits[token]
                    count += 1
    return count


@exact
def gather(logits: F32, mask: I32, peaks: F32, distance: float) -> tuple[I32, F32]:
    """The legal tokens whose logits lie at most `distance` below the best one, in order of their ids."""
    lowest = float(np.finfo(np.float32).min)
    least = np.float32(max(float(_best(peaks)) - distance, lowest))
    count = _pour(logits, mask, peaks, least, np.empty(0, np.int32), np.empty(0, np.float32))
    ids, values = np.empty(count, np.int32), np.empty(count, np.float32)
    _pour(logits, mask, peaks, least, ids, values)
    return ids, values


@exact
def truncate(logits: F32, mask: I32, scale: float, peaks: F32, limits: F64) -> tuple[I32, F32]:
    """What survives top-k, top-p (of what top-k left) and min-p, best first, equal ones by id; scaled logits.

    `limits` = (top_k or 0, top_p, min_p). At least one token survives.
    """
    cut, total = _cut(logits, mask, scale, peaks, limits)
    reach = np.inf if cut >= _BUCKETS - 1 else (cut + 1) / _PER_NAT / scale
    ids, values = gather(logits, mask, peaks, reach)
    values = values * np.float32(scale)
    order = np.argsort(-values, kind="mergesort")
    return survivors(ids[order], values[order], limits, total)


@exact
def survivors(ids: I32, values: F32, limits: F64, total: float) -> tuple[I32, F32]:
    """Top-k, top-p and min-p over tokens sorted best first; `total`: all mass, relative to the best token's."""
    count = len(ids)
    if count == 0:
        return ids, values
    weights = np.exp(values.astype(np.float64) - float(values[0]))
    if limits[0] > 0 and limits[0] < count:
        count = int(limits[0])
    if limits[0] > 0:
        total = float(np.sum(weights[:count]))
    if limits[1] < 1.0:
        count = min(count, _reaching(weights, limits[1] * total))
    least = limits[2] * weights[0]
    while count > 1 and weights[count - 1] < least:
        count -= 1
    return ids[:count], values[:count]


@exact
def _reaching(weights: F64, enough: float) -> int:
    """How many of the first weights it takes."""
    mass = 0.0
    for index in range(len(weights)):
        mass += weights[index]
        if mass >= enough:
            return index + 1
    return len(weights)


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


def warm() -> None:
    """Compiles (or loads from numba's cache) every kernel, so that none falls on a request."""
    logits, masks = np.zeros((1, 40), np.float32), np.full((1, 2), -1, np.int32)
    raw_peaks, peaks, sums = (np.zeros((1, 1), np.float32) for _ in range(3))
    lse = np.zeros(1, np.float64)
    measure(logits, masks, np.zeros(1, np.int64), raw_peaks, peaks, sums, lse, lse)
    weigh(logits[0], masks[0], 1.0, peaks[0], sums[0])
    best_legal(logits[0], masks[0], peaks[0])
    draw(logits[0], masks[0], 1.0, peaks[0], sums[0], 0.5)
    _, values = truncate(logits[0], masks[0], 1.0, peaks[0], np.array([3.0, 0.9, 0.1]))
    pick(values, 0.5)
    rank(logits[0], raw_peaks[0], 2)
