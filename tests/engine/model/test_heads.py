"""engine.model.heads: Medusa heads from safetensors, against the arithmetic of their paper on transformers' states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from engine.model import BrokenModel, ModelRunner, RunnerConfig
from engine.model.executors import text_batch
from engine.model.heads import FILE, Foreseen
from engine.model.loading import load_config
from tests.engine.model.parallel.threads import load_in_turns, together

COUNT = 3


def write_heads(folder: Path, width: int, vocabulary: int | None, blocks: int = 1) -> dict[str, torch.Tensor]:
    """Random heads; with their own output matrices if `vocabulary` is given."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for head in range(COUNT):
        for block in range(blocks):
            tensors[f"{head}.{block}.linear.weight"] = torch.randn(width, width, generator=generator) / width**0.5
            tensors[f"{head}.{block}.linear.bias"] = torch.randn(width, generator=generator)
        if vocabulary is not None:
            tensors[f"{head}.{blocks}.weight"] = torch.randn(vocabulary, width, generator=generator) / width**0.5
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / FILE)
    return tensors


@pytest.mark.parametrize(("owns_output", "blocks"), [(False, 1), (True, 1), (True, 2)])
def test_heads_say_what_the_papers_formula_says(
    owns_output: bool, blocks: int, tmp_path: Path, family_folder: Callable[[str], Path]
) -> None:
    folder = family_folder("llama")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    width, vocabulary = model.config.hidden_size, model.config.vocab_size
    tensors = write_heads(tmp_path / "heads", width, vocabulary if owns_output else None, blocks)
    runner = ModelRunner(RunnerConfig(path=str(folder), pages=4, threads=1, heads=str(tmp_path / "heads")))
    batch = text_batch([6], runner.info.page_size, rows=4)
    runner.run(batch)
    assert runner.heads is not None
    found = runner.heads.look([1, 3])

    with torch.no_grad():
        hidden = model.model(torch.from_numpy(batch.token_ids)[None]).last_hidden_state[0][[3, 5]]
        for head in range(COUNT):
            state = hidden
            for block in range(blocks):
                weight, bias = (tensors[f"{head}.{block}.linear.{name}"] for name in ("weight", "bias"))
                state = state + F.silu(state @ weight.T + bias)
            out = tensors[f"{head}.{blocks}.weight"] if owns_output else model.lm_head.weight
            chances = torch.softmax(state @ out.T, dim=1).numpy()
            assert found.tokens[:, head, 0].tolist() == chances.argmax(1).tolist()
            said = np.take_along_axis(chances, found.tokens[:, head], 1)
            assert found.chances[:, head] == pytest.approx(said, abs=1e-5)
            assert (np.diff(found.chances[:, head]) <= 0).all()


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi", "gpt_neox"])  # own, tied, with a bias, under another name
@pytest.mark.parametrize("owns_output", [False, True])
def test_the_first_of_two_ranks_asks_what_one_rank_would(
    family: str,
    owns_output: bool,
    tmp_path: Path,
    family_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load_in_turns(monkeypatch)
    config = RunnerConfig(path=str(family_folder(family)), pages=4, threads=1, heads=str(tmp_path / "heads"))
    settings = load_config(config.path)
    write_heads(tmp_path / "heads", settings.hidden_size, settings.vocab_size if owns_output else None)

    def seen(runner: ModelRunner) -> Foreseen | None:
        runner.run(text_batch([6], runner.info.page_size, rows=4))
        return runner.heads.look([1, 3]) if runner.heads else None

    alone = seen(ModelRunner(config))
    first, second = together(2, lambda group: seen(ModelRunner(config, group)))
    assert alone is not None
    assert first is not None
    assert second is None
    assert first.tokens.tolist() == alone.tokens.tolist()
    assert first.chances == pytest.approx(alone.chances, abs=1e-5)


def test_files_that_are_no_heads_stop_the_start(tmp_path: Path, family_folder: Callable[[str], Path]) -> None:
    folder = family_folder("llama")

    def load() -> None:
        ModelRunner(RunnerConfig(path=str(folder), pages=4, threads=1, heads=str(tmp_path)))

    with pytest.raises(BrokenModel, match="cannot read"):
        load()
    save_file({"0.0.linear.weight": torch.zeros(5, 7)}, tmp_path / FILE)
    with pytest.raises(BrokenModel, match=r"0\.0\.linear\.weight"):
        load()
    save_file({"unknown": torch.zeros(5, 5)}, tmp_path / FILE)
    with pytest.raises(BrokenModel, match="unknown"):
        load()
    save_file({}, tmp_path / FILE)
    with pytest.raises(BrokenModel, match="no heads"):
        load()
