"""What transformers is asked for on a GPU: the right configuration object for each scheme. Nothing here runs there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchao.quantization as torchao
from transformers import (
    AwqConfig,
    BitsAndBytesConfig,
    CompressedTensorsConfig,
    EetqConfig,
    GPTQConfig,
    LlamaConfig,
    TorchAoConfig,
)

from engine.config import QuantizeName
from engine.model.quantization import chosen, schemes
from engine.model.quantization.requests import request_of

_CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def _everything_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemes, "is_installed", lambda _: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _=None: (9, 0))


def request(flag: QuantizeName, **stored: Any) -> Any:
    """For a model of these widths in bfloat16."""
    config: Any = LlamaConfig()
    if stored:
        config.quantization_config = stored
    quantization = chosen(flag, config, _CUDA)
    assert quantization is not None
    return request_of(quantization, {256, 640}, _CUDA, torch.bfloat16)


def test_bitsandbytes_in_its_three_ways() -> None:
    eight, nf4, fp4 = (request(f"bitsandbytes{kind}") for kind in ("", "-nf4", "-fp4"))  # type: ignore[arg-type]
    assert all(isinstance(each, BitsAndBytesConfig) for each in (eight, nf4, fp4))
    assert eight.load_in_8bit
    assert (nf4.load_in_4bit, nf4.bnb_4bit_quant_type, nf4.bnb_4bit_compute_dtype) == (True, "nf4", torch.bfloat16)
    assert (fp4.load_in_4bit, fp4.bnb_4bit_quant_type) == (True, "fp4")


def test_eetq_in_eight_bits() -> None:
    asked = request("eetq")
    assert isinstance(asked, EetqConfig)
    assert asked.weights == "int8"


def test_torchao_by_what_the_gpu_multiplies() -> None:
    """int4 in the tiles of torch's own kernel, float8 on both sides with a scale for each row."""
    int8, int4, float8 = (request(flag) for flag in ("torchao-int8", "torchao-int4", "fp8"))
    assert all(isinstance(each, TorchAoConfig) for each in (int8, int4, float8))
    assert isinstance(int8.quant_type, torchao.Int8WeightOnlyConfig)
    assert isinstance(int4.quant_type, torchao.Int4WeightOnlyConfig)
    assert (int4.quant_type.group_size, int4.quant_type.int4_packing_format) == (128, "tile_packed_to_4d")
    assert isinstance(float8.quant_type, torchao.Float8DynamicActivationFloat8WeightConfig)


def test_a_gptq_or_awq_checkpoint_says_all_but_which_kernels() -> None:
    for method in ("gptq", "awq"):
        assert request("auto", quant_method=method, bits=4) is None
    gptq, awq = (request("marlin", quant_method=method, bits=4) for method in ("gptq", "awq"))
    assert isinstance(gptq, GPTQConfig)
    assert isinstance(awq, AwqConfig)
    assert (gptq.backend, gptq.bits, awq.backend, awq.bits) == ("marlin", 4, "marlin", 4)


def test_compressed_tensors_stay_small_in_float8_and_are_unfolded_else() -> None:
    def stored(kind: str, bits: int) -> dict[str, Any]:
        return {"config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": bits, "type": kind}}}}

    float8 = request("auto", quant_method="compressed-tensors", **stored("float", 8))
    int4 = request("auto", quant_method="compressed-tensors", **stored("int", 4))
    assert isinstance(float8, CompressedTensorsConfig)
    assert (float8.use_optimized_inference, float8.dequantize) == (True, False)
    assert (int4.use_optimized_inference, int4.dequantize) == (False, True)


def test_a_float8_or_bitsandbytes_checkpoint_says_it_all() -> None:
    assert request("auto", quant_method="fp8") is None
    assert request("auto", quant_method="bitsandbytes", load_in_8bit=True) is None
