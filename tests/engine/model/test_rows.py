"""A token's logits are the same bit by bit whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.model import ModelRunner, RunnerConfig
from engine.model.executors import CpuExecutor
from tests.engine.model.families import VOCABULARY
from tests.engine.model.paged import PagedDriver, random_tokens

_TOKENS = random_tokens(40, VOCABULARY, 5)
_OTHERS = {name: random_tokens(40, VOCABULARY, 100 + name) for name in range(1, 6)}
_FAMILIES = ("llama", "gpt2", "gpt_bigcode", "gemma2", "qwen2_moe", "deepseek_v3", "gpt_oss", "bloom", "falcon_grouped")


def _alone(runner: ModelRunner, chunk: int, seed: int) -> torch.Tensor:
    driver = PagedDriver(runner, seed)
    pieces = [_TOKENS[i : i + chunk] for i in range(0, len(_TOKENS), chunk)]
    return torch.cat([driver.step([(0, piece)])[0] for piece in pieces])


@pytest.mark.parametrize("family", _FAMILIES)
def test_chunks_neighbours_and_pages_do_not_change_a_bit(family: str, family_folder: Callable[[str], Path]) -> None:
    """One token at a time, seven at a time, all at once, and among others: equal, not merely close."""
    runner = ModelRunner(RunnerConfig(path=str(family_folder(family)), pages=40, threads=1))
    whole = _alone(runner, 40, seed=1)

    assert torch.equal(_alone(runner, 1, seed=2), whole)
    assert torch.equal(_alone(runner, 7, seed=3), whole)
    crowd = PagedDriver(runner, seed=4)
    crowd.step([(name, tokens[: 3 * name]) for name, tokens in _OTHERS.items()])
    got = [crowd.step([(1, _OTHERS[1][3:8]), (0, _TOKENS[:11]), (2, _OTHERS[2][6:7])])[1]]
    got.append(crowd.step([(0, _TOKENS[11:12]), *((n, t[20:21]) for n, t in _OTHERS.items())])[0])
    got.append(crowd.step([(5, _OTHERS[5][21:35]), (0, _TOKENS[12:])])[1])
    assert torch.equal(torch.cat(got), whole)


@pytest.mark.parametrize("page_size", [16, 32, 64])
def test_the_size_of_a_page_does_not_change_a_bit(page_size: int, family_folder: Callable[[str], Path]) -> None:
    """Keys are grouped by their position, not by their page."""
    runner = ModelRunner(RunnerConfig(path=str(family_folder("llama")), pages=8, page_size=page_size, threads=1))
    reference = ModelRunner(RunnerConfig(path=str(family_folder("llama")), pages=8, threads=1))
    assert torch.equal(_alone(runner, 9, seed=0), _alone(reference, 40, seed=0))


def test_rows_are_independent_on_two_threads(family_folder: Callable[[str], Path]) -> None:
    """Rows are independent with two threads, too (other products serve them, so not the same bits as with one)."""
    two = ModelRunner(RunnerConfig(path=str(family_folder("llama")), pages=8, threads=2))
    try:
        assert torch.equal(_alone(two, 13, seed=0), _alone(two, 40, seed=1))
    finally:
        torch.set_num_threads(1)


def test_bfloat16_rows_are_independent_too(family_folder: Callable[[str], Path]) -> None:
    """The packed products are probed per dtype."""
    runner = ModelRunner(RunnerConfig(path=str(family_folder("llama")), pages=8, dtype="bfloat16", threads=1))
    assert torch.equal(_alone(runner, 7, seed=1), _alone(runner, 40, seed=2))


def test_copying_a_page_copies_every_layer(family_folder: Callable[[str], Path]) -> None:
    """A sequence moved to a copy of its partial page goes on as if nothing had happened."""
    runner = ModelRunner(RunnerConfig(path=str(family_folder("llama")), pages=8, threads=1))
    driver = PagedDriver(runner)
    driver.step([(0, _TOKENS[:10])])
    moved = driver.sequences[0]
    target = next(p for p in range(8) if p not in moved.pages)
    runner.copy_page(moved.pages[0], target)
    moved.pages[0] = target

    (after,) = driver.step([(0, _TOKENS[10:14])])

    assert torch.equal(after, _alone(runner, 40, seed=9)[10:14])


def test_what_a_failed_request_left_in_a_page_harms_nobody(family_folder: Callable[[str], Path]) -> None:
    """NaN beyond a sequence's last token, in its own last page, is never read."""
    runner = ModelRunner(RunnerConfig(path=str(family_folder("mistral")), pages=4, threads=1))
    whole = _alone(runner, 40, seed=1)
    assert isinstance(runner.executor, CpuExecutor)
    for array in (*runner.executor.backend.keys, *runner.executor.backend.values):
        array[...] = float("nan")

    assert torch.equal(_alone(runner, 9, seed=2), whole)
