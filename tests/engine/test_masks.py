"""Rows that steps share keep their content and their place; those of one step do not get into their way."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.masks import MaskRows
from grammar import Mask

_WIDTH = 70


def _mask(seed: int) -> Mask:
    row = np.random.default_rng(seed).integers(-(1 << 31), 1 << 31, 3).astype(np.int32)
    row.setflags(write=False)
    return Mask(row)


class Steps(RuleBasedStateMachine):
    """The model: what each row that this step uses must hold, and by which names rows are known."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = MaskRows(_WIDTH, most_kept=5)
        self.masks = [_mask(seed) for seed in range(30)]
        self.held: dict[int, np.ndarray[tuple[int], np.dtype[np.int32]]] = {}
        self.last: int | None = None

    @rule(number=st.integers(0, 29))
    def share(self, number: int) -> None:
        mask = self.masks[number]
        index = self.rows.share(mask)
        assert self.rows.names[index] is mask
        assert self.rows.share(mask) == index
        self.held[index] = mask.row

    @rule(seed=st.integers(0, 1000))
    def take(self, seed: int) -> None:
        index = self.rows.take()
        assert index not in self.held
        self.rows.row(index)[:] = _mask(seed).row
        self.held[index] = _mask(seed).row
        self.last = index

    @precondition(lambda self: self.last is not None)
    @rule()
    def give_back(self) -> None:
        assert self.last is not None
        self.rows.give_back(self.last)
        del self.held[self.last]
        self.last = None

    @rule()
    def next_step(self) -> None:
        self.rows.clear()
        self.held.clear()
        self.last = None

    @invariant()
    def what_the_step_uses_is_as_it_was_left(self) -> None:
        for index, row in self.held.items():
            assert (self.rows.rows[index] == row).all()

    @invariant()
    def a_name_stands_for_the_content(self) -> None:
        for index, mask in self.rows.names.items():
            assert (self.rows.rows[index] == mask.row).all()


TestSteps = Steps.TestCase


def test_kept_rows_are_bounded_once_a_step_needs_fewer() -> None:
    """One step may want more than are kept; those that follow do not add to them."""
    rows = MaskRows(_WIDTH, most_kept=5)
    for seed in range(9):
        rows.share(_mask(seed))
    for seed in range(9, 40):
        rows.clear()
        rows.share(_mask(seed))
    assert len(rows.names) == 9


def test_a_choice_is_at_least_two_tokens() -> None:
    """Of kept rows and of others."""
    rows = MaskRows(_WIDTH)
    for bits, choice in (([0, 4, 0], False), ([0, 5, 0], True), ([1, 0, 1], True), ([0, 0, 0], False)):
        row = np.array(bits, np.int32)
        taken = rows.take()
        rows.row(taken)[:] = row
        assert rows.has_choice(taken) == choice
        assert rows.has_choice(rows.share(Mask(row))) == choice
