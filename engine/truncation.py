"""Which tokens survive top-k, top-p and min-p, without sorting the vocabulary.

What it is for: one read of a row collects the legal tokens that can matter, with their distance below the best and
their weight; each truncation then finds where it cuts by histograms of that distance, one inside the other, and sorts
only the few that lie where the cut falls. So a flat distribution, where top-p keeps half of the vocabulary, costs what
a peaked one costs. What may not enter: requests, masks of several rows, state.

Survivors come in order of their ids; equal logits are cut by id. The order of the cuts: top-k, top-p of what it left,
min-p. (Of numba's cached code: the trap in `surveys`.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels import exact, kernel
from engine.logits import ABSENT, BLOCK, F32, F64, I32, best_of
from engine.simd import LANES
from engine.surveys import weights

Flags = NDArray[np.bool_]


class Scratch(NamedTuple):
    """Room for a row's candidates, so that no row begins by touching megabytes of new memory. One a thread."""

    ids: I32
    distances: F32
    masses: F32
    buckets: I32
    kept: Flags


def scratch(width: int) -> Scratch:
    """For rows of `width` logits."""
    return Scratch(
        np.empty(width, np.int32),
        np.empty(width, np.float32),
        np.empty(width, np.float32),
        np.empty(width, np.int32),
        np.empty(width, np.bool_),
    )


_BUCKETS = 256
_PER_NAT = np.float32(8.0)  # buckets in one nat; the last one holds all from 32 nats on, where p < 1e-14 of the best
_INSIDE = np.float32(256.0)  # buckets in one bucket


@exact
def truncate(logits: F32, mask: I32, scale: float, peaks: F32, limits: F64, room: Scratch) -> tuple[I32, F32]:
    """The survivors in order of their ids, with scaled logits; `limits` = (top_k or 0, top_p, min_p).

    `peaks`: the legal ones of the blocks (an empty mask: all are legal). At least one survives if any is legal. One
    read of the logits.
    """
    ids, _, kept = _survivors(logits, mask, scale, peaks, limits, room)
    ids = ids[kept]
    return ids, logits[ids] * np.float32(scale)


@exact
def keep(logits: F32, mask: I32, scale: float, peaks: F32, limits: F64, room: Scratch, kept_bits: I32) -> float:
    """Writes the mask of what `truncate` keeps to `kept_bits`; the sum of their weights, relative to the best one."""
    ids, masses, kept = _survivors(logits, mask, scale, peaks, limits, room)
    kept_bits[:] = np.int32(0)
    total = 0.0
    for index in range(len(ids)):
        if kept[index]:
            kept_bits[ids[index] >> 5] |= np.int32(1) << np.int32(ids[index] & 31)
            total += float(masses[index])
    return total


@exact
def draw_truncated(logits: F32, mask: I32, scale: float, peaks: F32, limits: F64, uniform: float, room: Scratch) -> int:
    """Inverse CDF over the survivors in order of their ids; −1 if no token is legal. As `truncate`."""
    ids, masses, kept = _survivors(logits, mask, scale, peaks, limits, room)
    masses *= kept
    sums = np.empty(-(-len(ids) // BLOCK), np.float64)
    for block in range(len(sums)):
        sums[block] = _sum(masses[block * BLOCK : (block + 1) * BLOCK])
    rest, block = uniform * float(np.sum(sums)), 0
    while block < len(sums) - 1 and rest >= sums[block]:
        rest -= sums[block]
        block += 1
    # Rounding may lead past the last survivor: it is then the draw.
    last = -1
    for index in range(block * BLOCK, len(ids)):
        if masses[index] > 0.0:
            last = int(ids[index])
            if rest < masses[index]:
                return last
            rest -= masses[index]
    return last if last >= 0 else _last_of(ids, kept)


@kernel
def _sum(masses: F32) -> np.float32:
    total = np.float32(0.0)
    for index in range(len(masses)):
        total += masses[index]
    return total


@exact
def _last_of(ids: I32, kept: Flags) -> int:
    for index in range(len(ids) - 1, -1, -1):
        if kept[index]:
            return int(ids[index])
    return -1


@exact
def _survivors(logits: F32, mask: I32, scale: float, peaks: F32, limits: F64, room: Scratch) -> tuple[I32, F32, Flags]:
    """Candidates, their masses, and which of them survive."""
    count = _collect(logits, mask, np.float32(scale), peaks, _reach(scale, peaks, limits), room)
    if 0 < limits[0] < count:
        room.masses[:count], masses = np.float32(1.0), room.masses[:count].copy()
        _nearest(count, limits[0], room)
        room.masses[:count] = masses
        count = _compact(count, room)
    kept, distances = room.kept[:count], room.distances[:count]
    kept[:] = True
    if limits[1] < 1.0 and count > 1:
        _nearest(count, limits[1] * _total(room.masses[:count]), room)
    if limits[2] > 0.0:
        most = -np.log(limits[2])
        for index in range(count):
            kept[index] &= distances[index] <= most
    return room.ids[:count], room.masses[:count], kept


@exact
def _compact(count: int, room: Scratch) -> int:
    """Drops the candidates that were not kept; how many are left."""
    left = 0
    for index in range(count):
        if room.kept[index]:
            room.ids[left], room.distances[left] = room.ids[index], room.distances[index]
            room.masses[left] = room.masses[index]
            left += 1
    return left


@exact
def _reach(scale: float, peaks: F32, limits: F64) -> float:
    """How far below the best (in scaled logits) a token may be and still matter."""
    if limits[0] > 0:
        count = int(limits[0])
        if count >= len(peaks):
            return np.inf
        # So many blocks have a token at least as good as the last of their peaks, so no worse one is among the first k.
        last = np.sort(peaks)[len(peaks) - count]
        return np.inf if last == ABSENT else float((best_of(peaks) - last) * np.float32(scale))
    if limits[1] < 1.0:
        return 40.0  # all beyond it together weigh 1e-12
    return 0.01 - np.log(limits[2]) if limits[2] > 0.0 else np.inf


@exact
def _collect(logits: F32, mask: I32, scale: np.float32, peaks: F32, reach: float, room: Scratch) -> int:
    """Ids, distances below the best and weights of the legal tokens at most `reach` (scaled) below it; how many."""
    best, most = best_of(peaks), np.float32(reach)
    block_weights, count = np.empty(BLOCK, np.float32), 0
    for block in range(len(peaks)):
        if peaks[block] == ABSENT or (best - peaks[block]) * scale > most:
            continue
        start, stop = block * BLOCK, min(len(logits), (block + 1) * BLOCK)
        whole = start + (stop - start) // LANES * LANES
        weights(logits, start, whole, best, scale, block_weights)
        for token in range(whole, stop):
            block_weights[token - start] = np.exp((logits[token] - best) * scale)
        for token in range(start, stop):
            distance = (best - logits[token]) * scale
            legal = len(mask) == 0 or ((mask[token >> 5] >> (token & 31)) & 1) == 1
            room.ids[count], room.distances[count] = token, distance
            room.masses[count] = block_weights[token - start]
            count += legal and distance <= most and distance < np.inf
    return count


@exact
def _total(masses: F32) -> float:
    total = 0.0
    for start in range(0, len(masses), BLOCK):
        total += float(_sum(masses[start : start + BLOCK]))
    return total


@exact
def _nearest(count: int, enough: float, room: Scratch) -> None:
    """Keeps the candidates nearest to the best whose masses reach `enough`: as few as that takes, at least one."""
    distances, masses, buckets, kept = room.distances[:count], room.masses[:count], room.buckets[:count], room.kept
    for index in range(count):
        buckets[index] = np.int32(min(distances[index] * _PER_NAT, np.float32(_BUCKETS - 1)))
    cut, before = _cut(buckets, masses, 0.0, enough)
    for index in range(count):
        kept[index] = buckets[index] < cut
    inner = np.flatnonzero(buckets == cut)
    finer = np.empty(len(inner), np.int32)
    for place, index in enumerate(inner):
        within = (distances[index] * _PER_NAT - np.float32(cut)) * _INSIDE
        finer[place] = np.int32(min(within, np.float32(_BUCKETS - 1)))
    fine_cut, before = _cut(finer, masses[inner], before, enough)
    for index in inner[finer < fine_cut]:
        kept[index] = True
    last = inner[finer == fine_cut]
    for index in last[np.argsort(distances[last], kind="mergesort")]:  # stable: equal ones stay in order of their ids
        kept[index] = True
        before += masses[index]
        if before >= enough:
            break


@exact
def _cut(buckets: I32, masses: F32, before: float, enough: float) -> tuple[int, float]:
    """The first bucket in which `enough` is reached (the last with anything, if it never is); the mass before it."""
    # Four of each: neighbours often fall into one bucket, and an addition would wait for the one before.
    sums, counts = np.zeros((4, _BUCKETS), np.float64), np.zeros((4, _BUCKETS), np.int64)
    for index in range(len(buckets)):
        sums[index & 3, buckets[index]] += masses[index]
        counts[index & 3, buckets[index]] += 1
    cut, mass = 0, before
    for bucket in range(_BUCKETS):
        if np.sum(counts[:, bucket]) > 0:
            cut, mass = bucket, before
            before += np.sum(sums[:, bucket])
            if before >= enough:
                break
    return cut, mass
