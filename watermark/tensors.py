"""The same keyed function and choices over torch tensors, for the logits side of a GPU: whole rows, no host round
trip.

All integers are int64 tensors that hold 32-bit words (torch has no full uint64 arithmetic): the product of two words
wraps as in two's complement, and its high word is cut out after an arithmetic shift, so every bit equals that of
`watermark.prf`, on CPU, CUDA and each rank. Seeds are made on the host (`Scheme.seed`, 64 bits as a signed integer):
one number a row. Sums over the vocabulary may differ in the last digits between devices; colours and words never do.
"""

import numpy as np
import torch
from torch import Tensor

from watermark.errors import SchemeError
from watermark.schemes.base import Choice, Scheme
from watermark.schemes.gumbel import Gumbel, expected_score
from watermark.schemes.kgw import Kgw, SelfHash

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def seeds_tensor(seeds: list[np.uint64], device: torch.device | str = "cpu") -> Tensor:
    """int64 (rows,) holding the bit patterns of the seeds."""
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


def all_words(seeds: Tensor, vocabulary: int) -> Tensor:
    """int64 (rows, vocabulary): the word of each token id under each row's seed; four ids share a block."""
    blocks = torch.arange((vocabulary + 3) // 4, device=seeds.device, dtype=torch.int64)
    zero = torch.zeros(1, device=seeds.device, dtype=torch.int64)
    block = philox((blocks[None, :], zero, zero, zero), seeds[:, None])
    return torch.stack(block, dim=-1).reshape(len(seeds), -1)[:, :vocabulary]


def choose(scheme: Scheme, logits: Tensor, seeds: Tensor, uniforms: Tensor, greedy: Tensor) -> tuple[Tensor, Tensor]:
    """For each row (rows, vocabulary; −inf where illegal or truncated): the chosen id, and what to say of it.

    The second result is float64 (rows,): for Gumbel the probability of the chosen token, for green lists the chance
    over keys that it is green; `as_choices` turns it into a Choice's numbers. Rows that carry no mark do not belong
    here.
    """
    if isinstance(scheme, Gumbel):
        return _race(logits, all_words(seeds, logits.shape[1]))
    if isinstance(scheme, Kgw) and not isinstance(scheme, SelfHash):
        green = all_words(seeds, logits.shape[1]) < round(scheme.gamma * 2**32)
        return _near_tie(logits.double(), green, scheme, uniforms, greedy)
    raise SchemeError(f"{scheme.name} is chosen row by row: it has no whole-vocabulary form")


def as_choices(scheme: Scheme, chosen: Tensor, figures: Tensor) -> list[Choice]:
    """The results of `choose` as the embedder commits them; `index` is the token id. Copies to the host once."""
    rows = zip(chosen.tolist(), figures.tolist(), strict=True)
    if isinstance(scheme, Gumbel):
        return [Choice(token, True, *expected_score(probability)) for token, probability in rows]
    return [Choice(token, True, chance, chance * (1.0 - chance)) for token, chance in rows]


def _race(logits: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    uniform = (words.double() + 0.5) * 2.0**-32
    winners = (logits.double() - torch.log(-torch.log(uniform))).argmax(dim=1)
    log_probability = torch.log_softmax(logits.double(), dim=1)
    return winners, log_probability.gather(1, winners[:, None])[:, 0].exp()


def _near_tie(logits: Tensor, green: Tensor, scheme: Kgw, uniforms: Tensor, greedy: Tensor) -> tuple[Tensor, Tensor]:
    near = logits > logits.amax(dim=1, keepdim=True) - scheme.delta
    biased = torch.where(green & near, logits + scheme.delta, logits)
    # A green near tie passes every red candidate (`near` is strict), so the best green one wins if there is any.
    green_near = green & near
    best = torch.where(green_near | ~green_near.any(1, keepdim=True), logits, -torch.inf).argmax(1)
    weights = torch.softmax(biased, dim=1).cumsum(dim=1)
    drawn = torch.searchsorted(weights, (uniforms * weights[:, -1])[:, None], right=True)[:, 0]
    chance_greedy = 1.0 - (1.0 - scheme.gamma) ** near.sum(dim=1)
    chance = torch.where(greedy, chance_greedy, _chance_green(logits, near, scheme))
    return torch.where(greedy, best, drawn.clamp(max=logits.shape[1] - 1)), chance


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
