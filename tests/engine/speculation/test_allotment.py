"""engine.speculation.allot: as many guesses as make the step's rate of tokens highest, against trying all splits."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.speculation import StepCost
from engine.speculation.allotment import allot

chains = st.lists(
    st.lists(st.floats(0.05, 0.95), max_size=4).map(lambda steps: np.cumprod(steps).tolist()), min_size=1, max_size=3
)


def costing(fixed: float, each: float, sequences: int) -> StepCost:
    """Steps of so many sequences take fixed + each · positions."""
    return StepCost([(sequences, positions, fixed + each * positions) for positions in (sequences, 24 * sequences)])


@given(chains, st.floats(0.0, 3.0))
def test_no_other_split_has_a_higher_rate(chances: list[list[float]], each: float) -> None:
    sequences = 4
    cost = costing(1.0, each, sequences)
    counts = allot(chances, sequences, sequences, cost)

    def rate(split: tuple[int, ...]) -> float:
        tokens = sequences + sum(sum(chain[:count]) for chain, count in zip(chances, split, strict=True))
        return float(tokens / (1.0 + each * (sequences + sum(split))))

    best = max(rate(split) for split in product(*(range(len(chain) + 1) for chain in chances)))
    assert rate(tuple(counts)) == pytest.approx(best, rel=1e-6)


def test_nothing_is_verified_where_every_position_costs_a_step() -> None:
    assert allot([[0.9, 0.8]], 1, 1, costing(0.0, 1.0, 1)) == [0]


def test_everything_is_verified_where_positions_cost_nothing() -> None:
    assert allot([[0.9, 0.1], [], [0.3]], 4, 4, costing(1.0, 0.0, 4)) == [2, 0, 1]
    assert allot([], 1, 1, StepCost()) == []
