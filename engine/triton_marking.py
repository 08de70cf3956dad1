# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# (Triton gives the kernels' arguments their types.)
# ruff: noqa: N803 - Triton names compile-time arguments in capitals
"""The watermark's two default choices as kernels: the keyed race, and the best green near tie.

What it is for: `device_marks` launches them on the rows that carry such a mark, while all other rows are drawn by
`triton_sampling`. What may not enter: keys (a row brings the seed of its context), requests, the host.

The idea of the race: noise in float32 says which blocks may hold the winner, and only those, nearly always one, are
raced again in float64; so the winner is the CPU's, and devices with slow float64 do not pay for it. Green lists read
only the blocks that hold a near tie.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from engine.triton_sampling import BLOCK, Ruled, legal_tokens
from watermark import triton_words


@triton.jit
def _scaled(logits, masks, mask_of, scales, row, first, width, words, BLOCK: tl.constexpr):  # noqa: PLR0913, PLR0917
    """Logits of a block at the row's temperature; −inf where illegal."""
    token = first + tl.arange(0, BLOCK)
    inside = token < width
    legal = legal_tokens(masks, tl.load(mask_of + row), words, token, inside)
    x = tl.load(logits + row.to(tl.int64) * width + token, mask=inside, other=float("-inf"))
    return tl.where(legal, x, float("-inf")) * tl.load(scales + row)


@triton.jit
def _heats(logits, masks, mask_of, scales, rows, seeds, scores, width, words, blocks, BLOCK: tl.constexpr):  # noqa: PLR0913, PLR0917
    at, block = tl.program_id(0), tl.program_id(1)
    first = block * BLOCK
    x = _scaled(logits, masks, mask_of, scales, tl.load(rows + at), first, width, words, BLOCK)
    noise = triton_words.rough_noise(triton_words.words(tl.load(seeds + at), first, BLOCK))
    tl.store(scores + at * blocks + block, tl.max(x + noise, 0))


@triton.jit
def _final(  # noqa: PLR0913, PLR0917
    logits,
    masks,
    mask_of,
    scales,
    rows,
    seeds,
    scores,
    winners,
    width,
    words,
    blocks,
    BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    at = tl.program_id(0)
    row, seed = tl.load(rows + at), tl.load(seeds + at)
    place = tl.arange(0, BLOCKS)
    rough = tl.load(scores + at * blocks + place, mask=place < blocks, other=float("-inf"))
    top = tl.max(rough, 0)
    # More than the roundings of float32 noise and of its sum with a logit.
    bar = tl.where(top == float("-inf"), 0.0, top - 1e-3 - 1e-6 * tl.abs(top))
    lead = tl.full((), float("-inf"), tl.float64)
    winner = tl.full((), -1, tl.int32)
    block = tl.min(tl.where(rough >= bar, place, BLOCKS), 0)
    while block < blocks:
        first = block * BLOCK
        x = _scaled(logits, masks, mask_of, scales, row, first, width, words, BLOCK).to(tl.float64)
        score = x + triton_words.noise(triton_words.words(seed, first, BLOCK))
        best = tl.max(score, 0)
        token = first + tl.min(tl.where(score == best, tl.arange(0, BLOCK), BLOCK), 0)
        winner = tl.where(best > lead, token, winner)
        lead = tl.maximum(best, lead)
        block = tl.min(tl.where((rough >= bar) & (place > block), place, BLOCKS), 0)
    tl.store(winners + at, winner.to(tl.int64))


@triton.jit
def _greens(  # noqa: PLR0913, PLR0917
    logits,
    masks,
    mask_of,
    scales,
    rows,
    seeds,
    peaks,
    floors,
    counts,
    values,
    tokens,
    threshold,
    width,
    words,
    blocks,
    BLOCK: tl.constexpr,
):
    at, block = tl.program_id(0), tl.program_id(1)
    row, here = tl.load(rows + at), at * blocks + block
    floor = tl.load(floors + row)
    if tl.load(peaks + row * blocks + block).to(tl.float64) > floor:
        first = block * BLOCK
        x = _scaled(logits, masks, mask_of, scales, row, first, width, words, BLOCK)
        near = x.to(tl.float64) > floor
        word = triton_words.words(tl.load(seeds + at), first, BLOCK)
        green = tl.where(near & (word.to(tl.int64) < threshold), x, float("-inf"))
        value = tl.max(green, 0)
        token = first + tl.min(tl.where(green == value, tl.arange(0, BLOCK), BLOCK), 0)
        tl.store(counts + here, tl.sum(near.to(tl.int32), 0))
        tl.store(values + here, value)
        tl.store(tokens + here, token.to(tl.int64))


def race(ruled: Ruled, rows: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
    """(n,) int64: who wins the keyed race of each row of `rows` (n,) int32, −1 where nobody is legal.

    `seeds` (n,) int64 hold the bits of the contexts' seeds.
    """
    width, words = ruled.logits.shape[1], ruled.masks.shape[1]
    blocks = -(-width // BLOCK)
    scores = torch.empty((len(rows), blocks), dtype=torch.float32, device=rows.device)
    winners = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    most = triton.next_power_of_2(blocks)
    _heats[(len(rows), blocks)](*ruled, rows, seeds, scores, width, words, blocks, BLOCK=BLOCK)
    _final[(len(rows),)](*ruled, rows, seeds, scores, winners, width, words, blocks, BLOCK=BLOCK, BLOCKS=most)
    return winners


def greenest(
    ruled: Ruled, rows: torch.Tensor, seeds: torch.Tensor, peaks: torch.Tensor, gamma: float, delta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest green near tie of each row, −1 where none is green; and how many near ties there are.

    `peaks` (R, blocks): `triton_sampling.survey`'s of all rows, told the same. Both results (n,) int64.
    """
    width, words, blocks = ruled.logits.shape[1], ruled.masks.shape[1], peaks.shape[1]
    shape, device = (len(rows), blocks), rows.device
    counts = torch.zeros(shape, dtype=torch.int32, device=device)
    values = torch.full(shape, float("-inf"), device=device)
    tokens = torch.zeros(shape, dtype=torch.int64, device=device)
    found = (peaks, peaks.amax(dim=1).double() - delta, counts, values, tokens)
    _greens[shape](*ruled, rows, seeds, *found, round(gamma * 2**32), width, words, blocks, BLOCK=BLOCK)
    block = values.argmax(dim=1, keepdim=True)  # the first of equals
    none = values.gather(1, block)[:, 0] == float("-inf")
    return tokens.gather(1, block)[:, 0].masked_fill(none, -1), counts.sum(dim=1)
