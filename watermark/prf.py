"""The keyed pseudo-random function under every scheme: integers in, integers out, the same on each machine.

Two stages. SipHash-2-4 (Aumasson and Bernstein 2012) under the 128-bit key turns the context into a 64-bit *seed*; it
is a PRF in the cryptographer's sense, so seeds of other contexts stay unknown to who reads many outputs.
Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") spreads a seed over the vocabulary:
counter-based, so the *word* of one candidate costs the same whether or not its neighbours are asked for, and no list
is ever permuted. A block holds the words of four consecutive token ids. Nothing here is a float; colours are decided
by comparing integers.

`watermark.tensors` holds the same functions over torch tensors; tests hold the two equal bit by bit.
"""

import numpy as np
from numpy.typing import NDArray

from watermark.jit import compiled

Seeds = NDArray[np.uint64]
Words = NDArray[np.uint32]
Block = tuple[np.uint64, np.uint64, np.uint64, np.uint64]

# Domain of a seed: a key shared by two schemes must give them unrelated words.
DOMAIN_KGW, DOMAIN_SELF_HASH, DOMAIN_UNIGRAM, DOMAIN_GUMBEL, DOMAIN_SYNTHID = 1, 2, 3, 4, 5
DOMAIN_COMMONPLACES = 6  # without a key

_MASK = np.uint64(0xFFFFFFFF)
_S32 = np.uint64(32)
_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)
LANES = 64  # blocks that are made together
_DENSE = 8  # ids further apart than this in the mean are made one by one


@compiled
def philox(counter: Block, key: np.uint64) -> Block:
    """One Philox4x32-10 block; each word of `counter` is uint64 below 2^32, `key` uint64 (its low word is Philox's
    first).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key & _MASK, key >> _S32
    for _ in range(10):
        p0, p1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (p1 >> _S32) ^ c1 ^ k0, p1 & _MASK, (p0 >> _S32) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL_0) & _MASK, (k1 + _WEYL_1) & _MASK
    return c0, c1, c2, c3


@compiled
def _rotate(x: np.uint64, bits: int) -> np.uint64:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@compiled
def _sip_round(v: Block) -> Block:
    v0, v1, v2, v3 = v
    v0 += v1
    v1 = _rotate(v1, 13) ^ v0
    v0 = _rotate(v0, 32)
    v2 += v3
    v3 = _rotate(v3, 16) ^ v2
    v0 += v3
    v3 = _rotate(v3, 21) ^ v0
    v2 += v1
    v1 = _rotate(v1, 17) ^ v2
    v2 = _rotate(v2, 32)
    return v0, v1, v2, v3


@compiled
def siphash(message: NDArray[np.uint64], key: NDArray[np.uint64]) -> np.uint64:
    """SipHash-2-4 of the message's 64-bit little-endian words under `key` (two such words)."""
    k0, k1 = key[0], key[1]
    v = (
        k0 ^ np.uint64(0x736F6D6570736575),
        k1 ^ np.uint64(0x646F72616E646F6D),
        k0 ^ np.uint64(0x6C7967656E657261),
        k1 ^ np.uint64(0x7465646279746573),
    )
    for i in range(len(message) + 1):
        # The last word of SipHash is the length in bytes, modulo 256, in its top byte.
        word = message[i] if i < len(message) else np.uint64((8 * len(message)) & 0xFF) << np.uint64(56)
        v = (v[0], v[1], v[2], v[3] ^ word)
        v = _sip_round(_sip_round(v))
        v = (v[0] ^ word, v[1], v[2], v[3])
    v = (v[0], v[1], v[2] ^ np.uint64(0xFF), v[3])
    for _ in range(4):
        v = _sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


@compiled
def context_seed(context: NDArray[np.int64], key: NDArray[np.uint64], domain: int) -> np.uint64:
    """The seed of a context (last tokens, oldest first); its length takes part: two widths never meet.

    Called from Python it arrives as a plain int: wrap it in np.uint64 before it goes into a kernel again.
    """
    message = np.empty(len(context) + 1, dtype=np.uint64)
    message[0] = np.uint64(domain)
    for i in range(len(context)):
        message[i + 1] = np.uint64(context[i])
    return siphash(message, key)


@compiled
def block_of(seed: np.uint64, token: np.int64, stream: int) -> Block:
    """The Philox block that holds `token`'s word (and its three neighbours')."""
    return philox((np.uint64(token) >> np.uint64(2), np.uint64(stream), np.uint64(0), np.uint64(0)), seed)


@compiled
def word_in(block: Block, token: np.int64) -> np.uint64:
    """`token`'s word, as uint64 below 2^32, out of its block."""
    lane = token & 3
    if lane == 0:
        return block[0]
    if lane == 1:
        return block[1]
    if lane == 2:
        return block[2]
    return block[3]


@compiled
def _is_run(ids: NDArray[np.int32]) -> bool:
    """Whether the ids are many and follow one another: all of a vocabulary, mostly."""
    if len(ids) <= LANES or np.int64(ids[-1]) - np.int64(ids[0]) != len(ids) - 1:
        return False
    gaps = np.int32(0)
    for i in range(len(ids) - 1):
        gaps += np.int32(ids[i + 1] - ids[i] != 1)
    return bool(gaps == 0)


@compiled
def words(seed: np.uint64, ids: NDArray[np.int32]) -> Words:
    """The words of many candidates under one seed; ascending ids share blocks."""
    if _is_run(ids):
        before = np.int64(ids[0]) & 3
        span = span_words(seed, np.int64(ids[0]) >> 2, (np.int64(ids[-1]) >> 2) + 1)
        return span[before : before + len(ids)]
    out = np.empty(len(ids), dtype=np.uint32)
    if len(ids) > LANES:
        first, last = np.int64(ids.min()), np.int64(ids.max())
        if last - first < _DENSE * len(ids):
            span = span_words(seed, first >> 2, (last >> 2) + 1)
            base = (first >> 2) << 2
            for i in range(len(ids)):
                out[i] = span[ids[i] - base]
            return out
    held = np.int64(-1)
    block = (np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0))
    for i in range(len(ids)):
        token = np.int64(ids[i])
        if token >> 2 != held:
            block = block_of(seed, token, 0)
            held = token >> 2
        out[i] = np.uint32(word_in(block, token))
    return out


@compiled
def fill(seed: np.uint64, first: int, out: NDArray[np.uint32]) -> None:
    """Writes the words of the blocks first … first + `LANES` − 1 to `out` (LANES, 4).

    So many blocks in one plain loop become vector instructions: twelve times as fast as block by block.
    """
    for j in range(LANES):
        block = block_of(seed, np.int64((first + j) << 2), 0)
        out[j, 0], out[j, 1] = np.uint32(block[0]), np.uint32(block[1])
        out[j, 2], out[j, 3] = np.uint32(block[2]), np.uint32(block[3])


@compiled
def span_words(seed: np.uint64, first: np.int64, last: np.int64) -> Words:
    """The words of every token of the blocks first … last − 1, and some more."""
    count = (last - first + LANES - 1) // LANES * LANES
    out = np.empty((count, 4), dtype=np.uint32)
    for start in range(0, count, LANES):
        fill(seed, int(first) + start, out[start : start + LANES])
    return out.reshape(-1)


@compiled
def seeds(contexts: NDArray[np.int64], widths: NDArray[np.int64], key: NDArray[np.uint64], domain: int) -> Seeds:
    """The seed of each row of `contexts` (n, width), whose first `widths[i]` entries count."""
    out = np.empty(len(contexts), dtype=np.uint64)
    for i in range(len(contexts)):
        out[i] = context_seed(contexts[i, : widths[i]], key, domain)
    return out


@compiled
def word_pairs(seeds: Seeds, tokens: NDArray[np.int64]) -> Words:
    """The word of tokens[i] under seeds[i]."""
    out = np.empty(len(tokens), dtype=np.uint32)
    for i in range(len(tokens)):
        out[i] = np.uint32(word_in(block_of(seeds[i], tokens[i], 0), tokens[i]))
    return out
