"""What is not served, by name, read from the configuration before any weight is.

What it is for: one list of checks, each a sentence that names what was found and what would do instead; docs/models.md
tells the same list. What may not enter: anything that needs the weights (`runner` has the last word on those).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from engine.model.errors import UnsupportedModel

_OWN_CODE = "auto_map"  # Python files beside the weights
_CODE_KEYS = frozenset({_OWN_CODE, "_attn_implementation_internal", "_experts_implementation_internal"})
_STATE_TYPES = frozenset(
    {"bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "lfm2", "lfm2_moe", "mamba", "mamba2"}
    | {"minimax", "nemotron_h", "qwen3_next", "recurrent_gemma", "rwkv", "xlstm", "zamba", "zamba2"}
)
_BIDIRECTIONAL = frozenset(
    {"bert", "camembert", "electra", "ernie", "megatron-bert", "rembert", "roberta", "xlm-roberta"}
)
_LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})
_ROPE_TYPES = frozenset({"default", "linear", "llama3", "yarn", "longrope", "proportional"})
_OTHER_SENSES = ("vision_config", "audio_config", "speech_config", "image_token_id", "vision_tower")


def refuse_code(raw: Mapping[str, Any], *, trust: bool = False) -> None:
    """`raw` is config.json as parsed: nothing in it may name code, at any depth, but with `trust` its own."""
    for path, key in _keys(raw):
        if key == _OWN_CODE and not trust:
            raise UnsupportedModel(
                f"config.json has {path}, which names code to run; none is run unless trust_remote_code is set"
            )
        if key in _CODE_KEYS and key != _OWN_CODE:
            raise UnsupportedModel(f"config.json has {path}, which names code to run from elsewhere; it never is")


def refuse_kind(config: PretrainedConfig, *, own_code: bool = False) -> None:
    """Raises UnsupportedModel for architectures that the runner cannot execute; `own_code` brings its own."""
    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False) or getattr(config, "add_cross_attention", False):
        raise UnsupportedModel(f"{kind} is an encoder-decoder; only decoder-only causal language models are served")
    senses = [name for name in _OTHER_SENSES if getattr(config, name, None) is not None]
    if senses:
        raise UnsupportedModel(f"{kind} takes images or sound ({senses[0]}); only text models are served")
    if kind in _STATE_TYPES:
        raise UnsupportedModel(f"{kind} keeps recurrent state beside the KV cache (state-space or linear attention)")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not own_code:
        raise UnsupportedModel(f"transformers has no causal language model for model_type {kind!r}")
    if getattr(config, "is_decoder", None) is False and kind in _BIDIRECTIONAL:
        raise UnsupportedModel(f"{kind} attends in both directions; only causal models are served")
    _refuse_layers(config)
    refuse_rope(config)


def _refuse_layers(config: PretrainedConfig) -> None:
    odd = set(getattr(config, "layer_types", None) or ()) - _LAYER_TYPES
    if odd:
        raise UnsupportedModel(f"{config.model_type} has layers of type {sorted(odd)}; served: {sorted(_LAYER_TYPES)}")
    prefix = getattr(getattr(config, "attn_config", None), "prefix_lm", False)
    if prefix or getattr(config, "use_bidirectional_attention", False):
        raise UnsupportedModel(f"this {config.model_type} attends in both directions inside the prompt")


def refuse_rope(config: PretrainedConfig) -> None:
    """Rotary embeddings whose frequencies depend on the longest sequence in the batch would mix requests up."""
    for kind in rope_types(config):
        if kind not in _ROPE_TYPES:
            raise UnsupportedModel(
                f"rope_type {kind!r} depends on the batch or is unknown; served: {sorted(_ROPE_TYPES)}"
            )


def rope_types(config: PretrainedConfig) -> set[str]:
    """The rotary variants in use; layer types may each have one."""
    parameters = getattr(config, "rope_parameters", None) or {}
    nested = [p for p in parameters.values() if isinstance(p, dict)] or [parameters]
    return {p["rope_type"] for p in nested if p.get("rope_type")}


def _keys(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield f"{path}/{key}", key
            yield from _keys(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _keys(inner, f"{path}/{index}")
