"""engine.team: ranks in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import StepBatch
from engine.model import RunnerConfig, UnsupportedModel
from engine.model.executors import text_batch
from engine.team import TeamRunner, batch_of, device_of, order
from tests.engine.model.conftest import family_folder  # noqa: F401 - a fixture
from tests.engine.model.families import VOCABULARY
from tests.engine.model.paged import PagedDriver, random_tokens
from tests.oracles.dense_logits import dense_logits


@contextmanager
def team(config: RunnerConfig, ranks: int) -> Iterator[TeamRunner]:
    """A runner whose other ranks are gone afterwards."""
    runner = TeamRunner(config, ranks, timeout_s=30.0)
    try:
        yield runner
    finally:
        runner.close()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_a_batch_that_is_sent_is_the_batch(lengths: list[int]) -> None:
    """Every array, its shape and its type."""
    plain = text_batch(lengths, page_size=8, rows=3)
    for batch in (plain, replace(plain, adapters=np.arange(len(lengths), dtype=np.int32) - 1)):
        received = batch_of(order(batch))
        for name in StepBatch.__slots__:
            sent, got = getattr(batch, name), getattr(received, name)
            np.testing.assert_array_equal(got, sent)
            assert getattr(got, "dtype", None) == getattr(sent, "dtype", None)


def test_ranks_on_cpu_match_transformers(
    family_folder: Callable[[str], Path],  # noqa: F811
) -> None:
    """Prefill in chunks, decode, a copied page; what rank 0 returns is the whole vocabulary's logits."""
    folder = family_folder("llama")
    tokens = random_tokens(30, VOCABULARY, 0)
    with team(RunnerConfig(path=str(folder), pages=8, threads=1), 2) as runner:
        assert runner.info.vocab_size == VOCABULARY
        driver = PagedDriver(runner)
        first = driver.step([(0, tokens[:20])])
        second, third = driver.sequences[0].pages[1], driver._free.pop()
        runner.copy_page(second, third)
        driver.sequences[0].pages[1] = third
        last = driver.step([(0, tokens[20:])])
    (want,) = dense_logits(folder, [tokens])
    torch.testing.assert_close(torch.cat([*first, *last]), want, atol=1e-4, rtol=0)


def test_what_cannot_be_divided_is_refused_before_a_process_starts(
    family_folder: Callable[[str], Path],  # noqa: F811
) -> None:
    """Heads, and families without a plan; the message says which."""
    with pytest.raises(UnsupportedModel, match="4 attention heads cannot be divided among 3 ranks"):
        TeamRunner(RunnerConfig(path=str(family_folder("llama")), device="cpu"), 3, timeout_s=5.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="names what is missing where there is no GPU")
def test_more_ranks_than_devices_are_refused() -> None:
    """A device by number is one device."""
    with pytest.raises(UnsupportedModel, match="2 ranks need as many GPUs; torch finds 0"):
        device_of(RunnerConfig(path="", device="cuda"), 0, 2)
    with pytest.raises(UnsupportedModel, match="cuda:1 is one device"):
        device_of(RunnerConfig(path="", device="cuda:1"), 0, 2)
