"""What a runner tells about itself, and its small print."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from engine.model import ModelRunner, RunnerConfig
from tests.engine.model.families import POSITIONS, VOCABULARY
from tests.engine.model.paged import PagedDriver, random_tokens


def _runner(folder: Path, **options: int) -> ModelRunner:
    return ModelRunner(RunnerConfig(path=str(folder), device="cpu", threads=1, **options))  # type: ignore[arg-type]


def test_info_describes_the_model(family_folder: Callable[[str], Path]) -> None:
    """As loaded, not as named."""
    info = _runner(family_folder("llama"), pages=64).info
    assert (info.model_type, info.vocab_size, info.dtype, info.device) == ("llama", VOCABULARY, "float32", "cpu")
    assert (info.max_positions, info.pages, info.page_size, info.eos_token_ids) == (POSITIONS, 64, 16, [2])
    assert info.parameters > 0


def test_a_small_cache_bounds_the_text(family_folder: Callable[[str], Path]) -> None:
    """Prompt and output together must fit."""
    assert _runner(family_folder("llama"), pages=2).info.max_positions == 32


def test_cache_bytes_buy_whole_pages(family_folder: Callable[[str], Path]) -> None:
    """2 layers · 2 heads · (8 + 16 padded) · 4 bytes · 16 tokens a page."""
    assert _runner(family_folder("llama"), cache_bytes=100_000).info.pages == 100_000 // (2 * 2 * 24 * 4 * 16)


def test_only_the_rows_asked_for_come_back(family_folder: Callable[[str], Path]) -> None:
    """In order, writable, and none if none is asked for."""
    runner = _runner(family_folder("llama"), pages=8)
    driver = PagedDriver(runner)
    batch = driver.plan([(0, random_tokens(9, VOCABULARY, 0)), (1, random_tokens(4, VOCABULARY, 1))])
    everything = runner.run(batch).clone()
    some = runner.run(dataclasses.replace(batch, logit_rows=np.array([8, 12])))
    assert torch.equal(some, everything[[8, 12]])
    assert some.dtype == torch.float32
    assert some.is_contiguous()
    some += 1.0
    assert runner.run(dataclasses.replace(batch, logit_rows=np.zeros(0, np.int64))).shape == (0, VOCABULARY)


def test_bfloat16_is_close_to_float32(family_folder: Callable[[str], Path]) -> None:
    """Within what eight bits of mantissa allow."""
    tokens = random_tokens(30, VOCABULARY, 3)
    (exact,) = PagedDriver(_runner(family_folder("qwen3"), pages=8)).step([(0, tokens)])
    rough = ModelRunner(
        RunnerConfig(path=str(family_folder("qwen3")), device="cpu", threads=1, pages=8, dtype="bfloat16")
    )
    (got,) = PagedDriver(rough).step([(0, tokens)])
    assert got.dtype == torch.float32
    assert (got - exact).abs().mean() < 0.1 * exact.std()
