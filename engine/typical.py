"""Locally typical sampling (Meister et al. 2023), with what follows it in the order of truncations.

What it is for: the one truncation whose survivors are not the highest logits, so that it cannot share the others'
compiled path. What may not enter: state. It sorts all legal tokens; requests that use it pay for that, others do not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.kernels import exact

Ids = NDArray[np.int32]
Values = NDArray[np.float32]


def typical(ids: Ids, values: Values, mass: float, limits: NDArray[np.float64]) -> tuple[Ids, Values]:
    """Keeps the tokens whose information is nearest to the entropy, up to `mass`; then `limits`, as `truncate`.

    Best first. At least one token survives if any is legal.
    """
    if len(ids) == 0:
        return ids, values
    logprobs = values.astype(np.float64) - np.logaddexp.reduce(values.astype(np.float64))
    probabilities = np.exp(logprobs)
    entropy = -float(np.sum(np.where(probabilities > 0, probabilities * logprobs, 0.0)))
    order = np.argsort(np.abs(-logprobs - entropy), kind="stable")
    kept = order[: 1 + int(np.searchsorted(np.cumsum(probabilities[order]), mass))]
    best_first = kept[np.lexsort((ids[kept], -values[kept]))]
    total = float(np.sum(np.exp(logprobs[best_first] - logprobs[best_first[0]])))
    return _survivors(ids[best_first], values[best_first], limits, total)


@exact
def _survivors(ids: Ids, values: Values, limits: NDArray[np.float64], total: float) -> tuple[Ids, Values]:
    """Top-k, top-p and min-p over tokens sorted best first; `total`: all mass, relative to the best token's."""
    count = len(ids)
    if count == 0:
        return ids, values
    weights = np.exp(values.astype(np.float64) - float(values[0]))
    if limits[0] > 0 and limits[0] < count:
        count = int(limits[0])
    if limits[0] > 0:
        total = float(np.sum(weights[:count]))
    if limits[1] < 1.0:
        count = min(count, _reaching(weights, limits[1] * total))
    least = limits[2] * weights[0]
    while count > 1 and weights[count - 1] < least:
        count -= 1
    return ids[:count], values[:count]


@exact
def _reaching(weights: NDArray[np.float64], enough: float) -> int:
    """How many of the first weights it takes."""
    mass = 0.0
    for index in range(len(weights)):
        mass += weights[index]
        if mass >= enough:
            return index + 1
    return len(weights)
