"""After warming, no request compiles anything."""

from typing import Any

import numpy as np
import pytest

from watermark import SCHEMES, Embedder, Key, Kind, Position, scheme, warm
from watermark.detector import Detector
from watermark.draw import best, inverse_cdf, plain_draw, softmax_weights, within
from watermark.prf import context_seed, seeds, siphash, word_pairs, words
from watermark.schemes.gumbel import race
from watermark.schemes.synthid import tournament

KERNELS: tuple[Any, ...] = (
    *(best, inverse_cdf, plain_draw, softmax_weights, within),
    *(context_seed, seeds, siphash, word_pairs, words),
    *(race, tournament),
)


@pytest.mark.parametrize("greedy", [False, True])
def test_no_kernel_meets_new_types_after_warming(greedy: bool) -> None:
    """The numbers of compiled signatures stay what they were."""
    warm()
    before = [len(kernel.signatures) for kernel in KERNELS]
    key = Key.derive(b"a secret", id="k")
    for name in SCHEMES:
        embedder = Embedder(scheme(name), key)
        ids, logits = np.array([4, 9, 70_000], dtype=np.int32), np.array([0.5, 1.0, 0.9], dtype=np.float32)
        for context in [[1], [5, 6, 7, 8], (1, 2, 3, 4, 5)]:
            choice = embedder.choose(ids, logits, context, Kind.VALUE, 0.25, greedy=greedy)
            embedder.observe(4, context, Kind.VALUE, choice)
        Detector(scheme(name), [key]).score([Position(4, (1, 2, 3, 4), Kind.PROSE), Position(5, (4, 5), Kind.VALUE)])
    assert [len(kernel.signatures) for kernel in KERNELS] == before
