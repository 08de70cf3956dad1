"""Quantized weights on a GPU: close to the same weights on a CPU, and as close to the unquantized model as there.

Run where there is one: `python -m pytest -m gpu tests/engine/model/quantization/test_cuda.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.config import QuantizeName
from engine.model import ModelRunner, RunnerConfig
from tests.engine.model.paged import PagedDriver, random_tokens
from tests.engine.model.quantization import makers
from tests.engine.model.quantization.test_checkpoints import _INT4, _INT8
from tests.engine.model.test_lora import adapter, mixed_batch

_MINI = "models/formwork-mini"
_TOKENS = random_tokens(120, 4000, 7)
_FLOAT8: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "quantization_status": "compressed",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "dynamic": False},
            "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True},
        }
    },
    "ignore": ["lm_head"],
}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore"),  # the packages' own, of which each version has others
]


def log_probs(model: Path | str, quantize: QuantizeName, device: str) -> torch.Tensor:
    """Of one text, prefilled and then a few tokens one by one (which a recorded graph replays), on the CPU."""
    runner = ModelRunner(RunnerConfig(path=str(model), quantize=quantize, device=device, pages=64, max_sequences=4))
    driver = PagedDriver(runner)
    parts = [driver.step([(0, _TOKENS[:100])])[0]]
    parts += [driver.step([(0, [token])])[0] for token in _TOKENS[100:]]
    return torch.log_softmax(torch.cat(parts).cpu(), -1)


def divergence(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean, in nats."""
    return float((one.exp() * (one - other)).sum(-1).mean())


@pytest.mark.parametrize(
    ("quantize", "most", "package"),
    [
        ("torchao-int8", 0.02, "torchao"),
        ("torchao-int4", 1.5, "torchao"),
        ("fp8", 0.3, "torchao"),
        ("bitsandbytes", 0.1, "bitsandbytes"),
        ("bitsandbytes-nf4", 0.6, "bitsandbytes"),
        ("bitsandbytes-fp4", 1.0, "bitsandbytes"),
    ],
)
def test_made_at_start_it_keeps_what_the_model_says(quantize: QuantizeName, most: float, package: str) -> None:
    """Mean divergence from the unquantized model on the CPU, over a text at random."""
    if find_spec(package) is None:
        pytest.skip(f"{package} is not there")
    assert 0 <= divergence(log_probs(_MINI, "none", "cpu"), log_probs(_MINI, quantize, "cuda")) < most


@pytest.mark.parametrize(
    ("maker", "settings", "most"),
    [(makers.float8(None), _FLOAT8, 0.3), (makers.int8(), _INT8, 0.1), (makers.int4_packed(16), _INT4, 0.02)],
)
def test_compressed_tensors_are_what_they_are_on_a_cpu(
    maker: makers.Maker, settings: dict[str, Any], most: float, tmp_path: Path
) -> None:
    """float8 by scaled products, int unfolded into 16 bits; where a checkpoint says so activations are rounded, too."""
    makers.quantized_copy(Path(_MINI), tmp_path, maker, settings)
    assert 0 <= divergence(log_probs(tmp_path, "auto", "cpu"), log_probs(tmp_path, "auto", "cuda")) < most


def test_an_adapter_is_added_to_quantized_layers(tmp_path: Path, family_folder: Callable[[str], Path]) -> None:
    """As on a CPU: the adapter's numbers are large, so distributions are compared, not logits."""
    base = family_folder("llama")
    folder = adapter(base, tmp_path, 0, target_modules=["q_proj", "o_proj", "down_proj"])
    given = []
    for device in ("cpu", "cuda"):
        runner = ModelRunner(
            RunnerConfig(path=str(base), quantize="torchao-int8", device=device, dtype="float32", pages=8)
        )
        runner.load_adapter(0, str(folder), most_rank=8)
        given.append(mixed_batch(runner, [[5, 6, 7], [8, 9]], [0, -1]))
    for cpu, cuda in zip(*given, strict=True):
        assert 0 <= divergence(torch.log_softmax(cpu, -1), torch.log_softmax(cuda.cpu(), -1)) + 1e-6 < 1e-3
