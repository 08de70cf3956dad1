# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# (Triton gives the kernels' arguments their types.)
# ruff: noqa: N803 - Triton names compile-time arguments in capitals
"""The two kernels of a device's sampler: survey all blocks of all rows under their masks, and draw one token a row.

What it is for: `device_sampler` launches them. What may not enter: requests, truncation, the host.

The idea is the CPU's (`logits`): blocks of 1,024 logits, each with its own maximum and its sum relative to it, then an
inverse CDF over blocks and inside one of them, in float64 across blocks. A mask is named by its row in a table on the
device, so a step sends row numbers. Each row's additions have a fixed order, whatever rows stand beside it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

BLOCK = 1024


@triton.jit
def legal_tokens(masks, which, words, token, inside):
    word = tl.load(masks + tl.maximum(which, 0).to(tl.int64) * words + token // 32, mask=inside, other=0)
    word = tl.where(which < 0, -1, word)  # no mask: all are legal
    return inside & (((word >> (token % 32)) & 1) != 0)


@triton.jit
def _survey(logits, masks, mask_of, scales, peaks, sums, width, words, blocks, BLOCK: tl.constexpr):  # noqa: PLR0913, PLR0917
    row, block = tl.program_id(0), tl.program_id(1)
    token = block * BLOCK + tl.arange(0, BLOCK)
    inside = token < width
    legal = legal_tokens(masks, tl.load(mask_of + row), words, token, inside)
    x = tl.load(logits + row.to(tl.int64) * width + token, mask=inside, other=float("-inf"))
    x = tl.where(legal, x, float("-inf"))
    top = tl.max(x, 0)
    safe = tl.where(top == float("-inf"), 0.0, top)
    total = tl.sum(tl.exp((x - safe) * tl.load(scales + row)), 0)
    tl.store(peaks + row * blocks + block, top)
    tl.store(sums + row * blocks + block, total)


@triton.jit
def _draw(  # noqa: PLR0913, PLR0917
    logits,
    masks,
    mask_of,
    scales,
    greedy,
    noise,
    peaks,
    sums,
    tokens,
    width,
    words,
    blocks,
    BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    row = tl.program_id(0)
    block = tl.arange(0, BLOCKS)
    peak = tl.load(peaks + row * blocks + block, mask=block < blocks, other=float("-inf"))
    total = tl.load(sums + row * blocks + block, mask=block < blocks, other=0.0)
    scale, is_greedy = tl.load(scales + row), tl.load(greedy + row) != 0
    best = tl.max(peak, 0)
    safe = tl.where(best == float("-inf"), 0.0, best)
    weight = tl.exp(((peak - safe) * scale).to(tl.float64)) * total.to(tl.float64)
    weight = tl.where(peak == float("-inf"), 0.0, weight)
    rest = tl.load(noise + row) * tl.sum(weight, 0)
    # Rounding may lead past the end: it is then the last with any weight.
    last = tl.max(tl.where(weight > 0, block, -1), 0)
    chosen = tl.min(tl.where((tl.cumsum(weight, 0) > rest) & (weight > 0), block, BLOCKS), 0)
    chosen = tl.where(is_greedy, tl.min(tl.where(peak == best, block, BLOCKS), 0), tl.minimum(chosen, last))
    rest -= tl.sum(tl.where(block < chosen, weight, 0.0), 0)

    token = tl.maximum(chosen, 0) * BLOCK + tl.arange(0, BLOCK)
    inside = token < width
    legal = legal_tokens(masks, tl.load(mask_of + row), words, token, inside)
    x = tl.load(logits + row.to(tl.int64) * width + token, mask=inside, other=float("-inf"))
    x = tl.where(legal, x, float("-inf"))
    weight = tl.exp(((x - safe) * scale).to(tl.float64))
    weight = tl.where(x == float("-inf"), 0.0, weight)
    last = tl.max(tl.where(weight > 0, token, -1), 0)
    drawn = tl.min(tl.where((tl.cumsum(weight, 0) > rest) & (weight > 0), token, width), 0)
    drawn = tl.where(is_greedy, tl.min(tl.where(x == best, token, width), 0), tl.minimum(drawn, last))
    tl.store(tokens + row, tl.where(best == float("-inf"), -1, drawn).to(tl.int64))


class Ruled(NamedTuple):
    """Logits (R, V) and what rules each row, in the order in which both kernels take it."""

    logits: torch.Tensor
    masks: torch.Tensor  # (table, words) int32
    mask_of: torch.Tensor  # (R,) int32: the row of `masks` that applies, −1: all are legal
    scales: torch.Tensor  # (R,) float32: 1 / temperature


def survey(ruled: Ruled) -> tuple[torch.Tensor, torch.Tensor]:
    """Peaks and sums of the blocks, (R, blocks) float32.

    A block without legal tokens has the peak −inf; a NaN or +inf shows as a NaN in the sums.
    """
    rows, width = ruled.logits.shape
    blocks, words = -(-width // BLOCK), ruled.masks.shape[1]
    peaks, sums = (torch.empty((rows, blocks), dtype=torch.float32, device=ruled.logits.device) for _ in range(2))
    if rows:
        _survey[(rows, blocks)](*ruled, peaks, sums, width, words, blocks, BLOCK=BLOCK)
    return peaks, sums


def log_sum(peaks: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
    """(R,) float64: log-sum-exp of what was surveyed; peaks as they were scaled."""
    return torch.logsumexp(peaks.double() + sums.double().log(), dim=1)


def draw(
    ruled: Ruled, greedy: torch.Tensor, noise: torch.Tensor, surveyed: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """(R,) int64: the token of each row, −1 where none is legal. `greedy` int32, `noise` float64, each (R,);
    `surveyed`: of `survey`, told the same."""
    rows, width = ruled.logits.shape
    blocks, words = surveyed[0].shape[1], ruled.masks.shape[1]
    tokens = torch.full((rows,), -1, dtype=torch.int64, device=ruled.logits.device)
    if rows:
        most = triton.next_power_of_2(blocks)
        _draw[(rows,)](*ruled, greedy, noise, *surveyed, tokens, width, words, blocks, BLOCK=BLOCK, BLOCKS=most)
    return tokens
