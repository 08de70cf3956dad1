"""The device's sampler against the CPU's: its kernels run by Triton's interpreter, and on a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from engine.device_masks import DeviceMasks
from engine.device_sampler import DeviceSampler, survivors
from engine.drawing import Drawn, Marking, Rejected, Row, Rule
from engine.history import History
from engine.messages import Sampling
from engine.sampler import CpuSampler
from tests.engine.test_logits import packed, slow_truncate
from watermark import SCHEMES, Embedder, Key, Kind, scheme

# Triton decides at its import, so these need a process of their own.
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_CPU = torch.device("cpu")
_WIDTH = 1500
_KINDS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.0},
    {"temperature": 0.6},
    {"temperature": 1.5, "logit_bias": {3: 4.0, 9: -2.0}},
    {"repetition_penalty": 1.4, "frequency_penalty": 0.3, "presence_penalty": 0.2},
    {"temperature": 0.0, "logit_bias": {9: 30.0}, "repetition_penalty": 2.0},
    {"typical_p": 0.6},
]
_CUT: list[dict[str, Any]] = [
    {"top_k": 6},
    {"top_p": 0.7},
    {"min_p": 0.2},
    {"temperature": 1.3, "top_k": 20, "top_p": 0.9, "min_p": 0.02},
    {"top_k": 4, "logit_bias": {7: 9.0}},
]


@pytest.mark.skipif(_INTERPRETED, reason="this is the inner run")
def test_the_interpreter_agrees_with_the_cpu() -> None:
    """Runs the tests below in a process where Triton interprets."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:]


inner = pytest.mark.skipif(not _INTERPRETED, reason="run by the test above, with the interpreter")
on_each = pytest.mark.parametrize(
    "device",
    [
        pytest.param(_CPU, marks=inner, id="interpreted"),
        pytest.param(torch.device("cuda"), marks=pytest.mark.gpu, id="cuda"),
    ],
)


def rows_of(kinds: list[dict[str, Any]], masked: bool) -> list[Row]:
    history = History(np.array([9, 4, 800]), np.array([3, 1, 0], np.float32))
    rows = []
    for index, kind in enumerate(kinds):
        rule = Rule.of(Sampling(max_tokens=1, seed=100 + index, **kind))
        mask = index % 2 if masked else None
        drawn_from = 2 if masked and index % 3 == 0 else mask  # the budget left less
        seen = history if rule.penalises else None
        rows.append(Row(rule, index, mask=mask, drawn_from=drawn_from, alternatives=index % 3, history=seen))
    return rows


def some_logits(rows: int, seed: int = 0) -> torch.Tensor:
    values = np.random.default_rng(seed).standard_normal((rows, _WIDTH)).astype(np.float32) * 3
    return torch.from_numpy(values)


def some_masks() -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    rng = np.random.default_rng(1)
    first, second = rng.random(_WIDTH) < 0.5, rng.random(_WIDTH) < 0.01
    return np.stack([packed(first), packed(second), packed(first & (rng.random(_WIDTH) < 0.3))])


def both(
    rows: list[Row], logits: torch.Tensor, device: torch.device
) -> list[tuple[Drawn | Rejected, Drawn | Rejected]]:
    """What the CPU's sampler gives, and the device's."""
    masks, there = some_masks(), logits.to(device, copy=True)
    one, other = CpuSampler(_WIDTH), DeviceSampler(_WIDTH, device)
    one.measure(logits, rows, masks)
    other.measure(there, rows, masks)
    found = [(one.draw(index), other.draw(index)) for index in range(len(rows))]
    assert torch.equal(there.cpu(), logits), "the logits are left as they were"
    return found


def assert_same_figures(ours: Drawn | Rejected, theirs: Drawn | Rejected) -> None:
    assert isinstance(ours, Drawn)
    assert isinstance(theirs, Drawn)
    assert theirs.legal_mass == pytest.approx(ours.legal_mass, abs=1e-5)
    if ours.token_id == theirs.token_id:
        assert theirs.logprob == pytest.approx(ours.logprob, abs=1e-5)
        assert theirs.constrained_logprob == pytest.approx(ours.constrained_logprob, abs=1e-5)
    assert [one.token_id for one in theirs.alternatives] == [one.token_id for one in ours.alternatives]
    assert [one.logprob for one in theirs.alternatives] == pytest.approx(
        [one.logprob for one in ours.alternatives], abs=1e-5
    )


@on_each
@pytest.mark.parametrize("masked", [False, True])
def test_both_draw_the_same_tokens(masked: bool, device: torch.device) -> None:
    """The same noise through the same inverse CDF: every kind of row beside every other, truncated ones included."""
    rows = rows_of([*_KINDS, *_CUT] * 3, masked)
    for ours, theirs in both(rows, some_logits(len(rows)), device):
        assert_same_figures(ours, theirs)
        assert isinstance(ours, Drawn)
        assert isinstance(theirs, Drawn)
        assert ours.token_id == theirs.token_id


@on_each
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # inf - inf is how a row that is not finite shows
def test_what_cannot_be_drawn_is_told_apart(device: torch.device) -> None:
    """NaN, no legal token, a known token to score: each its own row's affair."""
    logits = some_logits(5)
    logits[0, 700] = torch.nan
    logits[1, 3] = torch.inf
    rule = Rule.of(Sampling(max_tokens=1, seed=0))
    empty = np.concatenate([some_masks(), np.zeros((1, 47), np.int32)])
    rows = [Row(rule, 0), Row(rule, 0), Row(rule, 0, mask=3, drawn_from=3), Row(rule, 0, known=17), Row(rule, 0)]
    sampler = DeviceSampler(_WIDTH, device)
    sampler.measure(logits.to(device), rows, empty)
    assert sampler.draw(0) == sampler.draw(1) == Rejected(is_numeric=True)
    assert sampler.draw(2) == Rejected(is_numeric=False)
    scored = sampler.draw(3)
    assert isinstance(scored, Drawn)
    assert scored.token_id == 17
    assert isinstance(sampler.draw(4), Drawn)


@on_each
def test_a_row_does_not_depend_on_its_neighbours(device: torch.device) -> None:
    rows = rows_of([*_KINDS, *_CUT], masked=True)
    logits, masks = some_logits(len(rows)).to(device), some_masks()
    together, alone = DeviceSampler(_WIDTH, device), DeviceSampler(_WIDTH, device)
    together.measure(logits, rows, masks)
    for index, row in enumerate(rows):
        alone.measure(logits[index : index + 1], [row], masks)
        ours, theirs = together.draw(index), alone.draw(0)
        assert isinstance(ours, Drawn)
        assert isinstance(theirs, Drawn)
        assert ours.token_id == theirs.token_id
        assert ours.logprob == theirs.logprob


_MARKED: list[dict[str, Any]] = [
    {},
    {"temperature": 0.0},
    {"temperature": 1.4, "logit_bias": {3: 4.0}},
    {"temperature": 0.7, "top_k": 40, "top_p": 0.95},
    {"temperature": 0.0, "repetition_penalty": 2.0},
    {"typical_p": 0.6},
]


def marked_rows(name: str, masked: bool, keeps: Callable[[int], bool] | None) -> list[Row]:
    """Contexts of both kinds, some too short; the last request's second row repeats the context of its first."""
    key = Key.derive(b"the device's key", id="k")
    rows = rows_of(_MARKED * 3, masked)
    embedders = [Embedder(scheme(name), key) for _ in rows]
    contexts = [[7, index, 5, 9][: 1 + index % 4] for index in range(len(rows))]
    marked = [
        msgspec.structs.replace(row, marking=Marking(embedder, context, Kind(index % 2), keeps))
        for index, (row, embedder, context) in enumerate(zip(rows, embedders, contexts, strict=True))
    ]
    used = marked[-3].marking
    assert used is not None
    used.embedder.observe(1, used.context, used.kind)
    return marked


@on_each
@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("unusual", [None, 5])
def test_both_choose_the_same_marked_tokens(name: str, unusual: int | None, device: torch.device) -> None:
    """Every scheme, drawn and greedy, truncated or not, beside rows without a mark; and what each promises.

    With every fifth token an unusual spelling, many rows are chosen again.
    """
    rows = marked_rows(name, unusual is None, None if unusual is None else lambda token: token % unusual > 0)
    rows += rows_of(_KINDS[:3], masked=False)
    for ours, theirs in both(rows, some_logits(len(rows)), device):
        assert_same_figures(ours, theirs)
        assert isinstance(ours, Drawn)
        assert isinstance(theirs, Drawn)
        assert ours.token_id == theirs.token_id
        assert (ours.choice is None) == (theirs.choice is None)
        if ours.choice is not None and theirs.choice is not None:
            assert ours.choice.marked == theirs.choice.marked
            assert theirs.choice.expected == pytest.approx(ours.choice.expected, rel=5e-3)
            assert theirs.choice.spread == pytest.approx(ours.choice.spread, rel=2e-2)


@on_each
@pytest.mark.parametrize("name", SCHEMES)
def test_marked_rows_are_not_copied_to_the_host(name: str, device: torch.device) -> None:
    """Once a step is measured its logits are not asked for again, where every spelling is usual."""
    rows = [row for row in marked_rows(name, masked=True, keeps=lambda _: True) if not row.rule.is_typical]
    ours, theirs = CpuSampler(_WIDTH), DeviceSampler(_WIDTH, device)
    logits = some_logits(len(rows)).to(device)
    ours.measure(logits.to("cpu", copy=True), rows, some_masks())
    theirs.measure(logits, rows, some_masks())
    logits.fill_(torch.nan)
    for index in range(len(rows)):
        one, other = ours.draw(index), theirs.draw(index)
        assert isinstance(one, Drawn)
        assert isinstance(other, Drawn)
        assert one.token_id == other.token_id


@on_each
def test_a_context_that_the_draft_has_just_used_is_noticed(device: torch.device) -> None:
    """Two rows of one request with the same context: the second carries the mark only until the first is committed."""
    embedder = Embedder(scheme("gumbel"), Key.derive(b"the device's key", id="k"))
    row = Row(Rule.of(Sampling(max_tokens=2, seed=1)), 0, marking=Marking(embedder, [3, 4], Kind.VALUE))
    rows = [row, msgspec.structs.replace(row, position=1)]
    sampler, ours = DeviceSampler(_WIDTH, device), CpuSampler(_WIDTH)
    sampler.measure(some_logits(2).to(device), rows, some_masks())
    ours.measure(some_logits(2), rows, some_masks())
    first, unmarked = sampler.draw(0), ours.draw(1)
    assert isinstance(first, Drawn)
    embedder.observe(first.token_id, [3, 4], Kind.VALUE, first.choice)
    second = sampler.draw(1)
    assert isinstance(second, Drawn)
    assert second.choice is not None
    assert not second.choice.marked
    assert second == ours.draw(1)
    assert second != unmarked


@pytest.mark.parametrize("limits", [(5, 1.0, 0.0), (0, 0.6, 0.0), (0, 1.0, 0.3), (9, 0.8, 0.05), (0, 1.0, 0.0)])
def test_survivors_are_those_of_the_definitions(limits: tuple[int, float, float]) -> None:
    """Ties included: equal logits are cut by id."""
    scaled = torch.round(some_logits(4, seed=5)[:, :90])
    top_k, top_p, min_p = (torch.full((4,), float(limit), dtype=torch.float64) for limit in limits)
    kept = survivors(scaled, top_k, top_p, min_p)
    for row, bits in zip(scaled.double().numpy(), kept, strict=True):
        assert set(torch.nonzero(bits)[:, 0].tolist()) == slow_truncate(row, *limits)


def test_a_step_may_have_no_rows() -> None:
    """It read a chunk of a prompt."""
    DeviceSampler(_WIDTH, _CPU).measure(some_logits(0), [], some_masks())


def test_a_mask_is_sent_once() -> None:
    """And again when it had to make room."""
    masks = DeviceMasks(2, _CPU, capacity=3, extra=1)
    rows = np.arange(8, dtype=np.int32).reshape(4, 2)
    first = masks.place(rows, [0, 1, 0])
    assert masks.uploads == 2
    assert masks.place(rows, [1, 0]) == first
    assert masks.uploads == 2
    assert torch.equal(masks.table[first[1]], torch.tensor([2, 3], dtype=torch.int32))
    masks.place(rows, [2])
    later = masks.place(rows, [3, 0])
    assert masks.uploads == 4, "the one that was not used for longest made room, not one in use"
    assert torch.equal(masks.table[later[0]], torch.tensor([0, 1], dtype=torch.int32))
    assert torch.equal(masks.table[later[3]], torch.tensor([6, 7], dtype=torch.int32))


def test_a_named_mask_is_known_wherever_it_lies() -> None:
    """By its name, not by what is read: rows move on the host, and their content is not looked at again."""
    masks = DeviceMasks(2, _CPU, capacity=4, extra=1)
    rows = np.arange(8, dtype=np.int32).reshape(4, 2)
    name, other = object(), object()
    (place,) = masks.place(rows, [1], {1: name}).values()
    assert masks.place(rows, [3], {3: name}) == {3: place}
    assert masks.uploads == 1
    assert torch.equal(masks.table[place], torch.tensor([2, 3], dtype=torch.int32))
    later = masks.place(rows, [0, 3], {0: other, 3: name})
    assert (later[3], masks.uploads) == (place, 2)
    assert torch.equal(masks.table[later[0]], torch.tensor([0, 1], dtype=torch.int32))


def test_a_step_with_more_masks_than_the_table_holds_makes_it_larger() -> None:
    """None of them may be overwritten by another of the same step; what was known stays where it was."""
    masks = DeviceMasks(words=2, device=_CPU, capacity=2, extra=1)
    rows = np.arange(10, dtype=np.int32).reshape(5, 2)
    before = masks.place(rows, [4])
    places = masks.place(rows, range(5))
    assert places[4] == before[4]
    assert len(set(places.values())) == 5
    assert max(places.values()) < masks.capacity
    assert len(masks.table) == masks.capacity + 1
    for row, place in places.items():
        assert torch.equal(masks.table[place], torch.from_numpy(rows[row]))
