"""Histograms of steps, from what the loop has counted."""

from __future__ import annotations

import pytest

from engine.histogram import SECONDS, SHARES
from engine.measures import Measures
from engine.step_times import StepTimes


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
    assert told["forward/decode"].counts[SECONDS.index(0.05)] == 1
    assert told["next_size"].total == 1 + 2
    assert sum(told["concat"].counts) == 1


def test_masks_that_the_forward_pass_hid_are_not_counted_twice() -> None:
    """Only the wait for them was part of the step."""
    times, measures = StepTimes(), Measures(steps=1)
    measures.seconds.update(forward=0.5, mask=0.4, mask_wait=0.1)
    times.note(measures, running=1)
    assert times.told()["inference/decode"].total == pytest.approx(0.6)


def test_the_hosts_part_is_all_but_the_passes_over_model_and_logits() -> None:
    """Scheduling, the wait for masks, advance and events; idle looks at the queue before the step are not its own."""
    times, measures = StepTimes(), Measures()
    measures.seconds.update(schedule=5.0)
    times.note(measures, running=0)
    measures.steps += 1
    for phase, seconds in (("schedule", 1e-3), ("forward", 0.5), ("mask", 0.4), ("mask_wait", 1e-4), ("sample", 0.2)):
        measures.seconds[phase] = measures.seconds.get(phase, 0.0) + seconds
    measures.seconds.update(conclude=2e-4, publish=3e-5)
    times.note(measures, running=1)
    told = times.told()
    assert told["host/decode"].total == pytest.approx(1e-3 + 1e-4 + 2e-4 + 3e-5)
    assert told["mask_wait/decode"].total == pytest.approx(1e-4)
    assert told["inference/decode"].total == pytest.approx(0.7 + 1.33e-3)


def test_tokens_that_come_at_once_share_the_time_since_the_one_before() -> None:
    """Three after 0.3 s are three gaps of 0.1 s."""
    times, measures = StepTimes(), Measures(steps=1)
    measures.note_gap(0.3, 3)
    measures.note_gap(0.1, 1)
    times.note(measures, running=2)
    gaps = times.told()["inter_token"]
    assert gaps.total == pytest.approx(0.4)
    assert sum(gaps.counts) == 4


def test_a_decode_step_tells_what_share_of_the_devices_bandwidth_it_used() -> None:
    """Each step by itself; one that took prompts in tells nothing, nor does any if the device was not measured."""
    times, unmeasured, measures = StepTimes(bandwidth=1000.0), StepTimes(), Measures()
    for read, seconds in ((300, 0.5), (0, 0.0), (400, 0.5)):
        measures.steps += 1
        measures.decode_bytes += read
        measures.decode_s += seconds
        times.note(measures, running=1)
        unmeasured.note(measures, running=1)
    shares = times.told()["bandwidth_share"]
    assert shares.counts[SHARES.index(0.6)] == shares.counts[SHARES.index(0.8)] == 1
    assert shares.total == pytest.approx(1.4)
    assert "bandwidth_share" not in unmeasured.told()
