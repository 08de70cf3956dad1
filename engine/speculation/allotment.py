"""How many guesses of each sequence a step verifies.

What it is for: one decision for all sequences of a step, since they share its time. What may not enter: who guessed.

The idea: a sequence that expects e guesses to come true waits T / (1 + e) for a token in a step of T seconds. The best
set of guesses makes the mean of these waits least: guesses are taken in the order in which they shorten it, as far as
T does not grow by more. When the device has room, that is many; when its time grows with every position, only guesses
that are nearly certain are left, then none. (The rate of all tokens together is another aim: then a few sequences that
copy make the steps long for those that do not, and requests wait longer in the mean though the machine does less.)
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
    brought = [1.0 + np.concatenate([[0.0], np.cumsum(chain)]) for chain in chances]  # by each chain's first guesses
    if not any(map(len, chances)):
        return [0] * len(chances)
    # A chain's chances fall, so what its guesses save falls too: its first ones come first in the order.
    saved = np.concatenate([-np.diff(1.0 / each) for each in brought])
    owner = np.repeat(np.arange(len(chances)), [len(chain) for chain in chances])
    order = np.argsort(-saved, kind="stable")
    waits = sequences - np.concatenate([[0.0], np.cumsum(saved[order])])
    best = int(np.argmin(waits * cost.growth(sequences, positions, len(saved))))
    counts: list[int] = np.bincount(owner[order[:best]], minlength=len(chances)).tolist()
    return counts
