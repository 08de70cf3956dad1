"""lora: rows of one batch with different adapters get what peft gives each alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from engine.batch import Runner
from engine.model import BrokenModel, ModelRunner, RunnerConfig, UnsupportedModel
from tests.engine.model.families import VOCABULARY
from tests.engine.model.paged import PagedDriver, random_tokens
from tests.engine.model.parallel.threads import ThreadGroup, load_in_turns, together

# peft asks transformers for something by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

# family: layers that its adapters change
TARGETS = {
    "llama": ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "phi3": ["qkv_proj", "gate_up_proj", "down_proj"],
    "gpt_neox": ["query_key_value", "dense_4h_to_h"],
    "opt": ["k_proj", "fc1", "out_proj"],
    "qwen2_moe": ["q_proj", "o_proj"],
}


def adapter(base: Path, folder: Path, seed: int, **settings: Any) -> Path:
    """A random adapter, saved as peft does."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    settings["fan_in_fan_out"] = model.config.model_type == "gpt2"
    wrapped: Any = peft.get_peft_model(model, peft.LoraConfig(**{"lora_alpha": 12, "r": 4, **settings}))
    torch.manual_seed(seed)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    wrapped.save_pretrained(folder)
    return folder


def dense(base: Path, folder: Path | None, tokens: Sequence[int]) -> torch.Tensor:
    """Logits of peft's own model; without a folder those of the base."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    if folder is not None:
        model = peft.PeftModel.from_pretrained(model, folder)
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(torch.tensor([list(tokens)]), use_cache=False).logits[0]
    return logits


def mixed_batch(runner: Runner, sequences: Sequence[Sequence[int]], slots: Sequence[int]) -> list[torch.Tensor]:
    """All sequences in one pass, each with its slot."""
    driver = PagedDriver(runner)
    batch = driver.plan(list(enumerate(sequences)))
    object.__setattr__(batch, "adapters", np.array(slots, np.int32))
    return list(torch.split(runner.run(batch).clone(), [len(s) for s in sequences]))


@pytest.mark.parametrize("family", TARGETS)
def test_a_mixed_batch_equals_peft(family: str, family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Two adapters of different ranks, one given twice, and a sequence without; at most 1e-4 apart."""
    base = family_folder(family)
    folders = [
        adapter(base, tmp_path / str(seed), seed, r=rank, target_modules=TARGETS[family], use_rslora=seed == 1)
        for seed, rank in enumerate((4, 7))
    ]
    sequences = [random_tokens(length, VOCABULARY, seed) for seed, length in enumerate((9, 5, 12, 1))]
    slots = [0, 1, -1, 0]
    runner = ModelRunner(RunnerConfig(path=str(base), pages=8, threads=1))
    for slot, folder in enumerate(folders):
        runner.load_adapter(slot, str(folder), most_rank=8)
    for got, tokens, slot in zip(mixed_batch(runner, sequences, slots), sequences, slots, strict=True):
        want = dense(base, folders[slot] if slot >= 0 else None, tokens)
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", TARGETS)
def test_ranks_hold_shares_of_adapters(
    family: str, family_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensor parallel 2 equals peft, whichever side of a layer is divided."""
    load_in_turns(monkeypatch)
    base = family_folder(family)
    folder = adapter(base, tmp_path, 0, target_modules=TARGETS[family])
    sequences = [random_tokens(7, VOCABULARY, 0), random_tokens(4, VOCABULARY, 1)]

    def work(group: ThreadGroup) -> list[torch.Tensor]:
        runner = ModelRunner(RunnerConfig(path=str(base), pages=8, threads=1), group)
        runner.load_adapter(0, str(folder), most_rank=8)
        driver = PagedDriver(runner)
        batch = driver.plan(list(enumerate(sequences)))
        object.__setattr__(batch, "adapters", np.array([0, -1], np.int32))
        logits = runner.run(batch).clone()
        return list(torch.split(logits, [7, 4])) if group.rank == 0 else []

    with_adapter, without = together(2, work)[0]
    torch.testing.assert_close(with_adapter, dense(base, folder, sequences[0]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(without, dense(base, None, sequences[1]), atol=1e-4, rtol=1e-4)


def test_a_row_does_not_depend_on_who_has_its_adapter(family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Bit by bit: alone, beside others of the same adapter, beside others of another."""
    base = family_folder("llama")
    folder = adapter(base, tmp_path, 0, target_modules=TARGETS["llama"])
    runner = ModelRunner(RunnerConfig(path=str(base), pages=16, threads=1))
    for slot in (0, 1):
        runner.load_adapter(slot, str(folder), most_rank=8)
    sequences = [random_tokens(length, VOCABULARY, seed) for seed, length in enumerate((9, 5, 12, 3, 2))]
    (alone,) = mixed_batch(runner, sequences[:1], [0])
    for slots in ([0, 0, 0, 0, 0], [0, 1, 1, -1, 0]):
        assert torch.equal(mixed_batch(runner, sequences, slots)[0], alone)


def test_a_slot_can_be_emptied_and_filled_again(family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    base = family_folder("llama")
    folders = [adapter(base, tmp_path / str(s), s, target_modules=["q_proj"]) for s in range(2)]
    tokens = random_tokens(6, VOCABULARY, 0)
    runner = ModelRunner(RunnerConfig(path=str(base), pages=8, threads=1))
    for folder in folders:
        runner.load_adapter(0, str(folder), most_rank=8)
        (got,) = mixed_batch(runner, [tokens], [0])
        torch.testing.assert_close(got, dense(base, folder, tokens), atol=1e-4, rtol=1e-4)
        runner.unload_adapter(0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"peft_type": "IA3"}, "no LoRA adapter"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"something_new": 1}, "something_new"),
    ],
)
def test_what_is_not_plain_lora_is_refused_by_field(
    changes: dict[str, Any], says: str, family_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """An adapter that computes something else must not be served as if it did not."""
    base = family_folder("llama")
    folder = adapter(base, tmp_path, 0, target_modules=["q_proj"])
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}), "utf-8")
    runner = ModelRunner(RunnerConfig(path=str(base), pages=8, threads=1))
    with pytest.raises(UnsupportedModel, match=says):
        runner.load_adapter(0, str(folder), most_rank=8)


def test_matrices_that_do_not_fit_are_refused(family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """By the layer's name; rank, size, an unknown layer, a missing half, a missing file."""
    base = family_folder("llama")
    folder = adapter(base, tmp_path, 0, target_modules=["q_proj"])
    runner = ModelRunner(RunnerConfig(path=str(base), pages=8, threads=1))
    with pytest.raises(UnsupportedModel, match=r"rank 4 at model\.layers\.\d\.self_attn\.q_proj; the server takes 2"):
        runner.load_adapter(0, str(folder), most_rank=2)
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    for changed, problem, says in [
        ({**tensors, name: torch.zeros(4, 5)}, BrokenModel, "do not fit this model"),
        ({**tensors, name.replace("q_proj", "x_proj"): tensors[name].clone()}, BrokenModel, r"lacks half of .*x_proj"),
        ({name: tensors[name]}, BrokenModel, "lacks half"),
        ({**tensors, name: tensors[name] / 0}, BrokenModel, r"layers\.0\.self_attn\.q_proj hold infinity"),
        (
            {k.replace("q_proj", "x_proj"): v for k, v in tensors.items()},
            UnsupportedModel,
            "x_proj, which is no linear",
        ),
        ({**tensors, "base_model.model.lm_head.weight": torch.zeros(2)}, UnsupportedModel, r"lm_head\.weight"),
    ]:
        save_file(changed, file)
        with pytest.raises(problem, match=says):
            runner.load_adapter(0, str(folder), most_rank=8)
    file.unlink()
    with pytest.raises(BrokenModel, match=r"adapter_model\.safetensors"):
        runner.load_adapter(0, str(folder), most_rank=8)
