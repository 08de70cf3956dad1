"""The Triton kernels, run by Triton's interpreter on a CPU, against transformers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from engine.batch import StepBatch
from engine.messages import ModelInfo
from engine.model import RunnerConfig, triton_attention
from engine.model.config import CacheDtypeName
from engine.model.device_fabric import DeviceFabric, rms_norm
from engine.model.executors import DeviceExecutor
from engine.model.forward import ForwardPass
from engine.model.fusion import fuse_layers
from engine.model.graphs import Geometry, Shape, StepBuffers, StepGraphs
from engine.model.loading import load_config, load_model
from tests.engine.model.families import VOCABULARY
from tests.engine.model.paged import PagedDriver, random_tokens
from tests.engine.model.test_graphs import Played
from tests.oracles.dense_logits import dense_logits

# Triton decides at its import, so these need a process of their own.
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.mark.skipif(_INTERPRETED, reason="this is the inner run")
def test_the_interpreter_agrees_with_transformers() -> None:
    """Runs the tests below in a process where Triton interprets."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout[-3000:]


def plain_model(folder: Path) -> PreTrainedModel:
    """As transformers loads it, over our attention."""
    return load_model(str(folder), load_config(str(folder)), torch.float32)


def executing(model: PreTrainedModel, config: RunnerConfig) -> tuple[DeviceExecutor, PagedDriver]:
    """The device's executor, on the CPU, and what feeds it."""
    executor = DeviceExecutor(ForwardPass(model), config, torch.float32, torch.device("cpu"), longest=96)
    return executor, PagedDriver(_AsRunner(executor, config))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # rows that pad a block divide 0 by 0, unread
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_oss", "deepseek_v3", "bloom"])
@pytest.mark.skipif(not _INTERPRETED, reason="run by the test above, with the interpreter")
def test_interpreted_triton_kernels_match_transformers(
    family: str, family_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows, caps, sinks, slopes, values narrower than keys, fused layers; prefill, decode and split texts."""
    monkeypatch.setattr(triton_attention, "SPLIT", 32)
    folder = family_folder(family)
    sequences = [random_tokens(length, VOCABULARY, seed) for seed, length in enumerate((70, 9))]
    model = plain_model(folder)
    assert fuse_layers(model, DeviceFabric()) == {"llama": 4, "deepseek_v3": 2}.get(family, 0)
    _, driver = executing(model, RunnerConfig(path=str(folder), pages=12))
    first = driver.step([(0, sequences[0][:68]), (1, sequences[1][:7])])
    second = driver.step([(1, sequences[1][7:8]), (0, sequences[0][68:69])])
    third = driver.step([(0, sequences[0][69:]), (1, sequences[1][8:])])

    want = dense_logits(folder, sequences, family)

    torch.testing.assert_close(torch.cat([first[0], second[1], third[0]]), want[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cat([first[1], second[0], third[1]]), want[1], atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("family", ["gemma2", "gpt_oss"])
@pytest.mark.skipif(not _INTERPRETED, reason="run by the test above, with the interpreter")
def test_a_padded_verifying_step_attends_as_transformers_does(
    family: str, family_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guesses of unlike length in one replayed step, over texts that are split."""
    monkeypatch.setattr(triton_attention, "SPLIT", 32)
    folder = family_folder(family)
    sequences = [random_tokens(length, VOCABULARY, seed) for seed, length in enumerate((70, 40))]
    config = RunnerConfig(path=str(folder), pages=12)
    executor, driver = executing(plain_model(folder), config)
    sizes = [Shape(16, 4, 6), Shape(4, 4, 1)]
    buffers = StepBuffers(Geometry.of(sizes, 96, config.page_size, spare_page=executor.pages), torch.device("cpu"))
    recorder = Played()
    graphs = StepGraphs(executor.eager, buffers, sizes, recorder, None)
    first = driver.step([(0, sequences[0][:60]), (1, sequences[1][:36])])
    batches = [
        driver.plan([(0, sequences[0][60:66]), (1, sequences[1][36:39])]),
        driver.plan([(1, sequences[1][39:]), (0, sequences[0][66:67])]),
        driver.plan([(0, sequences[0][67:])]),
    ]
    told: list[torch.Tensor] = []
    for batch in batches:
        logits = graphs.run(batch)
        assert logits is not None
        told.append(logits.clone())  # the next replay writes where this one did
    assert recorder.replays == len(batches)
    second, third, fourth = told

    want = dense_logits(folder, sequences, family)

    torch.testing.assert_close(torch.cat([first[0], second[:6], third[1:], fourth]), want[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cat([first[1], second[6:], third[:1]]), want[1], atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("stored", "apart"), [("bfloat16", 0.02), ("float16", 0.003), ("fp8", 0.3)])
@pytest.mark.skipif(not _INTERPRETED, reason="run by the test above, with the interpreter")
def test_a_narrower_cache_costs_no_more_than_its_digits(
    stored: CacheDtypeName, apart: float, family_folder: Callable[[str], Path]
) -> None:
    """Keys and values in fewer bits than the weights: close in the mean, in proportion to what was rounded."""
    folder = family_folder("llama")
    tokens = random_tokens(40, VOCABULARY, 2)
    model = plain_model(folder)
    executor, driver = executing(model, RunnerConfig(path=str(folder), pages=8, cache_dtype=stored))
    full, _ = executing(model, RunnerConfig(path=str(folder), pages=8))
    assert executor.page_bytes == full.page_bytes // (4 if stored == "fp8" else 2)
    (first,) = driver.step([(0, tokens[:39])])
    (last,) = driver.step([(0, tokens[39:])])

    (want,) = dense_logits(folder, [tokens], "llama")

    error = (torch.cat([first, last]) - want).abs().mean() / want.std()
    assert 0 < error < apart


@pytest.mark.parametrize(
    "device",
    [
        pytest.param(
            "cpu", marks=pytest.mark.skipif(not _INTERPRETED, reason="run by the first test, with the interpreter")
        ),
        pytest.param("cuda", marks=pytest.mark.gpu),
    ],
)
def test_norms_and_gates_are_those_of_torch(device: str) -> None:
    """Widths that fill no block, rows that are views."""
    rows = torch.randn(2, 3, 150, device=device)[..., :75]
    weight = torch.randn(75, device=device)
    want = torch.nn.functional.rms_norm(rows, (75,), weight, 1e-5)
    torch.testing.assert_close(rms_norm(rows, weight, 1e-5), want, atol=1e-5, rtol=1e-5)
    fused = torch.randn(2, 3, 2 * 1100, device=device)
    gates, values = fused.chunk(2, dim=-1)
    torch.testing.assert_close(
        DeviceFabric().gated(fused), torch.nn.functional.silu(gates) * values, atol=1e-5, rtol=1e-5
    )


class _AsRunner:
    """An executor with the info that the driver reads."""

    def __init__(self, executor: DeviceExecutor, config: RunnerConfig) -> None:
        self._executor = executor
        self.info = ModelInfo(
            model_type="",
            vocab_size=VOCABULARY,
            max_positions=96,
            eos_token_ids=[],
            dtype="float32",
            device="cpu",
            page_size=config.page_size,
            pages=executor.pages,
            parameters=0,
        )

    def run(self, batch: StepBatch) -> torch.Tensor:
        return self._executor.run(batch)

    def copy_page(self, source: int, target: int) -> None:
        self._executor.copy_page(source, target)
