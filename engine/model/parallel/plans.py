"""How each family is divided among ranks.

What it is for: a table by family; docs/models.md says what is divided. A family without an entry is divided as
transformers says, where it does (`told`). What may not enter: the doing of it (`shares`).
"""

from __future__ import annotations

from collections.abc import Mapping

from transformers import PretrainedConfig

from engine.model.errors import UnsupportedModel
from engine.model.parallel.division import (
    Division,
    even,
    even_halves,
    even_pairs,
    grouped,
    heads,
    kv_heads,
    once,
    stacked,
)
from engine.model.parallel.rules import COUNTED, EXPERTS, WORDS, Plan, Rule, by_inputs, by_outputs
from engine.model.parallel.told import told_plan

_ATTENTION = (
    by_outputs(r"self_attn\.q_proj", heads)
    + by_outputs(r"self_attn\.[kv]_proj", kv_heads)
    + by_inputs(r"self_attn\.(?:o_proj|out_proj|dense)", heads)
)
_GATED = by_outputs(r"(?:mlp|shared_experts?)\.(?:gate|up)_proj", even) + by_inputs(
    r"(?:mlp|shared_experts?)\.down_proj", even
)
_PLAIN = by_outputs(r"mlp\.(?:fc1|c_fc)|fc1", even) + by_inputs(r"mlp\.(?:fc2|c_proj)|fc2", even)
_LLAMA = WORDS + _ATTENTION + _GATED
_MIXTURE = _LLAMA + EXPERTS
_FUSED_HEADS = (
    by_outputs(r"(?:attention|self_attention)\.query_key_value", heads)
    + by_inputs(r"(?:attention|self_attention)\.dense", heads)
    + by_outputs(r"mlp\.dense_h_to_4h", even)
    + by_inputs(r"mlp\.dense_4h_to_h", even)
)
_NORMED = Plan((Rule(r"self_attn\.q_norm\.weight", 0, heads), Rule(r"self_attn\.k_norm\.weight", 0, kv_heads)))

_PLANS: Mapping[str, Plan] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "granite", "cohere2"), _LLAMA),
    **dict.fromkeys(("mixtral", "qwen2_moe", "qwen3_moe"), _MIXTURE),
    "cohere": _LLAMA + _NORMED,
    **dict.fromkeys(("olmo2", "olmo3"), _LLAMA + _NORMED + Plan(norms=(r"self_attn\.[qk]_norm",))),
    "stablelm": _LLAMA
    + COUNTED
    + Plan(lists={r"self_attn\.q_layernorm\.norms": "heads", r"self_attn\.k_layernorm\.norms": "kv_heads"}),
    "phi": WORDS + _ATTENTION + _PLAIN,
    "starcoder2": WORDS + _ATTENTION + _PLAIN,
    "opt": WORDS + _ATTENTION + _PLAIN + COUNTED,
    "phi3": WORDS
    + by_outputs(r"self_attn\.qkv_proj", stacked)
    + by_inputs(r"self_attn\.o_proj", heads)
    + by_outputs(r"mlp\.gate_up_proj", even_halves)
    + by_inputs(r"mlp\.down_proj", even)
    + Plan(attributes={"num_key_value_heads": "kv_heads", "config.num_attention_heads": "heads"}),
    "deepseek_v3": _MIXTURE
    + by_outputs(r"self_attn\.(?:q_b_proj|kv_b_proj)", heads)
    + Plan(attributes={"num_heads": "heads"}),
    "gpt_oss": WORDS
    + _ATTENTION
    + Plan(
        (
            Rule(r"self_attn\.sinks", 0, heads),
            # (experts, hidden, 2 · width), interleaved, and (experts, width, hidden)
            Rule(r"experts\.gate_up_proj", 2, even_pairs),
            Rule(r"experts\.gate_up_proj_bias", 1, even_pairs),
            Rule(r"experts\.down_proj", 1, even),
            Rule(r"experts\.down_proj_bias", 1, once),
        ),
        sums=(r"mlp\.experts",),
    )
    # as MXFP4 stands for them, one by one
    + by_outputs(r"experts\.\d+\.gate_up_proj", even_pairs)
    + by_inputs(r"experts\.\d+\.down_proj", even),
    "gpt2": WORDS
    + by_outputs(r"attn\.c_attn", stacked, transposed=True)
    + by_inputs(r"attn\.c_proj", heads, transposed=True)
    + by_outputs(r"mlp\.c_fc", even, transposed=True)
    + by_inputs(r"mlp\.c_proj", even, transposed=True)
    + Plan(attributes={"num_heads": "heads", "embed_dim": "part", "split_size": "part"}),
    "gpt_neox": WORDS + _FUSED_HEADS,
    "bloom": WORDS + _FUSED_HEADS + Plan(attributes={"num_heads": "heads"}),
    "gptj": WORDS
    + by_outputs(r"attn\.[qkv]_proj", heads)
    + by_inputs(r"attn\.out_proj", heads)
    + by_outputs(r"mlp\.fc_in", even)
    + by_inputs(r"mlp\.fc_out", even)
    + Plan(attributes={"num_attention_heads": "heads"}),
    "mpt": WORDS
    + by_outputs(r"attn\.Wqkv", stacked)
    + by_inputs(r"attn\.out_proj", heads)
    + by_outputs(r"ffn\.up_proj", even)
    + by_inputs(r"ffn\.down_proj", even)
    + Plan(attributes={"n_heads": "heads"}),
}

_FALCON = WORDS + _FUSED_HEADS + Plan(attributes={"num_heads": "heads", "num_kv_heads": "kv_heads"})
_BIGCODE = (
    WORDS
    + by_inputs(r"attn\.c_proj", heads)
    + _PLAIN
    + Plan(attributes={"num_heads": "heads", "kv_heads": "kv_heads", "embed_dim": "part"})
)

PARALLEL_TYPES = frozenset({*_PLANS, "falcon", "gpt_bigcode"})


def plan_of(config: PretrainedConfig) -> Plan:
    """The family's plan, ours or its own. Raises UnsupportedModel for a family without one."""
    kind = config.model_type
    if kind == "falcon":
        return _falcon_plan(config)
    if kind == "gpt_bigcode":
        cut = stacked if config.multi_query else heads
        kv_dim: Plan = Plan(attributes={} if config.multi_query else {"kv_dim": "part"})
        return by_outputs(r"attn\.c_attn", cut) + _BIGCODE + kv_dim
    plan = _PLANS.get(kind) or told_plan(config)
    if plan is None:
        raise UnsupportedModel(f"{kind} is not served by several ranks; served: {', '.join(sorted(PARALLEL_TYPES))}")
    return plan


def divide(config: PretrainedConfig, rank: int, ranks: int) -> Division:
    """A rank's part of the heads of a model."""
    return Division(rank, ranks, config.num_attention_heads, _kv_heads(config))


def _falcon_plan(config: PretrainedConfig) -> Plan:
    if config.new_decoder_architecture:
        return by_outputs(r"self_attention\.query_key_value", grouped) + _FALCON
    if config.multi_query:
        return by_outputs(r"self_attention\.query_key_value", stacked) + _FALCON
    return _FALCON


def _kv_heads(config: PretrainedConfig) -> int:
    kind = config.model_type
    if kind == "falcon":
        if config.new_decoder_architecture:
            return int(config.num_kv_heads)
        return 1 if config.multi_query else int(config.num_attention_heads)
    if kind == "gpt_bigcode":
        return 1 if config.multi_query else int(config.num_attention_heads)
    if kind == "deepseek_v3":  # keys and values are made from the latent, for each head its own
        return int(config.num_attention_heads)
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
