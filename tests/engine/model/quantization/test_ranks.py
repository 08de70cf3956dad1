"""Quantized checkpoints divided among ranks are what one rank makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.config import QuantizeName
from engine.model import ModelRunner, RunnerConfig
from tests.engine.model.families import VOCABULARY
from tests.engine.model.paged import PagedDriver, random_tokens
from tests.engine.model.parallel.threads import ThreadGroup, load_in_turns, together
from tests.engine.model.quantization import makers
from tests.engine.model.quantization.test_checkpoints import FORMATS, logits
from tests.engine.model.test_heads import write_heads
from tests.engine.model.test_lora import adapter, dense

_TOKENS = random_tokens(30, VOCABULARY, 7)


def logits_of_ranks(folder: Path, ranks: int, quantize: QuantizeName = "auto") -> torch.Tensor:
    """Of the text of `test_checkpoints.logits`; ranks are threads."""

    def work(group: ThreadGroup) -> torch.Tensor:
        settings = RunnerConfig(path=str(folder), quantize=quantize, device="cpu", pages=8, threads=1)
        runner = ModelRunner(settings, group)
        made = runner.run(PagedDriver(runner).plan([(0, _TOKENS)])).clone()
        return made if group.rank == 0 else torch.empty(0)

    return together(ranks, work)[0]


@pytest.mark.parametrize("family", ["llama", "phi", "mixtral"])
@pytest.mark.parametrize("form", FORMATS)
def test_ranks_share_a_quantized_checkpoint(
    form: str, family: str, family_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cuts fall inside of groups (48 inputs in groups of 16, halved), between sorted inputs, through biases."""
    load_in_turns(monkeypatch)
    maker, settings = FORMATS[form]
    makers.quantized_copy(family_folder(family), tmp_path, maker, settings)
    torch.testing.assert_close(logits_of_ranks(tmp_path, 2), logits(tmp_path), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", ["gptq in act-order", "fp8"])
def test_key_heads_may_be_fewer_than_ranks(
    form: str, family_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two key-value heads, four ranks: two hold each, whatever the weights are held in."""
    load_in_turns(monkeypatch)
    maker, settings = FORMATS[form]
    makers.quantized_copy(family_folder("llama"), tmp_path, maker, settings)
    torch.testing.assert_close(logits_of_ranks(tmp_path, 4), logits(tmp_path), atol=1e-4, rtol=1e-4)


def test_a_coded_vocabulary_is_divided(
    family_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of tokens that nobody has are zero; rank 0 has the matrix whole where Medusa heads share it."""
    load_in_turns(monkeypatch)
    maker, settings = FORMATS["fp8"]
    endings = (*makers.LINEAR, "lm_head.weight")
    exact = makers.quantized_copy(family_folder("llama"), tmp_path / "coded", maker, settings, endings)
    torch.testing.assert_close(logits_of_ranks(tmp_path / "coded", 2), logits(exact), atol=1e-4, rtol=1e-4)
    write_heads(tmp_path / "heads", 32, vocabulary=None)
    config = RunnerConfig(path=str(tmp_path / "coded"), device="cpu", pages=8, threads=1, heads=str(tmp_path / "heads"))

    def seen(runner: ModelRunner) -> list[int]:
        runner.run(PagedDriver(runner).plan([(0, _TOKENS)]))
        return [] if runner.heads is None else runner.heads.look([5, 29]).tokens.flatten().tolist()

    assert together(2, lambda group: seen(ModelRunner(config, group)))[0] == seen(ModelRunner(config))


@pytest.mark.parametrize("form", ["gptq in act-order", "awq"])
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_adapters_are_divided_beside_codes(
    form: str, family_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks equal peft over the model that the codes stand for, with the adapter and without, in one batch."""
    load_in_turns(monkeypatch)
    maker, settings = FORMATS[form]
    exact = makers.quantized_copy(family_folder("llama"), tmp_path / "base", maker, settings)
    lora = adapter(exact, tmp_path / "lora", 0, target_modules=["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"])

    def work(group: ThreadGroup) -> list[torch.Tensor]:
        runner = ModelRunner(RunnerConfig(path=str(tmp_path / "base"), device="cpu", pages=8, threads=1), group)
        runner.load_adapter(0, str(lora), most_rank=8)
        batch = PagedDriver(runner).plan([(0, _TOKENS[:9]), (1, _TOKENS[9:14])])
        object.__setattr__(batch, "adapters", np.array([0, -1], np.int32))
        made = runner.run(batch).clone()
        return list(torch.split(made, [9, 5])) if group.rank == 0 else []

    with_adapter, without = together(2, work)[0]
    torch.testing.assert_close(with_adapter, dense(exact, lora, _TOKENS[:9]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(without, dense(exact, None, _TOKENS[9:14]), atol=1e-4, rtol=1e-4)
