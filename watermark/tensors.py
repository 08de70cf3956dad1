"""The same keyed function and choices over torch tensors, for logits that lie on a device: whole rows, no host round
trip.

All integers are int64 tensors that hold 32-bit words (torch has no full uint64 arithmetic): the product of two words
wraps as in two's complement, and its high word is cut out after an arithmetic shift, so every bit equals that of
`watermark.prf`, on CPU, CUDA and each rank. Seeds are made on the host (`Scheme.seeds`, 64 bits as signed integers):
a few numbers a row. Sums over the vocabulary may differ in the last digits between devices; colours and words never do.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from watermark.errors import SchemeError
from watermark.schemes.base import Scheme
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.kgw import ANCHOR_STREAM, COLOUR_STREAM, Kgw, SelfHash
from watermark.schemes.synthid import DROPPED, REACH, SynthId

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def seeds_tensor(seeds: Sequence[Sequence[np.uint64]], device: torch.device | str = "cpu") -> Tensor:
    """int64 (rows, seeds of a row) holding their bit patterns; all rows have as many (`Scheme.seeds`)."""
    return torch.from_numpy(np.array(seeds, dtype=np.uint64).view(np.int64)).to(device)


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10, elementwise with broadcasting; `key` int64 holds both key words, counters are below 2^32."""
    c0, c1, c2, c3 = counter
    k0, k1 = key & _MASK, (key >> 32) & _MASK
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def all_words(seeds: Tensor, vocabulary: int, stream: int = 0) -> Tensor:
    """int64 (rows, vocabulary): the word of each token id under each row's seed (rows,); four ids share a block."""
    blocks = torch.arange((vocabulary + 3) // 4, device=seeds.device, dtype=torch.int64)
    zero = torch.zeros(1, device=seeds.device, dtype=torch.int64)
    block = philox((blocks[None, :], zero + stream, zero, zero), seeds[:, None])
    return torch.stack(block, dim=-1).reshape(len(seeds), -1)[:, :vocabulary]


def choose(scheme: Scheme, logits: Tensor, seeds: Tensor, uniforms: Tensor, *, greedy: bool) -> tuple[Tensor, Tensor]:
    """For each row of `logits` (rows, vocabulary; scaled, −inf where illegal or truncated): its token, and two figures.

    `seeds` are a `seeds_tensor`, `uniforms` float64 (rows,). The figures, float64 (rows, 2), are what
    `Scheme.as_choice` makes a Choice of: for Gumbel the token's probability, for green lists the chance over keys that
    it is green, for SynthID mean and variance of its score. A row without a legal token gets a token that means
    nothing. Takes some tens of bytes a logit of room.
    """
    if greedy and not scheme.marks_greedy:
        raise SchemeError(f"{scheme.name} has nothing to choose at temperature 0")
    logits = logits.double()
    if isinstance(scheme, Gumbel):
        return _race(logits, all_words(seeds[:, 0], logits.shape[1]))
    if isinstance(scheme, SynthId):
        return _tournament(scheme, logits, all_words(seeds[:, 0], logits.shape[1]), uniforms)
    if isinstance(scheme, Kgw):
        words = _self_hash_words if isinstance(scheme, SelfHash) else _left_hash_words
        green = words(seeds, logits.shape[1]) < round(scheme.gamma * 2**32)
        return _best_green(logits, green, scheme) if greedy else _biased_draw(logits, green, scheme, uniforms)
    raise SchemeError(f"{scheme.name} has no form for tensors")


def _left_hash_words(seeds: Tensor, vocabulary: int) -> Tensor:
    return all_words(seeds[:, 0], vocabulary)


def _self_hash_words(seeds: Tensor, vocabulary: int) -> Tensor:
    """The word of each candidate's least pair; `seeds` (rows, 1 + h): the root's, then one of each earlier token."""
    least = torch.stack([all_words(each, vocabulary, ANCHOR_STREAM) for each in seeds.unbind(1)]).amin(dim=0)
    ids = torch.arange(vocabulary, device=seeds.device, dtype=torch.int64)[None, :]
    zero = torch.zeros(1, device=seeds.device, dtype=torch.int64)
    return philox((ids, zero + COLOUR_STREAM, least, zero), seeds[:, :1])[0]


def _told(first: Tensor, second: Tensor | None = None) -> Tensor:
    return torch.stack([first, torch.zeros_like(first) if second is None else second], dim=1)


def _race(logits: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    uniform = (words.double() + 0.5) * 2.0**-32
    winners = (logits - torch.log(-torch.log(uniform))).argmax(dim=1)
    return winners, _told(torch.log_softmax(logits, dim=1).gather(1, winners[:, None])[:, 0].exp())


def _drawn(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Inverse CDF over each row's weights, in order of the ids; rounding never leads to a token without weight."""
    sums = weights.cumsum(dim=1)
    last = weights.shape[1] - 1 - (weights > 0).flip(1).int().argmax(dim=1)
    found = torch.searchsorted(sums, (uniforms * sums[:, -1])[:, None], right=True)[:, 0]
    return torch.minimum(found, last)


def _near(logits: Tensor, scheme: Kgw) -> Tensor:
    return logits > logits.amax(dim=1, keepdim=True) - scheme.delta


def _best_green(logits: Tensor, green: Tensor, scheme: Kgw) -> tuple[Tensor, Tensor]:
    near = _near(logits, scheme)
    green = green & near
    best = torch.where(green | ~green.any(1, keepdim=True), logits, -torch.inf).argmax(1)
    return best, _told(1.0 - (1.0 - scheme.gamma) ** near.sum(dim=1).double())


def _biased_draw(logits: Tensor, green: Tensor, scheme: Kgw, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    near = _near(logits, scheme)
    biased = torch.where(green & near, logits + scheme.delta, logits)
    return _drawn(torch.softmax(biased, dim=1), uniforms), _told(_chance_green(logits, near, scheme))


def _chance_green(logits: Tensor, near: Tensor, scheme: Kgw) -> Tensor:
    """The chance over keys that a biased draw is green; the formula is explained at `watermark.schemes.kgw`."""
    p = torch.softmax(logits, dim=1)
    gain, gamma = float(np.expm1(scheme.delta)), scheme.gamma
    p_near = torch.where(near, p, 0.0)
    mass, squares = p_near.sum(1, True), (p_near**2).sum(1, True)

    def mean_inverse(own: Tensor) -> Tensor:
        middle = 1.0 + gain * (own + gamma * (mass - own))
        deviation = gain * (gamma * (1.0 - gamma) * (squares - own**2).clamp(min=0.0)).sqrt()
        up, down = ((1.0 - gamma) / gamma) ** 0.5, (gamma / (1.0 - gamma)) ** 0.5
        inverse: Tensor = gamma / (middle + up * deviation) + (1.0 - gamma) / (middle - down * deviation).clamp(min=1.0)
        return inverse

    of_near = gamma * (gain + 1.0) * (p_near * mean_inverse(p_near)).sum(1)
    of_rest = gamma * ((1.0 - mass) * mean_inverse(torch.zeros_like(mass)))[:, 0]
    chance: Tensor = (of_near + of_rest).clamp(max=1.0)
    return chance


def _tournament(scheme: SynthId, logits: Tensor, words: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """All layers over whole rows; explained at `watermark.schemes.synthid`."""
    runs = logits > logits.amax(dim=1, keepdim=True) - REACH
    p = torch.softmax(torch.where(runs, logits, -torch.inf), dim=1)
    mean = torch.zeros(len(p), dtype=torch.float64, device=p.device)
    variance = torch.zeros_like(mean)
    for layer, weight in enumerate(scheme.weights.tolist()):
        bits = ((words >> layer) & 1).double()
        chance = 0.5 + 0.25 * (1.0 - (p**2).sum(dim=1)).clamp(min=0.0)
        mean += weight * chance
        variance += weight**2 * chance * (1.0 - chance)
        p = p * (bits + (1.0 - (p * bits).sum(dim=1, keepdim=True)))
        p = torch.where(p > DROPPED, p, 0.0)
    return _drawn(p, uniforms), _told(mean, variance)
