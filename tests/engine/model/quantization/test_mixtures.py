"""Mixtures of experts in fewer bits: read from checkpoints, made at start, whole and among ranks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchao.quantization import quantize_
from transformers import AutoModelForCausalLM, GptOssConfig
from transformers.utils.quantization_config import Mxfp4Config

from engine.config import QuantizeName
from engine.model import BrokenModel, ModelRunner, RunnerConfig, UnsupportedModel
from engine.model.loading import load_config
from engine.model.quantization import SCHEMES, Quantization
from engine.model.quantization.checkpoints import load_unfolded
from engine.model.quantization.loading import outline_of, refuse_experts
from engine.model.quantization.requests import torchao_config
from tests.engine.model.families import VOCABULARY
from tests.engine.model.paged import PagedDriver, random_tokens
from tests.engine.model.parallel.threads import load_in_turns
from tests.engine.model.quantization import makers
from tests.engine.model.quantization.test_checkpoints import FORMATS, logits
from tests.engine.model.quantization.test_ranks import logits_of_ranks

_TOKENS = random_tokens(30, VOCABULARY, 7)


@pytest.mark.parametrize(
    ("family", "form"),
    [
        ("mixtral", "gptq"),
        ("mixtral", "awq"),
        ("qwen2_moe", "gptq in act-order"),
        ("qwen3_moe", "compressed-tensors"),
        ("deepseek_v3", "fp8"),
    ],
)
def test_a_checkpoint_is_the_mixture_that_its_numbers_stand_for(
    family: str, form: str, family_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Within 1e-4 of the same model with every expert written out; shared experts are layers like any other."""
    maker, settings = FORMATS[form]
    exact = makers.quantized_copy(family_folder(family), tmp_path, maker, settings)
    torch.testing.assert_close(logits(tmp_path), logits(exact), atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def gpt_oss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As it is published: MXFP4 experts, all else in floating point."""
    folder = tmp_path_factory.mktemp("gpt_oss")
    sizes: Any = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    heads: Any = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 6}
    mixture: Any = {"num_local_experts": 4, "num_experts_per_tok": 2, "max_position_embeddings": 96, "pad_token_id": 0}
    settings = GptOssConfig(**sizes, **heads, **mixture, initializer_range=0.1)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(settings).save_pretrained(folder / "plain")  # type: ignore[no-untyped-call]
    makers.mxfp4_copy(folder / "plain", folder)
    return folder


@pytest.fixture(scope="module")
def dequantized(gpt_oss: Path) -> torch.Tensor:
    """What transformers makes of it: its own unfolding (to bfloat16 in 5.17, which loses nothing), its forward pass."""
    told = Mxfp4Config(dequantize=True)
    model: Any = AutoModelForCausalLM.from_pretrained(gpt_oss, dtype=torch.float32, quantization_config=told)
    with torch.no_grad():
        found: torch.Tensor = model.float().eval()(torch.tensor([_TOKENS]), use_cache=False).logits[0]
    return found


def test_gpt_oss_is_served_as_it_is_published(gpt_oss: Path, dequantized: torch.Tensor) -> None:
    """Four bits a weight stay four bits; the logits are those of transformers' own dequantization."""
    runner = ModelRunner(RunnerConfig(path=str(gpt_oss), device="cpu", pages=8, threads=1))
    torch.testing.assert_close(PagedDriver(runner).step([(0, _TOKENS)])[0], dequantized, atol=1e-4, rtol=1e-4)
    plain = ModelRunner(RunnerConfig(path=str(gpt_oss / "plain"), device="cpu", pages=8, threads=1)).info
    assert (runner.info.quantize, runner.info.parameters) == ("mxfp4", plain.parameters)
    experts = 2 * 4 * 3 * 64 * 96
    assert runner.info.weight_bytes == plain.weight_bytes - experts * 4 + experts // 2 + experts // 32 * 4


def test_chunks_do_not_change_a_bit(gpt_oss: Path) -> None:
    """What is promised of float32 weights holds for experts in four bits."""
    runner = ModelRunner(RunnerConfig(path=str(gpt_oss), device="cpu", pages=8, threads=1))
    whole = PagedDriver(runner, seed=1).step([(0, _TOKENS)])[0]
    driver = PagedDriver(runner, seed=2)
    assert torch.equal(torch.cat([driver.step([(0, [token])])[0] for token in _TOKENS]), whole)


@pytest.mark.parametrize("ranks", [2, 4])
def test_gpt_oss_is_divided_as_it_is_published(
    ranks: int, gpt_oss: Path, dequantized: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 96 inputs each of four ranks has 24: its scales are cut with them."""
    load_in_turns(monkeypatch)
    torch.testing.assert_close(logits_of_ranks(gpt_oss, ranks), dequantized, atol=1e-4, rtol=1e-4)


def test_on_a_gpu_its_experts_are_written_out(gpt_oss: Path) -> None:
    """In the weights' own type: the tensors are those that transformers makes, to the last bit."""
    stored = json.loads((gpt_oss / "config.json").read_text(encoding="utf-8"))["quantization_config"]
    ours: Any = load_unfolded(gpt_oss, load_config(str(gpt_oss)), "mxfp4", stored, torch.bfloat16)
    told = Mxfp4Config(dequantize=True)
    theirs: Any = AutoModelForCausalLM.from_pretrained(gpt_oss, dtype=torch.bfloat16, quantization_config=told)
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
        assert tensor.dtype == expected[name].dtype


def test_an_expert_that_is_not_there_is_told(family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """A mixture of which some experts are quantized and others are not has no place in transformers' tensors."""
    maker, settings = FORMATS["fp8"]
    makers.quantized_copy(family_folder("mixtral"), tmp_path, maker, settings)
    tensors = load_file(tmp_path / "model.safetensors")
    lacking = {name: tensor for name, tensor in tensors.items() if "experts.2.w3" not in name}
    save_file(lacking, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnsupportedModel, match=r"expert 2 of .* is quantized in part"):
        logits(tmp_path)


@pytest.mark.parametrize(
    ("changed", "says"),
    [({"intermediate_size": 64}, r"expert 0 of .* do not fit"), ({"num_local_experts": 3}, "more experts than")],
)
def test_other_experts_than_the_configuration_says_are_told(
    changed: dict[str, int], says: str, family_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    maker, settings = FORMATS["fp8"]
    makers.quantized_copy(family_folder("mixtral"), tmp_path, maker, settings)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | changed), encoding="utf-8")
    with pytest.raises(BrokenModel, match=says):
        logits(tmp_path)


def test_a_file_without_scales_is_told(gpt_oss: Path, tmp_path: Path) -> None:
    """By the expert that lacks them."""
    tensors = {n: t for n, t in load_file(gpt_oss / "model.safetensors").items() if "down_proj_scales" not in n}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_bytes((gpt_oss / "config.json").read_bytes())
    with pytest.raises(BrokenModel, match=r"experts\.0\.down_proj .*scales"):
        logits(tmp_path)


@pytest.mark.parametrize("quantize", ["torchao-int8", "fp8"])
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_experts_made_at_start_are_torchaos_numbers(
    quantize: QuantizeName, family_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Within 1e-4 of the model in which each expert's matrix is what torchao says of it as a layer."""
    folder = family_folder("mixtral")
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if name.endswith(makers.LINEAR):
            layer = torch.nn.Sequential(torch.nn.Linear(tensor.shape[1], tensor.shape[0], bias=False))
            layer[0].weight = torch.nn.Parameter(tensor, requires_grad=False)
            quantize_(layer, torchao_config(quantize, {32, 48}, torch.device("cpu")))
            tensors[name] = layer[0].weight.dequantize().float().contiguous()
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    runner = ModelRunner(RunnerConfig(path=str(folder), quantize=quantize, device="cpu", pages=8, threads=1))
    torch.testing.assert_close(PagedDriver(runner).step([(0, _TOKENS)])[0], logits(tmp_path), atol=1e-4, rtol=1e-4)
    assert runner.info.weight_bytes < 0.5 * runner.info.parameters * 4


def test_ranks_make_their_parts_of_experts(
    family_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near the unquantized mixture; down projections have a scale for each part."""
    load_in_turns(monkeypatch)
    folder = family_folder("mixtral")
    before = torch.log_softmax(logits(folder), -1)
    after = torch.log_softmax(logits_of_ranks(folder, 2, quantize="torchao-int8"), -1)
    assert 0 < (before.exp() * (before - after)).sum(-1).mean() < 5e-3


def test_packages_that_leave_experts_as_they_are_are_refused(family_folder: Callable[[str], Path]) -> None:
    """Nearly all of a mixture's weights, and nobody would be told."""
    outline = outline_of(load_config(str(family_folder("mixtral"))))
    assert outline.mixture == "mixtral"
    for name, device in (("bitsandbytes", "cpu"), ("torchao-int8", "cuda"), ("fp8", "cuda")):
        with pytest.raises(UnsupportedModel, match=f"{name} on {device}: the experts of mixtral would stay"):
            refuse_experts(Quantization(SCHEMES[name]), outline, torch.device(device))
    with pytest.raises(UnsupportedModel, match="the experts of mixtral"):
        refuse_experts(Quantization(SCHEMES["gptq"], {"quant_method": "gptq"}), outline, torch.device("cuda"))
