"""Plain draws over a row of candidates: the inverse-CDF draw that an unmarked choice makes, and what schemes share.

A row is `ids` (int32, each once, ascending or in any other order that is the same in every batch) and `logits`
(float32, what is left after mask, penalties, temperature and truncation). Sums run in float64 from left to right, so
the result depends on the row alone.
"""

import numpy as np
from numpy.typing import NDArray

from watermark.jit import compiled

Ids = NDArray[np.int32]
Logits = NDArray[np.float32]


@compiled
def best(logits: Logits) -> int:
    """The index of the largest logit, the first of equals."""
    winner = 0
    for i in range(1, len(logits)):
        if logits[i] > logits[winner]:
            winner = i
    return winner


@compiled
def inverse_cdf(weights: NDArray[np.float64], uniform: float) -> int:
    """The first index at which the running sum of `weights` passes `uniform` of their total."""
    total = 0.0
    for i in range(len(weights)):
        total += weights[i]
    target = uniform * total
    running = 0.0
    last = 0
    for i in range(len(weights)):
        if weights[i] > 0.0:
            running += weights[i]
            last = i
            if running > target:
                return i
    return last  # rounding left the sum a hair short of the total


@compiled
def softmax_weights(logits: Logits) -> NDArray[np.float64]:
    """exp(logit − largest), not normalised."""
    top = np.float64(logits[best(logits)])
    out = np.empty(len(logits), dtype=np.float64)
    for i in range(len(logits)):
        out[i] = np.exp(np.float64(logits[i]) - top)
    return out


@compiled
def plain_draw(logits: Logits, uniform: float, greedy: bool) -> int:
    """The unmarked choice: the best candidate, or one drawn from the softmax with the one uniform number."""
    if greedy:
        return best(logits)
    return inverse_cdf(softmax_weights(logits), uniform)


@compiled
def within(logits: Logits, margin: float) -> NDArray[np.int64]:
    """The indices whose logit is less than `margin` below the largest: the near ties (the best itself is one)."""
    floor = np.float64(logits[best(logits)]) - margin
    count = 0
    for i in range(len(logits)):
        if np.float64(logits[i]) > floor:
            count += 1
    out = np.empty(count, dtype=np.int64)
    count = 0
    for i in range(len(logits)):
        if np.float64(logits[i]) > floor:
            out[count] = i
            count += 1
    return out
