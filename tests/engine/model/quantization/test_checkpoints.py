"""Quantized checkpoints on a CPU are the models that their numbers stand for."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import compressed_tensors.compressors.pack_quantized.helpers as packing
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, CompressedTensorsConfig

from engine.model import BrokenModel, ModelRunner, RunnerConfig, UnsupportedModel
from engine.model.quantization.formats import gptq
from tests.engine.model.families import VOCABULARY
from tests.engine.model.paged import PagedDriver, random_tokens
from tests.engine.model.quantization import makers

_TOKENS = random_tokens(30, VOCABULARY, 7)
_GPTQ: dict[str, Any] = {"quant_method": "gptq", "group_size": 16, "sym": False}
_AWQ: dict[str, Any] = {"quant_method": "awq", "bits": 4, "group_size": 16, "version": "gemm", "zero_point": True}
_FP8: dict[str, Any] = {"quant_method": "fp8", "weight_block_size": [16, 16], "activation_scheme": "dynamic"}
_INT8: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "strategy": "channel"},
            "input_activations": {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True},
        }
    },
    "ignore": ["lm_head"],
}
_INT4: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "quantization_status": "compressed",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 16, "symmetric": True},
        }
    },
    "ignore": ["lm_head"],
}

# name: (how a weight is stored, what config.json says)
FORMATS: dict[str, tuple[makers.Maker, dict[str, Any]]] = {
    "gptq": (makers.gptq(4, 16), {**_GPTQ, "bits": 4}),
    "gptq in eight bits": (makers.gptq(8, 16), {**_GPTQ, "bits": 8}),
    "gptq in act-order": (makers.gptq(4, 16, act_order=True), {**_GPTQ, "bits": 4, "desc_act": True}),
    "gptq_v2": (makers.gptq(4, 16, v2=True), {**_GPTQ, "bits": 4, "checkpoint_format": "gptq_v2"}),
    "awq": (makers.awq(16), _AWQ),
    "fp8": (makers.float8(16), _FP8),
    "fbgemm-fp8": (makers.float8(None), {"quant_method": "fbgemm_fp8"}),
    "compressed-tensors": (makers.int8(), _INT8),
    "compressed-tensors in four bits": (makers.int4_packed(16), _INT4),
}


def logits(folder: Path) -> torch.Tensor:
    """Of one text, in one chunk."""
    return PagedDriver(_runner(folder)).step([(0, _TOKENS)])[0]


def _runner(folder: Path) -> ModelRunner:
    return ModelRunner(RunnerConfig(path=str(folder), device="cpu", pages=8, threads=1))


@pytest.mark.parametrize("family", ["llama", "phi"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_checkpoint_is_the_model_that_its_numbers_stand_for(
    form: str, family: str, family_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Within 1e-4 of the same model with each weight written out in float32, with biases and without."""
    maker, settings = FORMATS[form]
    exact = makers.quantized_copy(family_folder(family), tmp_path, maker, settings)
    torch.testing.assert_close(logits(tmp_path), logits(exact), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_codes_of_any_width_are_found_in_their_words(bits: int, *, act_order: bool) -> None:
    """Those of three bits run on from one word into the next, wherefore their layers are as wide as 32 divides."""
    made, exact = makers.gptq(bits, 32, act_order=act_order)(torch.randn(64, 96))
    read = gptq(made, {"bits": bits, "group_size": 32})
    torch.testing.assert_close(torch.from_numpy(read.unfolded()), exact)
    assert read.nbytes <= 64 * 96 * max(bits, 4) // 8 + 2 * 64 * 3 * 4


@pytest.mark.parametrize(("form", "most"), [("gptq", 0.5), ("fp8", 0.6)])
def test_it_stays_small_in_memory(form: str, most: float, family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """The runner tells what it is, how many numbers it has, and what they take."""
    maker, settings = FORMATS[form]
    exact = _runner(makers.quantized_copy(family_folder("llama"), tmp_path, maker, settings)).info
    info = _runner(tmp_path).info
    assert (info.quantize, info.parameters, exact.quantize) == (form, exact.parameters, "")
    assert info.weight_bytes < most * exact.weight_bytes


@pytest.mark.parametrize("form", ["gptq in act-order", "fp8"])
def test_chunks_do_not_change_a_bit(form: str, family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """What is promised of float32 weights holds for quantized ones."""
    maker, settings = FORMATS[form]
    makers.quantized_copy(family_folder("llama"), tmp_path, maker, settings)
    runner = _runner(tmp_path)
    whole = PagedDriver(runner, seed=1).step([(0, _TOKENS)])[0]
    driver = PagedDriver(runner, seed=2)
    assert torch.equal(torch.cat([driver.step([(0, [token])])[0] for token in _TOKENS]), whole)


def test_a_checkpoint_may_lie_in_several_files(family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """A layer's tensors need not be in one of them."""
    exact = makers.quantized_copy(family_folder("llama"), tmp_path, makers.gptq(4, 16), {**_GPTQ, "bits": 4})
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    homes = {name: f"model-{index % 2 + 1}-of-2.safetensors" for index, name in enumerate(sorted(tensors))}
    for file in set(homes.values()):
        part = {name: tensor for name, tensor in tensors.items() if homes[name] == file}
        save_file(part, tmp_path / file, {"format": "pt"})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": homes}), encoding="utf-8")
    torch.testing.assert_close(logits(tmp_path), logits(exact), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.filterwarnings("ignore:You passed `quantization_config`:UserWarning")  # which is how it is told to unfold
def test_packed_compressed_tensors_are_read_as_their_own_package_does(
    symmetric: bool, family_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Packed by compressed-tensors' own function; expected is what transformers and that package make of the folder."""

    def make(weight: torch.Tensor) -> tuple[makers.Tensors, torch.Tensor]:
        groups = weight.reshape(weight.shape[0], -1, 16)
        scales = groups.abs().amax(2) / 7
        zeros = torch.zeros_like(scales) if symmetric else torch.randint(-3, 4, scales.shape).float()
        codes = (groups / scales[..., None] + zeros[..., None]).round().clamp(-8, 7)
        made = {
            "weight_packed": packing.pack_to_int32(codes.flatten(1).to(torch.int8), 4),
            "weight_scale": scales,
            "weight_shape": torch.tensor(weight.shape),
        }
        if not symmetric:
            made["weight_zero_point"] = packing.pack_to_int32(zeros.to(torch.int8), 4, packed_dim=0)
        return made, ((codes - zeros[..., None]) * scales[..., None]).flatten(1)

    settings: dict[str, Any] = copy.deepcopy(_INT4)
    settings["config_groups"]["group_0"]["weights"]["symmetric"] = symmetric
    makers.quantized_copy(family_folder("llama"), tmp_path, make, settings)
    told = CompressedTensorsConfig(dequantize=True)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, quantization_config=told)
    with torch.no_grad():
        want = model.eval()(torch.tensor([_TOKENS]), use_cache=False).logits[0]
    torch.testing.assert_close(logits(tmp_path), want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("maker", "settings", "says"),
    [
        (makers.gptq(4, 16), {**_GPTQ, "bits": 5}, "5 bits"),
        (makers.gptq(4, 16), {**_GPTQ, "bits": 4, "checkpoint_format": "marlin"}, "marlin"),
        (makers.gptq(4, 16), {**_GPTQ, "bits": 4, "group_size": 8}, "group"),
        (makers.awq(16), {**_AWQ, "version": "gemv"}, "gemv"),
        (makers.int8(), {**_INT8, "sparsity_config": {"format": "sparse-24-bitmask"}}, "sparse-24"),
        (makers.int8(), {**_INT8, "transform_config": {"config_groups": {}}}, "transform_config"),
    ],
)
def test_other_layouts_are_refused_by_name(
    maker: makers.Maker,
    settings: dict[str, Any],
    says: str,
    family_folder: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """Numbers that were read in the wrong order would still be numbers."""
    makers.quantized_copy(family_folder("llama"), tmp_path, maker, settings)
    with pytest.raises(UnsupportedModel, match=says):
        _runner(tmp_path)


def test_a_tensor_that_is_not_known_is_refused(family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """A second scale, say, of a format of four-bit floats."""

    def make(weight: torch.Tensor) -> tuple[makers.Tensors, torch.Tensor]:
        made, exact = makers.int8()(weight)
        return {**made, "weight_global_scale": torch.ones(1)}, exact

    makers.quantized_copy(family_folder("llama"), tmp_path, make, _INT8)
    with pytest.raises(UnsupportedModel, match="weight_global_scale"):
        _runner(tmp_path)


def test_a_missing_tensor_is_named(family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Scales without which codes mean nothing."""

    def make(weight: torch.Tensor) -> tuple[makers.Tensors, torch.Tensor]:
        made, exact = makers.gptq(4, 16)(weight)
        return {name: tensor for name, tensor in made.items() if name != "scales"}, exact

    makers.quantized_copy(family_folder("llama"), tmp_path, make, {**_GPTQ, "bits": 4})
    with pytest.raises(BrokenModel, match="scales"):
        _runner(tmp_path)
