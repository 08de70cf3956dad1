"""From a folder or hub id to a transformers causal LM with our attention, or a reason why not.

What it is for: the one call that reads weights, and what a model says about itself (length, end tokens, dtype). What
may not enter: remote code (unless the operator trusts this model's), pickled weights, files outside the model's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PretrainedConfig, PreTrainedModel

from engine.model.adapters import attention_name
from engine.model.attention import register_attention
from engine.model.config import DtypeName
from engine.model.errors import BrokenModel, UnsupportedModel
from engine.model.refusals import refuse_code, refuse_kind, rope_types


def load_config(path: str, revision: str | None = None, *, trust: bool = False) -> PretrainedConfig:
    """The configuration, checked: raises what stops this model from being served. `trust`: run the code it names."""
    if Path(path).is_dir():
        _refuse_links(Path(path))
    try:
        raw, _ = PretrainedConfig.get_config_dict(path, revision=revision)
        if "model_type" not in raw:
            raise BrokenModel(f"config.json of {path} states no model_type")
        refuse_code(raw, trust=trust)
        config: PretrainedConfig = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=trust)
    except (OSError, ValueError) as error:
        raise BrokenModel(f"cannot read the configuration of {path}: {error}") from error
    refuse_kind(config, own_code=trust and "AutoModelForCausalLM" in (raw.get("auto_map") or {}))
    return config


def load_model(
    path: str,
    config: PretrainedConfig,
    dtype: torch.dtype,
    revision: str | None = None,
    *,
    trust: bool = False,
    quantization: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """The model in evaluation mode on the CPU, attention replaced by ours; transformers shows the progress bar.

    `quantization`: what else to tell `from_pretrained`, where a package quantizes while it loads, or has.
    """
    register_attention()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            revision=revision,
            dtype=dtype,
            attn_implementation=attention_name(config),
            use_safetensors=True,
            trust_remote_code=trust,
            output_loading_info=True,
            **(quantization or {}),
        )
    except (OSError, ValueError, KeyError) as error:
        raise BrokenModel(f"cannot load {path} (weights must be safetensors): {error}") from error
    model, report = loaded
    refuse_incomplete(path, report)
    return cast("PreTrainedModel", model.eval().requires_grad_(False))


def refuse_incomplete(path: str, report: Mapping[str, Any]) -> None:
    """Raises BrokenModel where transformers' loading report has parameters that got no weights, or others'."""
    lacking = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))
    if lacking:
        raise BrokenModel(f"the checkpoint of {path} lacks {len(lacking)} weights, {lacking[0]} first")


def choose_dtype(name: DtypeName, config: PretrainedConfig, device: torch.device) -> torch.dtype:
    """auto is float32 on a CPU (exact, and quick enough for the models that suit one), the checkpoint's on CUDA."""
    if name == "auto":
        own = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
        return own if device.type == "cuda" else torch.float32
    if name == "float16" and device.type == "cpu":
        raise UnsupportedModel("dtype float16 is not served on a CPU, which computes it in software; use bfloat16")
    return cast("torch.dtype", getattr(torch, name))


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
    if "longrope" in rope_types(config):
        # Beyond the original length transformers changes every position's frequencies, which cached keys cannot follow.
        return int(config.rope_parameters["original_max_position_embeddings"])
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    raise BrokenModel(f"config.json of this {config.model_type} model states no max_position_embeddings")


def _refuse_links(folder: Path) -> None:
    """A link may lead to the hub cache's own blobs, nowhere else."""
    home = folder.resolve()
    allowed = [home, *([home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [])]
    for file in folder.iterdir():
        if file.is_symlink() and not any(file.resolve().is_relative_to(place) for place in allowed):
            raise BrokenModel(f"{file} is a link out of the model's folder")
