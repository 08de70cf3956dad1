"""Every family's logits through the paged engine equal transformers' own forward pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.model import ModelRunner, RunnerConfig
from tests.engine.model.families import FAMILY_NAMES, VOCABULARY
from tests.engine.model.paged import PagedDriver, random_tokens
from tests.oracles.dense_logits import dense_logits

_LENGTHS = (45, 18, 7)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_mixed_batches_of_chunked_prefill_and_decode_match_transformers(
    family: str, family_folder: Callable[[str], Path]
) -> None:
    """At most 1e-4 apart in float32, whatever the chunks and wherever the pages."""
    folder = family_folder(family)
    sequences = [random_tokens(length, VOCABULARY, seed) for seed, length in enumerate(_LENGTHS)]
    a, b, c = sequences
    driver = PagedDriver(ModelRunner(RunnerConfig(path=str(folder), pages=12, threads=1)))
    parts: list[list[torch.Tensor]] = [[], [], []]
    schedule = [
        [(0, a[:17])],
        [(0, a[17:18]), (1, b[:16])],
        [(1, b[16:17]), (0, a[18:33]), (2, c[:5])],
        [(2, c[5:6]), (1, b[17:]), (0, a[33:34])],
        [(0, a[34:]), (2, c[6:])],
    ]
    for chunks in schedule:
        for (name, _), logits in zip(chunks, driver.step(chunks), strict=True):
            parts[name].append(logits)

    expected = dense_logits(folder, sequences, family)

    for got, want in zip(parts, expected, strict=True):
        torch.testing.assert_close(torch.cat(got), want, atol=1e-4, rtol=0)
