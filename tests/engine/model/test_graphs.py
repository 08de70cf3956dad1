"""engine.model.graphs up to the device: any step, padded and replayed, gives the logits that it gives by itself."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import StepBatch
from engine.model.device_batch import DeviceBatch, to_device
from engine.model.executors import text_batch
from engine.model.graphs import (
    Geometry,
    Recording,
    Shape,
    StepBuffers,
    StepGraphs,
    bucket_sizes,
    fitting,
    shapes,
)
from tests.engine.model.paged import PagedDriver
from tests.engine.slots import SlotRunner

_CPU = torch.device("cpu")
PAGES, PAGE_SIZE, GUESSES, SEQUENCES = 40, 4, 4, 3


class Played:
    """Stands in for the device's recorder: a replay computes again, into the tensors of the recording."""

    def __init__(self, watcher: Seeing | None = None) -> None:
        self._watcher = watcher
        self.replays = 0

    def __call__(self, compute: Callable[[], torch.Tensor]) -> Recording:
        logits = compute().clone()
        hidden = None if self._watcher is None else self._watcher.hidden

        def replay() -> None:
            self.replays += 1
            logits.copy_(compute())
            if self._watcher is not None and hidden is not None:
                hidden.copy_(self._watcher.hidden)

        return Recording(replay, logits)


class Seeing:
    """Keeps the token ids of the last pass in the place of hidden states."""

    def __init__(self) -> None:
        self.hidden = torch.empty(0)


class Watched(SlotRunner):
    """The imaginary model over padded steps: a token that nobody owns is read by nobody."""

    def __init__(self, seeing: Seeing | None = None) -> None:
        super().__init__(pages=PAGES + 1, page_size=PAGE_SIZE)  # one to spare, for padding
        self.info = msgspec.structs.replace(self.info, pages=PAGES)
        self._seeing = seeing

    def forward(self, padded: DeviceBatch) -> torch.Tensor:
        """Logits of all tokens; zeros for those of no sequence."""
        if self._seeing is not None:
            self._seeing.hidden = padded.token_ids[:, None].double()
        owned = int(padded.query_starts[-1])
        assert (np.diff(padded.query_starts.numpy()) <= padded.query_lengths).all()
        step = StepBatch(
            token_ids=padded.token_ids.numpy(),
            positions=padded.positions.numpy(),
            query_starts=padded.query_starts.numpy(),
            context_lengths=padded.context_lengths.numpy(),
            page_table=padded.page_table.numpy(),
            slots=padded.slots.numpy(),
            logit_rows=np.arange(owned, dtype=np.int64),
        )
        logits = torch.zeros(len(padded.token_ids), self.info.vocab_size)
        logits[:owned] = self.run(step)
        return logits


def replayed(runner: Watched, seeing: Seeing | None = None) -> tuple[StepGraphs, Played]:
    """Every shape, recorded."""
    sizes, recorder = shapes(SEQUENCES, GUESSES), Played(seeing)
    geometry = Geometry.of(sizes, PAGES * PAGE_SIZE, PAGE_SIZE, spare_page=PAGES)
    return StepGraphs(runner.forward, StepBuffers(geometry, _CPU), sizes, recorder, seeing), recorder


class Through:
    """Runs what fits by replay, all else as it is."""

    def __init__(self, runner: Watched, graphs: StepGraphs) -> None:
        self._runner, self._graphs, self.info = runner, graphs, runner.info

    def run(self, batch: StepBatch) -> torch.Tensor:
        logits = self._graphs.run(batch)
        return self._runner.run(batch) if logits is None else logits

    def copy_page(self, source: int, target: int) -> None:
        self._runner.copy_page(source, target)


steps = st.lists(
    st.dictionaries(st.integers(0, SEQUENCES - 1), st.integers(1, GUESSES + 2), min_size=1), min_size=1, max_size=6
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_a_replayed_step_gives_the_logits_of_the_step_itself(taken: list[dict[int, int]]) -> None:
    """Whatever each sequence brings, and whatever the buffers held before."""
    runner = Watched()
    graphs, _ = replayed(runner)
    through, plain = PagedDriver(Through(runner, graphs)), PagedDriver(Watched())
    for number, step in enumerate(taken):
        chunks = [(name, [5 + number + name] * count) for name, count in step.items()]
        for ours, its in zip(through.step(chunks), plain.step(chunks), strict=True):
            assert torch.equal(ours, its)


def test_what_decodes_and_what_verifies_is_replayed_and_a_long_prompt_is_not() -> None:
    runner = Watched()
    graphs, recorder = replayed(runner)
    driver = PagedDriver(runner)
    prompt = driver.plan([(0, [7] * 9)])
    assert graphs.run(prompt) is None
    runner.run(prompt)
    assert graphs.run(driver.plan([(0, [7]), (1, [8])])) is not None
    assert graphs.run(driver.plan([(0, [7] * 5), (1, [8]), (2, [9] * 3)])) is not None
    assert recorder.replays == 2


def test_only_the_wanted_rows_come_back() -> None:
    """Heads see the hidden states of the same rows."""
    seeing = Seeing()
    runner = Watched(seeing)
    graphs, _ = replayed(runner, seeing)
    driver = PagedDriver(runner)
    whole = driver.plan([(0, [7, 8, 9]), (1, [5])])
    part = StepBatch(**{**{name: getattr(whole, name) for name in whole.__slots__}, "logit_rows": np.array([1, 3])})
    told = graphs.run(part)
    assert told is not None
    assert seeing.hidden[:, 0].tolist() == [8.0, 5.0]
    every = graphs.run(whole)
    assert every is not None
    assert torch.equal(every[[1, 3]], told)
    assert seeing.hidden[:, 0].tolist() == [7.0, 8.0, 9.0, 5.0]


def test_a_rank_without_logits_has_none_to_choose_from() -> None:
    """Of several ranks only the first has them; the others replay all the same."""
    sizes, recorder = shapes(1, 4), Played()
    buffers = StepBuffers(Geometry.of(sizes, 64, 16, spare_page=9), _CPU)
    graphs = StepGraphs(lambda _: torch.empty(0, 64), buffers, sizes, recorder, None)
    for rows in (1, 3):
        told = graphs.run(text_batch([3], 16, rows=rows))
        assert told is not None
        assert told.shape == (0, 64)
    assert recorder.replays == 2


def test_buckets_hold_every_number_of_sequences() -> None:
    """The least that is enough; beyond the largest, none."""
    for most in (1, 3, 8, 9, 16, 17, 64):
        sizes = bucket_sizes(most)
        assert sizes == sorted(set(sizes))
        for count in range(1, most + 1):
            shape = fitting(text_batch([1] * count, 16, rows=1), shapes(most, 0))
            assert shape is not None
            assert shape == Shape(shape.tokens, shape.tokens, 1)
            assert count <= shape.tokens <= max(2 * count, count + 7)
    assert fitting(text_batch([1] * 65, 16, rows=1), shapes(64, 0)) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 17), min_size=1, max_size=15))
def test_a_verifying_step_is_padded_to_less_than_thrice_its_tokens(lengths: list[int]) -> None:
    """However the guesses are shared out among the sequences; from 256 tokens on none is recorded."""
    shape = fitting(text_batch(lengths, 16, rows=1), shapes(16, 16))
    assert (shape is None) == (sum(lengths) > 256)
    if shape is None:
        return
    assert shape.longest >= max(lengths)
    assert sum(lengths) <= shape.tokens
    assert shape.tokens <= max(3 * sum(lengths), 4 * len(lengths))


def test_without_guesses_nothing_is_recorded_for_them() -> None:
    assert all(shape.longest == 1 for shape in shapes(64, 0))
    assert Shape(17, 1, 17) in shapes(64, 16)
    assert len(shapes(64, 16)) < 40, "each costs a part of a second at start, and memory"


def test_shapes_are_of_the_numbers_of_sequences_asked_for() -> None:
    """Those that a step can fill; a step of more runs unrecorded."""
    assert shapes(8, 0, (1, 4, 32, 64)) == [Shape(1, 1, 1), Shape(4, 4, 1), Shape(8, 8, 1)]
    sizes = shapes(8, 3, (1, 4))
    assert {size.sequences for size in sizes} == {1, 4}
    assert Shape(16, 4, 4) in sizes
    assert fitting(text_batch([1] * 5, 16, rows=1), sizes) is None


def test_padding_lives_in_the_spare_page() -> None:
    """It may write nowhere else, and what no sequence owns is read by none."""
    sizes = shapes(4, 4)
    buffers = StepBuffers(Geometry.of(sizes, 64, 16, spare_page=9), _CPU)
    step = text_batch([3, 1], 16, rows=2)
    shape = Shape(8, 4, 5)
    buffers.fill(step, shape)
    view = buffers.view(shape)
    assert view.token_ids.tolist() == [0] * 8
    assert view.slots.tolist()[4:] == [144] * 4
    assert view.query_starts.tolist() == [0, 3, 4, 5, 6]
    assert view.page_table[:, 0].tolist() == [0, 1, 9, 9]
    assert view.context_lengths.tolist() == [3, 1, 1, 1]
    assert not view.is_decode
    decode = Shape(4, 4, 1)
    buffers.fill(text_batch([1, 1], 16, rows=2), decode)
    assert buffers.view(decode).query_starts.tolist() == [0, 1, 2, 3, 4]
    assert buffers.view(decode).is_decode


def test_what_depends_on_the_step_is_derived_anew_by_every_pass() -> None:
    """Key starts, which flash-attn reads, follow the lengths in the buffers; blocks are those of the shape."""
    sizes = shapes(2, 1)
    buffers = StepBuffers(Geometry.of(sizes, 64, 16, spare_page=9), _CPU)
    starts = []
    for lengths in ([1, 1], [2, 1]):
        buffers.fill(text_batch(lengths, 16, rows=1), Shape(4, 2, 2))
        starts.append(buffers.view(Shape(4, 2, 2)).key_starts().tolist())
    assert starts == [[0, 1, 2], [0, 2, 3]]
    sequences, firsts = buffers.view(Shape(4, 2, 2)).blocks(1)
    assert list(zip(sequences.tolist(), firsts.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    alike = to_device(text_batch([2, 2], 16, rows=1), _CPU)
    assert [part.tolist() for part in alike.blocks(1)] == [[0, 0, 1, 1], [0, 1, 0, 1]]
