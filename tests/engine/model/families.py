"""Every served family as a configuration of a few thousand parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel

VOCABULARY = 101
POSITIONS = 96

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_COMMON, "num_key_value_heads": 2}
_GPT2_NAMES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": POSITIONS,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

# name: (configuration class without "Config", its arguments)
_FAMILIES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", _GROUPED),
    "llama3_rope": (
        "Llama",
        {
            **_GROUPED,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
    ),
    "mistral": ("Mistral", {**_GROUPED, "sliding_window": 7}),
    "mixtral": ("Mixtral", {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}),
    "qwen2": ("Qwen2", _GROUPED),
    "qwen2_sliding": (
        "Qwen2",
        {**_GROUPED, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "qwen2_moe": (
        "Qwen2Moe",
        {
            **_GROUPED,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 40,
        },
    ),
    "qwen3": ("Qwen3", {**_GROUPED, "head_dim": 12}),
    "qwen3_moe": (
        "Qwen3Moe",
        {**_GROUPED, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
    ),
    "gemma2": (
        "Gemma2",
        {
            **_GROUPED,
            "head_dim": 8,
            "sliding_window": 6,
            "query_pre_attn_scalar": 16,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma3": (
        "Gemma3Text",
        {
            **_GROUPED,
            "head_dim": 8,
            "sliding_window": 6,
            "query_pre_attn_scalar": 16,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "phi": ("Phi", {**_GROUPED, "partial_rotary_factor": 0.5}),
    "phi3": ("Phi3", {**_GROUPED, "sliding_window": 9}),
    "gpt2": ("GPT2", _GPT2_NAMES),
    "gpt2_inverse_layer": (
        "GPT2",
        {**_GPT2_NAMES, "scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
    ),
    "gpt_neox": ("GPTNeoX", {**_COMMON, "rotary_pct": 0.5}),
    "gptj": ("GPTJ", {**_GPT2_NAMES, "rotary_dim": 4}),
    "gpt_bigcode": ("GPTBigCode", {**_GPT2_NAMES, "multi_query": True}),
    "gpt_bigcode_multi_head": ("GPTBigCode", {**_GPT2_NAMES, "multi_query": False}),
    "starcoder2": ("Starcoder2", {**_GROUPED, "sliding_window": 7}),
    "falcon_rotary": ("Falcon", {**_COMMON, "alibi": False, "multi_query": True, "new_decoder_architecture": False}),
    "falcon_grouped": ("Falcon", {**_COMMON, "alibi": False, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon_alibi": (
        "Falcon",
        {**_COMMON, "alibi": True, "multi_query": False, "new_decoder_architecture": False, "parallel_attn": False},
    ),
    "bloom": (
        "Bloom",
        {"vocab_size": VOCABULARY, "hidden_size": 36, "n_layer": 2, "n_head": 6, "seq_length": POSITIONS},
    ),
    "mpt": (
        "Mpt",
        {
            "vocab_size": VOCABULARY,
            "d_model": 36,
            "n_layers": 2,
            "n_heads": 6,
            "max_seq_len": POSITIONS,
            "attn_config": {"clip_qkv": 0.5},
        },
    ),
    "opt": ("OPT", {**_COMMON, "ffn_dim": 48, "word_embed_proj_dim": 24}),
    "cohere": ("Cohere", {**_GROUPED, "use_qk_norm": True, "logit_scale": 1.0}),
    "cohere2": (
        "Cohere2",
        {**_GROUPED, "logit_scale": 1.0, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "olmo2": ("Olmo2", _GROUPED),
    "olmo3": (
        "Olmo3",
        {**_GROUPED, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "granite": (
        "Granite",
        {
            **_GROUPED,
            "attention_multiplier": 0.2,
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.4,
            "logits_scaling": 2.0,
        },
    ),
    "stablelm": ("StableLm", {**_GROUPED, "partial_rotary_factor": 0.5, "use_qkv_bias": True}),
    "stablelm_head_norms": ("StableLm", {**_GROUPED, "qk_layernorm": True}),
    "deepseek_v3": (
        "DeepseekV3",
        {
            **_COMMON,
            "num_key_value_heads": 4,
            "moe_intermediate_size": 16,
            "n_routed_experts": 32,  # torch's sigmoid over fewer is not computed row by row
            "num_experts_per_tok": 4,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "q_lora_rank": 16,
            "kv_lora_rank": 12,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 4,
            "v_head_dim": 6,
        },
    ),
    "gpt_oss": (
        "GptOss",
        {
            **_GROUPED,
            "head_dim": 8,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
}

FAMILY_NAMES = tuple(_FAMILIES)


def build_family(name: str) -> PreTrainedModel:
    """The family's model with random weights, drawn wide enough that attention is far from uniform."""
    kind, arguments = _FAMILIES[name]
    config: PretrainedConfig = getattr(transformers, f"{kind}Config")(**arguments)
    config.initializer_range = 0.3
    transformers.set_seed(7)
    model: Any = transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    for parameter_name, parameter in model.named_parameters():
        if ".norms." in parameter_name:  # one a head: they must not be taken for each other
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    built: PreTrainedModel = model.eval()
    return built
