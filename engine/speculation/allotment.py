"""How many guesses of each sequence a step verifies.

What it is for: one decision for all sequences of a step, since they share its time. What may not enter: who guessed.

The idea: a step that brings E tokens in T seconds has the rate E / T. A guess adds its chance to E and a position to T;
the best set is found by taking guesses in the order of their chances, as far as the rate is highest. When the device
has room, that is many; when its time grows with every position, only guesses that are nearly certain are left, then
none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.speculation.cost import StepCost


def allot(chances: Sequence[Sequence[float]], sequences: int, positions: int, cost: StepCost) -> list[int]:
    """How many of its first guesses each chain gets.

    `chances[i][j]`: that guess j of chain i and all before it come true. `sequences`, `positions`: of the step, without
    guesses; each sequence brings one token.
    """
    flat = np.concatenate([np.asarray(chain, np.float64) for chain in chances]) if chances else np.empty(0)
    if not len(flat):
        return [0] * len(chances)
    owner = np.repeat(np.arange(len(chances)), [len(chain) for chain in chances])
    order = np.argsort(-flat, kind="stable")  # a chain's chances fall, so its first guesses come first
    tokens = sequences + np.concatenate([[0.0], np.cumsum(flat[order])])
    best = int(np.argmax(tokens / cost.growth(sequences, positions, len(flat))))
    counts: list[int] = np.bincount(owner[order[:best]], minlength=len(chances)).tolist()
    return counts
