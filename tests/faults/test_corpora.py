"""What fuzzers have found worth keeping is read, or refused by a documented error (benchmarks/hostile_fuzz.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.hostile_inputs import READERS

CORPORA = Path("benchmarks/corpora")


@pytest.mark.parametrize("name", sorted(READERS))
def test_every_kept_input_is_read_or_refused(name: str) -> None:
    files = sorted((CORPORA / name).iterdir())
    assert len(files) >= 4
    for file in files:
        READERS[name](file.read_bytes())


def test_the_corpora_stay_small() -> None:
    sizes = [file.stat().st_size for file in CORPORA.rglob("*") if file.is_file()]
    assert sum(sizes) < 100_000
    assert len(sizes) < 600
