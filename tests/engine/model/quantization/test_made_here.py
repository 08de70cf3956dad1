"""Schemes that are made at start, by torchao on a CPU: accuracy, memory, adapters, ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from engine.config import QuantizeName
from engine.model import ModelRunner, RunnerConfig, UnsupportedModel
from engine.model.quantization.requests import torchao_config
from tests.engine.model.families import VOCABULARY
from tests.engine.model.paged import PagedDriver, random_tokens
from tests.engine.model.parallel.threads import ThreadGroup, load_in_turns, together
from tests.engine.model.test_lora import adapter, mixed_batch

_MINI = "models/formwork-mini"
_TOKENS = random_tokens(30, VOCABULARY, 7)
_MADE: tuple[QuantizeName, ...] = ("torchao-int8", "torchao-int4", "fp8")

# peft asks transformers for something by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def wide_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whose layers' inputs 32 divides, as int4 needs."""
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(0)
    numbers: Any = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    settings = LlamaConfig(**numbers, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=96)
    AutoModelForCausalLM.from_config(settings).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def runner_of(folder: Path | str, quantize: QuantizeName, **settings: Any) -> ModelRunner:
    """On a CPU."""
    options = {"device": "cpu", "pages": 8, "threads": 1, **settings}
    return ModelRunner(RunnerConfig(path=str(folder), quantize=quantize, **options))


def logits(runner: ModelRunner) -> torch.Tensor:
    """Of one text, in one chunk."""
    return PagedDriver(runner).step([(0, _TOKENS)])[0]


def unfolded_copy(folder: Path, target: Path, quantize: QuantizeName) -> Path:
    """The model with every weight what torchao's own class says that it stands for."""
    from torchao.quantization import quantize_  # noqa: PLC0415

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    head = model.get_output_embeddings()
    how = torchao_config(quantize, {64, 128}, torch.device("cpu"))
    quantize_(model, how, filter_fn=lambda module, _: isinstance(module, torch.nn.Linear) and module is not head)
    tensors = load_file(folder / "model.safetensors")
    for name, parameter in model.named_parameters():
        if hasattr(parameter, "dequantize") and type(parameter) is not torch.nn.Parameter:
            tensors[name] = parameter.dequantize().detach().float().contiguous()
    target.mkdir()
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    return target


@pytest.mark.parametrize("quantize", _MADE)
def test_logits_are_those_of_torchaos_own_numbers(quantize: QuantizeName, wide_llama: Path, tmp_path: Path) -> None:
    """Within 1e-4 of the model whose weights torchao unfolded itself: only weights are rounded."""
    exact = unfolded_copy(wide_llama, tmp_path / "exact", quantize)
    torch.testing.assert_close(
        logits(runner_of(wide_llama, quantize)), logits(runner_of(exact, "none")), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("quantize", "most_nats", "most_bytes"),
    [("torchao-int8", 0.01, 0.5), ("fp8", 0.1, 0.5), ("torchao-int4", 1.0, 0.4)],
)
def test_the_bundled_model_keeps_what_it_says(quantize: QuantizeName, most_nats: float, most_bytes: float) -> None:
    """Mean divergence from its unquantized distributions over a text at random, and memory.

    Some rows of its weights are all zeros: no scale can be found for them.
    """
    plain, made = runner_of(_MINI, "none"), runner_of(_MINI, quantize)
    before, after = (torch.log_softmax(logits(each), -1) for each in (plain, made))
    assert 0 <= (before.exp() * (before - after)).sum(-1).mean() < most_nats
    assert made.info.weight_bytes < most_bytes * plain.info.weight_bytes
    assert (made.info.quantize, made.info.parameters) == (quantize, plain.info.parameters)


def test_neighbours_and_chunks_do_not_change_a_bit(wide_llama: Path) -> None:
    """What is promised of float32 weights holds for quantized ones."""
    runner = runner_of(wide_llama, "torchao-int4", pages=40)
    whole = logits(runner)
    crowd = PagedDriver(runner, seed=1)
    others = {name: random_tokens(9, VOCABULARY, name) for name in range(1, 6)}
    pieces = [crowd.step([*others.items(), (0, _TOKENS[:11])])[-1], crowd.step([(0, _TOKENS[11:])])[0]]
    assert torch.equal(torch.cat(pieces), whole)


def test_an_adapter_is_added_to_quantized_layers(wide_llama: Path, tmp_path: Path) -> None:
    """As to the same model with its weights written out; a sequence beside it has none."""
    exact = unfolded_copy(wide_llama, tmp_path / "exact", "torchao-int8")
    targets = ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]
    folder = adapter(wide_llama, tmp_path / "adapter", 0, target_modules=targets)
    sequences = [_TOKENS[:9], _TOKENS[9:14]]
    given = []
    for path, quantize in ((wide_llama, "torchao-int8"), (exact, "none")):
        runner = runner_of(path, quantize)  # type: ignore[arg-type]
        runner.load_adapter(0, str(folder), most_rank=8)
        given.append(mixed_batch(runner, sequences, [0, -1]))
    for got, want in zip(*given, strict=True):
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("quantize", "most"), [("torchao-int8", 1e-4), ("fp8", 2e-3), ("torchao-int4", 2e-2)])
def test_ranks_quantize_their_shares(
    quantize: QuantizeName, most: float, wide_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks: layers cut by outputs are the same numbers, those cut by inputs have a scale for each part."""
    load_in_turns(monkeypatch)
    whole = logits(runner_of(wide_llama, "none"))

    def work(group: ThreadGroup) -> torch.Tensor:
        settings = RunnerConfig(path=str(wide_llama), quantize=quantize, device="cpu", pages=8, threads=1)
        return logits_or_nothing(ModelRunner(settings, group), group)

    got = together(2, work)[0]
    before, after = torch.log_softmax(whole, -1), torch.log_softmax(got, -1)
    assert 0 < (before.exp() * (before - after)).sum(-1).mean() < most


def logits_or_nothing(runner: ModelRunner, group: ThreadGroup) -> torch.Tensor:
    """All ranks run the batch, the first has the logits."""
    driver = PagedDriver(runner)
    made = runner.run(driver.plan([(0, _TOKENS)])).clone()
    return made if group.rank == 0 else torch.empty(0)


def test_a_family_without_linear_layers_of_torchs_is_refused(family_folder: Callable[[str], Path]) -> None:
    """GPT-2's layers are a class of transformers': nothing would be quantized."""
    with pytest.raises(UnsupportedModel, match="no linear layers"):
        runner_of(family_folder("gpt2"), "torchao-int8")


def test_int4_says_which_widths_it_takes(family_folder: Callable[[str], Path]) -> None:
    with pytest.raises(UnsupportedModel, match="inputs 32 divides"):
        runner_of(family_folder("llama"), "torchao-int4")
