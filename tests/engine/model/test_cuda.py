"""The forward pass on a GPU: every family, every kernel, recorded and not, against transformers' own on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engine.model import ModelRunner, RunnerConfig
from engine.model.config import CacheDtypeName
from engine.model.executors import DeviceExecutor
from tests.engine.model.families import FAMILY_NAMES, VOCABULARY
from tests.engine.model.paged import PagedDriver, random_tokens
from tests.engine.model.test_heads import write_heads
from tests.oracles.dense_logits import dense_logits

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),  # transformers' GPT-BigCode
]

_LENGTHS = (45, 18, 7)


def config_of(folder: Path, **options: object) -> RunnerConfig:
    given = {"pages": 24, "max_batch_tokens": 64, "max_sequences": 8, "dtype": "float32", "device": "cuda"}
    return RunnerConfig(path=str(folder), **{**given, **options})  # type: ignore[arg-type]


def runner_of(folder: Path, **options: object) -> ModelRunner:
    return ModelRunner(config_of(folder, **options))


def walked(driver: PagedDriver) -> list[torch.Tensor]:
    """Logits of three sequences that are read in chunks beside each other and decoded one token at a time."""
    a, b, c = (random_tokens(length, VOCABULARY, seed) for seed, length in enumerate(_LENGTHS))
    schedule = [
        [(0, a[:17])],
        [(0, a[17:18]), (1, b[:16])],
        [(1, b[16:17]), (0, a[18:33]), (2, c[:5])],
        [(2, c[5:6]), (1, b[17:]), (0, a[33:34])],
        [(0, a[34:44]), (2, c[6:])],
        [(0, a[44:])],
    ]
    parts: list[list[torch.Tensor]] = [[], [], []]
    for chunks in schedule:
        for (name, _), logits in zip(chunks, driver.step(chunks), strict=True):
            parts[name].append(logits.cpu())
    return [torch.cat(each) for each in parts]


def expected(folder: Path, family: str = "") -> list[torch.Tensor]:
    return dense_logits(folder, [random_tokens(n, VOCABULARY, seed) for seed, n in enumerate(_LENGTHS)], family)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_every_family_matches_transformers(family: str, family_folder: Callable[[str], Path]) -> None:
    """At most 1e-4 apart in float32: Triton's kernels, chunks, decode steps from recorded graphs."""
    folder = family_folder(family)
    for got, want in zip(walked(PagedDriver(runner_of(folder))), expected(folder, family), strict=True):
        torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gemma2", "falcon_rotary"])
def test_decode_steps_are_recorded_and_say_the_same(family: str, family_folder: Callable[[str], Path]) -> None:
    """For every number of sequences from 1 to the most, those between two buckets too."""
    folder = family_folder(family)
    recorded, launched = runner_of(folder), runner_of(folder, cuda_graphs=False)
    assert cast("DeviceExecutor", recorded.executor).graphs is not None
    drivers = PagedDriver(recorded), PagedDriver(launched)
    prompts = [(name, random_tokens(5 + name, VOCABULARY, name)) for name in range(8)]
    for driver in drivers:
        driver.step(prompts)
    for count in range(1, 9):
        chunks = [(name, random_tokens(1, VOCABULARY, 10 * count + name)) for name in range(count)]
        ours, theirs = (driver.step(chunks) for driver in drivers)
        torch.testing.assert_close(torch.cat(ours), torch.cat(theirs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "falcon_rotary"])
def test_verifying_steps_are_recorded_and_say_the_same(family: str, family_folder: Callable[[str], Path]) -> None:
    """Guesses shared out among the sequences in any way, against the pass launched as it is."""
    folder = family_folder(family)
    recorded, launched = runner_of(folder, guesses=5), runner_of(folder, cuda_graphs=False)
    assert cast("DeviceExecutor", recorded.executor).graphs is not None
    drivers = PagedDriver(recorded), PagedDriver(launched)
    for driver in drivers:
        driver.step([(name, random_tokens(9 + name, VOCABULARY, name)) for name in range(5)])
    for number, counts in enumerate([(6,), (1, 6), (2, 1, 3), (6, 6, 1, 1, 1), (1, 1, 1, 1, 2)]):
        chunks = [(name, random_tokens(count, VOCABULARY, 10 * number + name)) for name, count in enumerate(counts)]
        ours, theirs = (driver.step(chunks) for driver in drivers)
        torch.testing.assert_close(torch.cat(ours), torch.cat(theirs), atol=1e-5, rtol=1e-5)


def test_heads_see_the_hidden_states_of_a_replayed_pass(tmp_path: Path, family_folder: Callable[[str], Path]) -> None:
    """The tokens that they foresee are those of the pass launched as it is."""
    folder = family_folder("llama")
    write_heads(tmp_path, LlamaConfig.from_pretrained(folder).hidden_size, None)
    runners = [runner_of(folder, guesses=5, heads=str(tmp_path), cuda_graphs=graphs) for graphs in (True, False)]
    foreseen = []
    for runner in runners:
        driver = PagedDriver(runner)
        driver.step([(0, random_tokens(9, VOCABULARY, 0)), (1, random_tokens(30, VOCABULARY, 1))])
        driver.step([(0, random_tokens(4, VOCABULARY, 2)), (1, random_tokens(1, VOCABULARY, 3))])
        assert runner.heads is not None
        foreseen.append(runner.heads.look([0, 3, 4]))
    assert foreseen[0].tokens.tolist() == foreseen[1].tokens.tolist()
    assert foreseen[0].chances == pytest.approx(foreseen[1].chances, abs=1e-5)


def test_steps_that_nobody_waits_for_do_not_overtake_each_other(family_folder: Callable[[str], Path]) -> None:
    """What is staged for a replay stays until it has been copied, however many are launched behind each other."""
    folder = family_folder("llama")
    tokens = random_tokens(60, VOCABULARY, 3)
    driver = PagedDriver(runner_of(folder))
    parts = [driver.step([(0, tokens[:20])])[0]]
    parts += [driver.step([(0, [token])])[0] for token in tokens[20:]]  # copies on the device only
    (want,) = dense_logits(folder, [tokens])
    torch.testing.assert_close(torch.cat(parts).cpu(), want, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("page_size", [16, 256])
def test_narrow_types_cost_no_more_than_their_digits(
    dtype: str, page_size: int, family_folder: Callable[[str], Path]
) -> None:
    """Pages of 256 tokens go through the flash kernels where this torch has them, those of 16 through Triton's."""
    folder = family_folder("llama")
    got = walked(PagedDriver(runner_of(folder, dtype=dtype, page_size=page_size)))
    for ours, want in zip(got, expected(folder), strict=True):
        assert (ours - want).abs().mean() / want.std() < (0.02 if dtype == "bfloat16" else 0.003)


@pytest.mark.parametrize(("stored", "apart"), [("bfloat16", 0.02), ("float16", 0.003), ("fp8", 0.3)])
def test_a_narrower_cache_costs_no_more_than_its_digits(
    stored: CacheDtypeName, apart: float, family_folder: Callable[[str], Path]
) -> None:
    """Under float32 weights."""
    folder = family_folder("llama")
    full, narrow = runner_of(folder), runner_of(folder, cache_dtype=stored)
    assert narrow.executor.page_bytes == full.executor.page_bytes // (4 if stored == "fp8" else 2)
    for ours, want in zip(walked(PagedDriver(narrow)), expected(folder), strict=True):
        error = (ours - want).abs().mean() / want.std()
        assert 0 < error < apart


def test_long_texts_are_split_among_multiprocessors(tmp_path: Path) -> None:
    """A text of several parts, decoded beside a short one."""
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096,
    )  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(tmp_path)
    text, short = random_tokens(1701, VOCABULARY, 0), random_tokens(9, VOCABULARY, 1)
    driver = PagedDriver(runner_of(tmp_path, pages=200, max_batch_tokens=2048))
    driver.step([(0, text[:1700]), (1, short[:8])])
    first, second = driver.step([(0, text[1700:]), (1, short[8:])])
    want = dense_logits(tmp_path, [text, short])
    torch.testing.assert_close(first[0].cpu(), want[0][-1], atol=1e-4, rtol=0)
    torch.testing.assert_close(second[0].cpu(), want[1][-1], atol=1e-4, rtol=0)


def test_a_copied_page_holds_the_same(family_folder: Callable[[str], Path]) -> None:
    """What copy-on-write rests on."""
    runner = runner_of(family_folder("llama"))
    tokens = random_tokens(12, VOCABULARY, 4)
    driver = PagedDriver(runner)
    batch = driver.plan([(0, tokens[:11])])
    runner.run(batch)
    source = int(batch.page_table[0, 0])
    target = next(page for page in range(24) if page != source)
    runner.copy_page(source, target)
    step = driver.plan([(0, tokens[11:])])
    ours = runner.run(step).clone()
    moved = replace(step, page_table=np.array([[target]], np.int32), slots=np.array([target * 16 + 11]))
    torch.testing.assert_close(runner.run(moved), ours, atol=0, rtol=0)


def test_the_cache_fills_what_is_free(family_folder: Callable[[str], Path]) -> None:
    """Without a number: a share of the device's memory, measured."""
    free, _ = torch.cuda.mem_get_info()
    runner = runner_of(family_folder("llama"), pages=None, memory_fraction=0.05, cuda_graphs=False)
    held = runner.info.pages * runner.executor.page_bytes
    assert 0.02 * free < held < 0.06 * free
