"""Randomness as an argument: one uniform number for each (seed, position), and no state.

What it is for: the token at a position of a request depends on its seed and position alone, so a draw does not depend
on the neighbours in the batch, and generation can go on anywhere after a preemption, a restart or on another machine.
What may not enter: generators, clocks.

The idea: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) keyed by the seed,
with the position as its counter. The domain word keeps these numbers apart from other uses of the same seed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.kernels import exact

_DRAWS = 0x666F726D  # domain of the tokens' draws


@exact
def philox(counter: NDArray[np.uint32], key: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Philox4x32-10 of one counter (4 words) under one key (2 words)."""
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    c0, c1, c2, c3 = np.uint64(counter[0]), np.uint64(counter[1]), np.uint64(counter[2]), np.uint64(counter[3])
    k0, k1 = np.uint64(key[0]), np.uint64(key[1])
    for _ in range(10):
        left = np.uint64(0xD2511F53) * c0
        right = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (right >> shift) ^ c1 ^ k0, right & low, (left >> shift) ^ c3 ^ k1, left & low
        k0 = (k0 + np.uint64(0x9E3779B9)) & low
        k1 = (k1 + np.uint64(0xBB67AE85)) & low
    out = np.empty(4, np.uint32)
    out[0], out[1], out[2], out[3] = np.uint32(c0), np.uint32(c1), np.uint32(c2), np.uint32(c3)
    return out


@exact
def _uniforms(seeds: NDArray[np.uint64], positions: NDArray[np.uint64], domain: int) -> NDArray[np.float64]:
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    counter, key = np.zeros(4, np.uint32), np.zeros(2, np.uint32)
    out = np.empty(len(seeds), np.float64)
    for index in range(len(seeds)):
        counter[0], counter[1] = np.uint32(positions[index] & low), np.uint32(positions[index] >> shift)
        counter[2], counter[3] = np.uint32(0), np.uint32(domain)
        key[0], key[1] = np.uint32(seeds[index] & low), np.uint32(seeds[index] >> shift)
        words = philox(counter, key)
        # 53 bits: 27 of the first word, 26 of the second.
        high, rest = np.uint64(words[0] >> np.uint32(5)), np.uint64(words[1] >> np.uint32(6))
        out[index] = (float(high) * 67108864.0 + float(rest)) / 9007199254740992.0
    return out


def uniforms(seeds: NDArray[np.uint64], positions: NDArray[np.uint64]) -> NDArray[np.float64]:
    """u(seed, position) in [0, 1), one per row."""
    return _uniforms(seeds, positions, _DRAWS)


def uniform(seed: int, position: int) -> float:
    """u(seed, position) in [0, 1). Seeds are taken modulo 2^64."""
    seeds = np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64)
    return float(uniforms(seeds, np.array([position], np.uint64))[0])
