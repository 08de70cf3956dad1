"""What a step costs, by how many sequences decode in it and how many positions they bring.

What it is for: deciding how many guesses a step should verify. What may not enter: guesses.

The idea: only the shape matters, how the time grows with the positions of the same sequences. It is measured at start
on the runner itself, and then goes on being learned from the steps that are made, masks and draws included. A machine
that is busy with something else slows all of them alike: that moves the level, quickly, and leaves the shape.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from engine.batch import Runner, StepBatch

F64 = NDArray[np.float64]

_KNOTS = np.array([1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0])  # positions per sequence
_A_POSITION = 0.04  # of the time that does not depend on positions, before anything was measured
_LEVEL, _SHAPE = 0.2, 0.04  # how quickly a step's time moves the two
_STRETCHED = 2.0  # a step that took so many times longer or shorter than foreseen counts as that
_PATIENCE_S = 2.0  # for all measurements at start
_REPEATS, _MOST_REPEATS = 3, 20
_ENOUGH_S = 0.02  # of repeats of one step: a quick one is timed more often

Sample = tuple[int, int, float]  # sequences, positions, seconds


class StepCost:
    """Seconds of a step by `clock`. `samples`: measured beforehand."""

    def __init__(self, samples: Iterable[Sample] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._samples = list(samples)
        self._shapes: dict[int, F64] = {}
        self._levels: dict[int, float] = {}

    def note(self, sequences: int, positions: int, seconds: float) -> None:
        """A step in which all sequences decode took so long."""
        if seconds <= 0.0 or sequences <= 0:
            return
        group, shape = self._group(sequences)
        place = positions / sequences
        at = float(np.interp(place, _KNOTS, shape))
        level = self._levels.setdefault(group, seconds / at)
        ratio = min(max(seconds / (level * at), 1 / _STRETCHED), _STRETCHED)
        self._levels[group] = level * ratio**_LEVEL
        right = min(int(np.searchsorted(_KNOTS, place)), len(_KNOTS) - 1)
        left = max(right - 1, 0)
        share = 1.0 if left == right else min(1.0, (place - _KNOTS[left]) / (_KNOTS[right] - _KNOTS[left]))
        for knot, weight in ((left, 1.0 - share), (right, share)):
            shape[knot] *= ratio ** (_SHAPE * weight)
        np.maximum.accumulate(shape, out=shape)

    def growth(self, sequences: int, positions: int, most: int) -> F64:
        """(most + 1,): the time with 0 … most positions more, relative to that with none more."""
        _, shape = self._group(sequences)
        places = (positions + np.arange(most + 1)) / sequences
        seconds = np.interp(places, _KNOTS, shape)
        slope = (shape[-1] - shape[-2]) / (_KNOTS[-1] - _KNOTS[-2])
        seconds += slope * np.maximum(places - _KNOTS[-1], 0.0)
        grown: F64 = seconds / seconds[0]
        return grown

    def _group(self, sequences: int) -> tuple[int, F64]:
        """Numbers of sequences between two powers of two are treated alike."""
        group = (sequences - 1).bit_length()
        if group not in self._shapes:
            self._shapes[group] = self._first_shape(1 << group)
        return group, self._shapes[group]

    def _first_shape(self, sequences: int) -> F64:
        own = sorted((positions / count, seconds) for count, positions, seconds in self._samples if count == sequences)
        if len(own) < 2:
            fixed, each = self._line()
            return fixed + each * sequences * _KNOTS
        places, seconds = (np.array(each) for each in zip(*own, strict=True))
        slope = max(0.0, (seconds[-1] - seconds[-2]) / (places[-1] - places[-2]))
        shape: F64 = np.interp(_KNOTS, places, seconds) + slope * np.maximum(_KNOTS - places[-1], 0.0)
        return np.maximum.accumulate(shape)

    def _line(self) -> tuple[float, float]:
        """Seconds of no position, and of each, over all samples."""
        if len(self._samples) < 2:
            return 1.0, _A_POSITION
        positions, seconds = (np.array([sample[column] for sample in self._samples]) for column in (1, 2))
        each, fixed = np.polyfit(positions, seconds, 1)
        return max(float(fixed), 1e-9), max(float(each), 0.0)


def cost_clock(device: str) -> Callable[[], float]:
    """What a step costs: a device's time, or a CPU's, on which other processes do not count."""
    return time.process_time if device.startswith("cpu") else time.monotonic


def measured(runner: Runner, most_sequences: int, most_positions: int, clock: Callable[[], float]) -> list[Sample]:
    """Times the runner on steps of 1, 4, 16, … sequences with 1 to 8 positions each; about two seconds at most.

    It writes into the cache's first pages: before anything is served only.
    """
    samples: list[Sample] = []
    began = clock()
    sequences = 1
    while sequences <= min(most_sequences, runner.info.pages):
        for each in (1, 2, 4, 8):
            positions = sequences * each
            if positions > most_positions or clock() - began > _PATIENCE_S or each > runner.info.page_size:
                break
            samples.append((sequences, positions, _timed(runner, sequences, each, clock)))
        sequences *= 4
    return samples


def _timed(runner: Runner, sequences: int, each: int, clock: Callable[[], float]) -> float:
    batch = _step(sequences, each, runner.info.page_size)
    times: list[float] = []
    while len(times) < _REPEATS or (len(times) < _MOST_REPEATS and sum(times) < _ENOUGH_S):
        times.append(_once(runner, batch, clock))
    return min(times)


def _once(runner: Runner, batch: StepBatch, clock: Callable[[], float]) -> float:
    start = clock()
    runner.run(batch)[:1, :1].cpu()  # waits for a device; all logits would take longer to copy than to compute
    return clock() - start


def _step(sequences: int, each: int, page_size: int) -> StepBatch:
    """Each sequence has `each` tokens in a page of its own; all logits are wanted."""
    total = sequences * each
    offsets = np.tile(np.arange(each, dtype=np.int64), sequences)
    pages = np.arange(sequences, dtype=np.int32)
    return StepBatch(
        token_ids=np.zeros(total, np.int64),
        positions=offsets,
        query_starts=np.arange(0, total + 1, each, dtype=np.int32),
        context_lengths=np.full(sequences, each, np.int32),
        page_table=pages[:, None],
        slots=np.repeat(pages.astype(np.int64), each) * page_size + offsets,
        logit_rows=np.arange(total, dtype=np.int64),
    )
