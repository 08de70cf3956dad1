"""engine.speculation.allot: as many guesses as make the mean wait for a token least, against trying all splits."""

from __future__ import annotations

from collections.abc import Sequence
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


def mean_wait(split: Sequence[int], chances: list[list[float]], sequences: int, each: float) -> float:
    """The mean of all sequences' waits for a token; those without a chain get one a step."""
    brought = [1.0 + sum(chain[:count]) for chain, count in zip(chances, split, strict=True)]
    brought += [1.0] * (sequences - len(chances))
    return (1.0 + each * (sequences + sum(split))) * sum(1.0 / tokens for tokens in brought) / sequences


@given(chains, st.floats(0.0, 3.0))
def test_no_other_split_has_a_shorter_mean_wait(chances: list[list[float]], each: float) -> None:
    sequences = 4
    counts = allot(chances, sequences, sequences, costing(1.0, each, sequences))
    splits = product(*(range(len(chain) + 1) for chain in chances))
    best = min(mean_wait(split, chances, sequences, each) for split in splits)
    assert mean_wait(counts, chances, sequences, each) == pytest.approx(best, rel=1e-6)


def test_one_that_copies_does_not_keep_the_others_waiting() -> None:
    """Four more positions would double the step: more tokens in all, but three of four would wait longer for theirs."""
    likely = [0.99, 0.98, 0.97, 0.96]
    assert allot([likely, [], [], []], 4, 4, costing(0.0, 1.0, 4)) == [0] * 4
    assert allot([likely] * 4, 4, 4, costing(1.0, 0.25, 4)) == [4] * 4


def test_nothing_is_verified_where_every_position_costs_a_step() -> None:
    assert allot([[0.9, 0.8]], 1, 1, costing(0.0, 1.0, 1)) == [0]


def test_everything_is_verified_where_positions_cost_nothing() -> None:
    assert allot([[0.9, 0.1], [], [0.3]], 4, 4, costing(1.0, 0.0, 4)) == [2, 0, 1]
    assert allot([], 1, 1, StepCost()) == []
