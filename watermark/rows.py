"""The two default choices over a whole row of logits under its mask: what a sampler on the CPU settles a step with.

What it is for: `Gumbel.choose` and `Kgw.choose` take candidates; here nothing is gathered first. What may not enter:
keys, contexts (a row brings the seed of its context), Python objects: all of it is called from compiled code.

The idea: 256 tokens at a time, whose words are made only if one of them can still win, and which stay in registers and
the nearest cache from the first operation to the last. A bit of `mask` (int32 words, bit i of word w: token 32·w + i)
says what is legal; an empty mask: all is.
"""

import numpy as np
from numpy.typing import NDArray

from watermark import prf
from watermark.draw import Logits
from watermark.jit import compiled
from watermark.schemes.gumbel import LOG2_E, MOST_NOISE, SLACK, bound, noise_of

Mask = NDArray[np.int32]

_CHUNK = 4 * prf.LANES
_WORDS = _CHUNK // 32
_NEVER = np.float32(-np.inf)
_LOWEST = np.float32(-3e38)


@compiled
def race(logits: Logits, mask: Mask, scale: float, top: np.float32, seed: np.uint64) -> int:
    """Who wins the keyed race; −1 if nothing is legal. `scale`: 1 / temperature; `top`: the largest legal logit."""
    factor = np.float32(scale)
    highest = top * factor
    below, words = np.empty(_CHUNK, dtype=np.float32), np.empty((prf.LANES, 4), dtype=np.uint32)
    drawn = words.reshape(-1)
    winner, lead = -1, -np.inf
    bar, floor = _NEVER, _LOWEST
    for start in range(0, len(logits), _CHUNK):
        _read(logits, mask, start, factor, highest, below)
        if _reaching(below, floor) == 0:
            continue
        prf.fill(seed, start >> 2, words)
        if _contenders(drawn, below, bar) == 0:
            continue
        winner, lead = _heat(drawn, below, logits, factor, start, bar, winner, lead)
        bar = np.float32((lead - np.float64(highest)) * LOG2_E - 32.0 - SLACK)
        floor = max(_LOWEST, np.float32(lead - np.float64(highest) - MOST_NOISE - SLACK))
    return winner


@compiled
def near_tie(
    logits: Logits, mask: Mask, top: np.float32, seed: np.uint64, threshold: int, delta: float
) -> tuple[int, int]:
    """The likeliest green token less than `delta` below `top`, −1 if none is green; how many tokens are that near.

    `top`: the largest legal logit; a word below `threshold` is green.
    """
    floor = _above(np.float64(top) - delta)
    limit = np.uint64(threshold)
    values, words = np.empty(_CHUNK, dtype=np.float32), np.empty((prf.LANES, 4), dtype=np.uint32)
    drawn = words.reshape(-1)
    winner, near, bar = -1, 0, floor
    for start in range(0, len(logits), _CHUNK):
        _read(logits, mask, start, np.float32(1.0), np.float32(0.0), values)
        found = _reaching(values, floor)
        if found == 0:
            continue
        near += found
        prf.fill(seed, start >> 2, words)
        if _greens(drawn, values, limit, bar) > 0:
            best = _best_green(drawn, values, limit, bar)
            winner, bar = start + best, _above(np.float64(values[best]))
    return winner, near


@compiled
def _above(bound: float) -> np.float32:
    """The least float32 above a float64: what is compared with it in float32 is compared exactly."""
    near = np.float32(bound)
    return near if np.float64(near) > bound else np.nextafter(near, np.float32(np.inf))


@compiled
def _read(logits: Logits, mask: Mask, start: int, factor: np.float32, top: np.float32, out: Logits) -> None:
    """out[j] = logit · factor − top of token start + j, −inf where it is not legal or past the end."""
    block = logits[start : start + _CHUNK]
    bits = mask[start >> 5 : (start >> 5) + _WORDS]
    if len(block) < _CHUNK:
        out[:] = _NEVER
        for j in range(len(block)):
            if len(bits) == 0 or (bits[j >> 5] >> (j & 31)) & 1:
                out[j] = block[j] * factor - top
    elif len(bits) == 0:
        for j in range(_CHUNK):
            out[j] = block[j] * factor - top
    else:
        for w in range(_WORDS):
            word, here, there = bits[w], block[32 * w : 32 * w + 32], out[32 * w : 32 * w + 32]
            for j in range(32):
                there[j] = here[j] * factor - top if (word >> np.int32(j)) & np.int32(1) else _NEVER


@compiled
def _reaching(values: Logits, floor: np.float32) -> int:
    """How many. A count, and not a flag, here and below: this compiles to vector instructions."""
    found = np.int32(0)
    for j in range(_CHUNK):
        found += np.int32(values[j] >= floor)
    return int(found)


@compiled
def _contenders(words: prf.Words, below: Logits, bar: np.float32) -> int:
    """How many may still win."""
    found = np.int32(0)
    for j in range(_CHUNK):
        found += np.int32(bound(words[j], below[j]) >= bar)
    return int(found)


@compiled
def _heat(  # noqa: PLR0913, PLR0917 - kernels take arrays, not objects
    words: prf.Words,
    below: Logits,
    logits: Logits,
    factor: np.float32,
    start: int,
    bar: np.float32,
    winner: int,
    lead: float,
) -> tuple[int, float]:
    """Winner and lead after the chunk's contenders; equal scores go to the least id."""
    for j in range(_CHUNK):
        if below[j] == _NEVER or bound(words[j], below[j]) < bar:
            continue
        score = np.float64(logits[start + j] * factor) + noise_of(np.uint64(words[j]))
        if score > lead:
            winner, lead = start + j, score
    return winner, lead


@compiled
def _greens(words: prf.Words, values: Logits, limit: np.uint64, bar: np.float32) -> int:
    """How many green ones reach the bar."""
    found = np.int32(0)
    for j in range(_CHUNK):
        found += np.int32(np.uint64(words[j]) < limit) & np.int32(values[j] >= bar)
    return int(found)


@compiled
def _best_green(words: prf.Words, values: Logits, limit: np.uint64, bar: np.float32) -> int:
    """Where the largest of them stands, the first of equals."""
    winner = -1
    for j in range(_CHUNK):
        if np.uint64(words[j]) < limit and values[j] >= bar and (winner < 0 or values[j] > values[winner]):
            winner = j
    return winner
