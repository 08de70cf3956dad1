# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# (Triton gives the kernels' arguments their types.)
# ruff: noqa: N803 - Triton names compile-time arguments in capitals
"""The keyed function inside a device's kernels: the words of a block of tokens, and the Gumbel noise of a word.

What it is for: `engine.triton_marking` chooses with it where the logits lie. What may not enter: logits, masks, rows;
importing it needs Triton, so `watermark` itself does not.

Words are integers and equal `watermark.prf`'s bit by bit (Triton's Philox is the published one; tests hold both to the
same vectors). A block of Philox holds four tokens' words, so a quarter of the lanes makes them all.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def words(seed, first, BLOCK: tl.constexpr):
    """uint32 words of the tokens first … first + BLOCK − 1; `first` is a multiple of four."""
    counter = (first // 4 + tl.arange(0, BLOCK // 4)).to(tl.uint32)
    zero = tl.zeros_like(counter)
    w0, w1, w2, w3 = tl.philox(seed, counter, zero, zero, zero)
    return tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3))


@triton.jit
def noise(word):
    """Gumbel noise in float64, as `watermark.schemes.gumbel.noise_of`."""
    return -tl.log(-tl.log((word.to(tl.float64) + 0.5) * 2.3283064365386963e-10))


@triton.jit
def rough_noise(word):
    """The same in float32, within 1e-5: words near 2³², where winners lie, are read from their distance to it."""
    below_half = word.to(tl.int32, bitcast=True) >= 0
    left = ((~word).to(tl.float32) + 0.5) * 2.3283064365386963e-10  # 1 − u
    u = tl.where(below_half, (word.to(tl.float32) + 0.5) * 2.3283064365386963e-10, 1.0 - left)
    lost = 1.0 - u  # what of `left` rounding kept: log1p by Kahan's correction
    surprise = -tl.log(u) * tl.where(below_half, 1.0, left / tl.where(lost == 0.0, 1.0, lost))
    return -tl.log(tl.where(lost == 0.0, left, surprise))
