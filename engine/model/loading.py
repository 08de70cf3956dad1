"""From a folder or hub id to a transformers causal LM with our attention, or a reason why not.

What it is for: everything that is decided before weights are read (what is refused, by name) and the one call that
reads them. What may not enter: remote code (never run, whatever a config asks for), pickled weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PretrainedConfig, PreTrainedModel

from engine.model.adapters import ADAPTED_TYPES
from engine.model.attention import ATTENTION_NAME, register_attention
from engine.model.errors import BrokenModel, UnsupportedModel

_CODE_KEYS = ("auto_map", "_attn_implementation_internal", "_experts_implementation_internal")


def load_config(path: str, revision: str | None = None) -> PretrainedConfig:
    """The configuration, checked: raises what stops this model from being served."""
    raw = _raw_config(path, revision)
    _refuse_code(raw)
    config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
    return cast("PretrainedConfig", config)


def load_model(path: str, config: PretrainedConfig, dtype: torch.dtype, revision: str | None = None) -> PreTrainedModel:
    """The model in evaluation mode on the CPU, attention replaced by ours."""
    register_attention()
    model = AutoModelForCausalLM.from_pretrained(
        path,
        config=config,
        revision=revision,
        dtype=dtype,
        attn_implementation="eager" if config.model_type in ADAPTED_TYPES else ATTENTION_NAME,
        use_safetensors=True,
        trust_remote_code=False,
    )
    return cast("PreTrainedModel", model.eval().requires_grad_(False))


def eos_token_ids(model: PreTrainedModel) -> list[int]:
    """The ids that end a text: the generation config's and the config's, ascending, without repeats."""
    found: set[int] = set()
    generation: GenerationConfig | None = model.generation_config
    for source in (generation, model.config):
        value = getattr(source, "eos_token_id", None)
        found.update([value] if isinstance(value, int) else value or [])
    return sorted(found)


def max_positions(config: PretrainedConfig) -> int:
    """The longest text, prompt and output together, that the model was made for."""
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    raise BrokenModel(f"config.json of a {config.model_type} model states no max_position_embeddings")


def _raw_config(path: str, revision: str | None) -> dict[str, Any]:
    folder = Path(path)
    if folder.is_dir():
        file = folder / "config.json"
        if not file.is_file():
            raise BrokenModel(f"{folder} has no config.json")
    else:
        raise BrokenModel(f"{path} is not a folder")
    data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return data


def _refuse_code(raw: dict[str, Any]) -> None:
    for key in _CODE_KEYS:
        if key in raw:
            raise UnsupportedModel(f"config.json has {key}, which names code to run; Formwork runs none from a model")
