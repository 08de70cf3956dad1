"""Histograms of steps, from what the loop has counted."""

from __future__ import annotations

import pytest

from engine.measures import Measures
from engine.step_times import SECOND_BOUNDS, StepTimes


def test_a_step_is_told_by_its_kind_and_phases() -> None:
    """The first one takes a prompt in, the second decodes, the third takes in another beside it."""
    times, measures = StepTimes(), Measures()
    times.note(measures, running=0)
    assert times.told() == {}
    for prefilled, running in ((7, 1), (7, 1), (12, 2)):
        measures.steps += 1
        measures.prefill_tokens = prefilled
        for phase, seconds in (("schedule", 0.001), ("forward", 0.03), ("sample", 0.004), ("conclude", 0.002)):
            measures.seconds[phase] = measures.seconds.get(phase, 0.0) + seconds
        times.note(measures, running)
    told = times.told()
    assert sum(told["inference/prefill"].counts) == 2
    assert told["inference/prefill"].total == pytest.approx(2 * 0.037)
    assert told["forward/decode"].total == pytest.approx(0.03)
    assert told["forward/decode"].counts[SECOND_BOUNDS.index(0.05)] == 1
    assert told["next_size"].total == 1 + 2
    assert sum(told["concat"].counts) == 1


def test_masks_that_the_forward_pass_hid_are_not_counted_twice() -> None:
    """Only the wait for them was part of the step."""
    times, measures = StepTimes(), Measures(steps=1)
    measures.seconds.update(forward=0.5, mask=0.4, mask_wait=0.1)
    times.note(measures, running=1)
    assert times.told()["inference/decode"].total == pytest.approx(0.6)
