"""Plans that transformers tells: families without one of ours are divided by it, and ours say nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, PretrainedConfig

from engine.model import ModelRunner, RunnerConfig
from engine.model.errors import UnsupportedModel
from engine.model.loading import load_config
from engine.model.parallel import PARALLEL_TYPES, plan_of
from tests.engine.model.families import FAMILY_NAMES, VOCABULARY
from tests.engine.model.paged import PagedDriver, random_tokens
from tests.engine.model.parallel.threads import ThreadGroup, load_in_turns, together
from tests.oracles.dense_logits import dense_logits

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# No entry of ours: gates, none, side by side; norms of each head; experts.
_OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "arcee": ("Arcee", {}),
    "smollm3": ("SmolLM3", {}),
    "glm4": ("Glm4", {"head_dim": 8}),
    "seed_oss": ("SeedOss", {"head_dim": 8}),
    "exaone4": ("Exaone4", {"sliding_window": 6, "sliding_window_pattern": 2}),
    "ernie4_5": ("Ernie4_5", {"head_dim": 8}),
}


def config_of(kind: str, **settings: Any) -> PretrainedConfig:
    made: PretrainedConfig = getattr(transformers, f"{kind}Config")(**{**_SIZES, **settings})
    made.initializer_range = 0.3
    return made


@pytest.mark.parametrize("family", _OTHERS)
def test_a_family_is_divided_as_transformers_says(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 1e-4 from transformers' own forward pass."""
    load_in_turns(monkeypatch)
    assert family not in PARALLEL_TYPES
    kind, settings = _OTHERS[family]
    transformers.set_seed(7)
    AutoModelForCausalLM.from_config(config_of(kind, **settings)).save_pretrained(tmp_path)  # type: ignore[no-untyped-call]
    tokens = random_tokens(21, VOCABULARY, 0)

    def work(group: ThreadGroup) -> torch.Tensor:
        runner = ModelRunner(RunnerConfig(path=str(tmp_path), device="cpu", pages=8, threads=1), group)
        driver = PagedDriver(runner)
        made = [runner.run(driver.plan([(0, part)])).clone() for part in (tokens[:13], tokens[13:])]
        return torch.cat(made) if group.rank == 0 else torch.empty(0)

    (want,) = dense_logits(tmp_path, [tokens], family)
    torch.testing.assert_close(together(2, work)[0], want, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_our_plans_divide_what_theirs_do(family: str, family_folder: Callable[[str], Path]) -> None:
    """Where transformers cuts a layer's outputs or inputs without gathering them again, so do we."""
    config = load_config(str(family_folder(family)))
    plan = plan_of(config)
    for name, style in (getattr(config, "base_model_tp_plan", None) or {}).items():
        layer = name.replace("*", "0")
        if not layer.startswith(("layers.", "h.")):  # the vocabulary, which some versions name
            continue
        if style in {"colwise", "rowwise"} and ".experts." not in name:
            assert plan.cut_of(layer, by="outputs" if style == "colwise" else "inputs") is not None, name
            assert plan.is_sum(layer) == (style == "rowwise"), name
        elif ".experts." in name and style in {"packed_colwise", "rowwise"}:
            assert plan.rule(layer) is not None, name


def test_a_style_that_is_more_than_a_cut_is_refused_by_name() -> None:
    """The norm of all heads at once, say, which transformers gathers them for."""
    config: Any = config_of("Llama")
    config.model_type = "unheard_of"
    config.base_model_tp_plan = {"layers.*.self_attn.q_proj": "colwise_gather_output"}
    with pytest.raises(UnsupportedModel, match=r"unheard_of .*q_proj is divided as colwise_gather_output"):
        plan_of(config)
    config.base_model_tp_plan = {"layers.*.self_attn.q_proj": "colwise", "lm_head": "colwise", "strange": "rowwise_2"}
    with pytest.raises(UnsupportedModel, match="its strange is divided as rowwise_2"):
        plan_of(config)
