"""A cache in 16 bits: what it changes (keys and values are rounded), and all that it must not change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.model import ModelRunner, RunnerConfig
from engine.model.config import CacheDtypeName
from tests.engine.houses import drive, house, request
from tests.engine.model.families import VOCABULARY
from tests.engine.model.paged import PagedDriver, random_tokens
from tests.oracles.dense_logits import dense_logits, dense_logits_of_stored

_TOKENS = random_tokens(50, VOCABULARY, 3)
_NARROW: list[tuple[CacheDtypeName, torch.dtype]] = [("bfloat16", torch.bfloat16), ("float16", torch.float16)]
# Root mean square of what rounding does to these models' logits, of which the largest are about 6.
_ROUNDING = {"bfloat16": 5e-2, "float16": 5e-3}


def _runner(folder: Path, cache_dtype: CacheDtypeName, pages: int | None = 8, **options: Any) -> ModelRunner:
    return ModelRunner(
        RunnerConfig(path=str(folder), device="cpu", cache_dtype=cache_dtype, pages=pages, threads=1, **options)
    )


def _logits(runner: ModelRunner) -> torch.Tensor:
    """In three chunks, the last of them one token."""
    driver = PagedDriver(runner)
    return torch.cat([driver.step([(0, _TOKENS[a:b])])[0] for a, b in ((0, 17), (17, 49), (49, 50))])


@pytest.mark.parametrize(("name", "dtype"), _NARROW)
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt_oss"])
def test_logits_are_transformers_over_rounded_keys_and_values(
    family: str, name: CacheDtypeName, dtype: torch.dtype, family_folder: Callable[[str], Path]
) -> None:
    """As close as with a float32 cache, but for a key that lay halfway between two numbers and went the other way."""
    folder = family_folder(family)
    got = _logits(_runner(folder, name))
    off = (got - dense_logits_of_stored(folder, [_TOKENS], dtype)[0]).abs()
    assert off.square().mean().sqrt() < 1e-4
    assert off.max() < 2e-3
    assert (got - dense_logits(folder, [_TOKENS], family)[0]).square().mean().sqrt() < _ROUNDING[name]


@pytest.mark.parametrize(("name", "dtype"), _NARROW)
def test_sharing_and_preemption_change_no_token(
    name: CacheDtypeName, dtype: torch.dtype, family_folder: Callable[[str], Path]
) -> None:
    """Shared pages, a copied partial one and sequences computed anew: each says, bit by bit, what it says alone."""
    folder = family_folder("llama")
    asked = [
        request(str(n), [*_TOKENS[: 17 + n], 7 + n], max_tokens=20, temperature=0.8, seed=n, ignore_eos=True)
        for n in range(4)
    ]
    crowd = house(_runner(folder, name, pages=6))
    together = drive(crowd, asked)
    assert crowd.scheduler.preemptions > 0
    assert any(answer.finish is not None and answer.finish.cached_tokens > 16 for answer in together.values())
    for one in asked:
        alone = drive(house(_runner(folder, name)), [one])[one.request_id]
        assert together[one.request_id].tokens == alone.tokens


def test_half_the_bytes_hold_twice_the_tokens(family_folder: Callable[[str], Path]) -> None:
    """What the engine says of its memory follows."""
    folder = family_folder("llama")
    wide, narrow = (_runner(folder, name, pages=None, cache_bytes=1 << 16) for name in ("float32", "bfloat16"))
    assert narrow.info.pages // 2 == wide.info.pages
    assert narrow.info.token_bytes * 2 == wide.info.token_bytes


def test_by_default_the_cache_holds_what_the_weights_are(family_folder: Callable[[str], Path]) -> None:
    """Keys of a bfloat16 model are bfloat16 already: storing them so loses nothing."""
    folder = family_folder("llama")
    own, wide = (_runner(folder, name, dtype="bfloat16") for name in ("auto", "float32"))
    assert own.info.token_bytes * 2 == wide.info.token_bytes
    assert torch.equal(_logits(own), _logits(wide))
