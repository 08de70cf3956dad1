"""engine.speculation.cost: the shape of a step's time, measured at start and learned from the steps made."""

from __future__ import annotations

import numpy as np
import pytest

from engine.speculation import StepCost, measured
from tests.engine.slots import SlotRunner


def test_what_was_measured_at_start_is_believed() -> None:
    cost = StepCost([(1, 1, 1.0), (1, 2, 1.1), (1, 4, 1.3), (1, 8, 1.7)])
    assert cost.growth(1, 1, 15) == pytest.approx(1.0 + 0.1 * np.arange(16))
    assert cost.growth(1, 1, 40)[-1] == pytest.approx(5.0), "a line goes on beyond what was measured"


def test_numbers_of_sequences_that_were_not_measured_follow_the_line_through_all() -> None:
    cost = StepCost([(1, 1, 1.1), (1, 2, 1.2), (4, 4, 1.4), (4, 8, 1.8)])
    assert cost.growth(16, 16, 16)[-1] == pytest.approx(4.2 / 2.6)


def test_steps_teach_the_shape_whatever_the_level() -> None:
    """The machine turns out to be eight times quicker than at start, and twice as dear a position."""
    cost = StepCost([(1, n, 8.0 * (1.0 + 0.1 * n)) for n in (1, 2, 4, 8)])
    rng = np.random.default_rng(0)
    for _ in range(3000):
        positions = int(rng.choice([1, 2, 4, 8]))
        cost.note(1, positions, (1.0 + 0.2 * positions) * float(rng.uniform(0.95, 1.05)))
    assert cost.growth(1, 1, 7)[7] == pytest.approx(2.6 / 1.2, rel=0.05)


def test_a_busy_machine_leaves_the_shape() -> None:
    cost = StepCost([(1, n, 1.0 + 0.1 * n) for n in (1, 2, 4, 8)])
    before = cost.growth(1, 1, 7)
    for _ in range(500):
        cost.note(1, 1, 5.0)
    assert cost.growth(1, 1, 7) == pytest.approx(before, rel=0.25)


def test_the_time_never_falls_with_more_positions() -> None:
    cost, rng = StepCost(), np.random.default_rng(1)
    for _ in range(1000):
        cost.note(2, int(rng.integers(2, 40)), float(rng.exponential()))
        assert (np.diff(cost.growth(2, 2, 60)) >= 0).all()


def test_the_runner_is_measured_within_its_pages_and_patience() -> None:
    ticks = iter(np.arange(0.0, 1000.0, 0.001))
    samples = measured(SlotRunner(pages=8, page_size=4), 16, 512, lambda: float(next(ticks)))
    assert [(sequences, positions) for sequences, positions, _ in samples] == [
        (1, 1),
        (1, 2),
        (1, 4),
        (4, 4),
        (4, 8),
        (4, 16),
    ]
    slow = iter(np.arange(0.0, 1000.0, 0.5))
    assert len(measured(SlotRunner(), 16, 512, lambda: float(next(slow)))) == 1
