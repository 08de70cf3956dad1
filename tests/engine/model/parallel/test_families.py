"""Every family divided among ranks gives the logits of transformers' own forward pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.model import ModelRunner, RunnerConfig
from tests.engine.model.families import FAMILY_NAMES, VOCABULARY
from tests.engine.model.paged import PagedDriver, random_tokens
from tests.engine.model.parallel.threads import ThreadGroup, load_in_turns, together
from tests.oracles.dense_logits import dense_logits

_LENGTHS = (21, 9)


@pytest.fixture(autouse=True)
def _one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    load_in_turns(monkeypatch)


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("ranks", [2, 4])
def test_shares_of_ranks_match_transformers(family: str, ranks: int, family_folder: Callable[[str], Path]) -> None:
    """At most 1e-4 apart in float32, prefill in chunks and decode; where ranks are more than key heads, too."""
    folder = family_folder(family)
    sequences = [random_tokens(length, VOCABULARY, seed) for seed, length in enumerate(_LENGTHS)]
    a, b = sequences
    schedule = [[(0, a[:13])], [(0, a[13:14]), (1, b[:8])], [(1, b[8:]), (0, a[14:])]]

    def work(group: ThreadGroup) -> list[list[torch.Tensor]]:
        driver = PagedDriver(ModelRunner(RunnerConfig(path=str(folder), pages=8, threads=1), group))
        parts: list[list[torch.Tensor]] = [[], []]
        for chunks in schedule:
            batch = driver.plan(chunks)
            logits = driver.runner.run(batch)
            if group.rank == 0:
                for (name, tokens), rows in zip(chunks, torch.split(logits, [len(t) for _, t in chunks]), strict=True):
                    assert len(rows) == len(tokens)
                    parts[name].append(rows.clone())
        return parts

    if ranks == 4 and family in {"bloom", "mpt"}:  # six heads
        with pytest.raises(Exception, match="6 attention heads cannot be divided among 4 ranks"):
            together(ranks, work)
        return
    got, *_ = together(ranks, work)

    for rows, want in zip(got, dense_logits(folder, sequences, family), strict=True):
        torch.testing.assert_close(torch.cat(rows), want, atol=1e-4, rtol=0)
