"""How each family is divided among ranks.

What it is for: a table of tensors and modules by name; docs/models.md says what is divided. What may not enter: the
doing of it (`shares`).

The idea: names are those that checkpoints use and those that the modelling code uses (transformers fuses experts while
it loads), matched from their end. What no rule names is held whole by every rank: norms, routers, positions, low-rank
projections of latent attention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from transformers import PretrainedConfig

from engine.model.errors import UnsupportedModel
from engine.model.parallel.division import (
    Cut,
    Division,
    Span,
    even,
    even_halves,
    even_pairs,
    grouped,
    heads,
    kv_heads,
    once,
    stacked,
    vocabulary,
)

Count = Literal["heads", "kv_heads", "part"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A tensor whose name ends like `pattern` is cut in dimension `dim`."""

    pattern: str
    dim: int
    cut: Cut


@dataclass(frozen=True, slots=True)
class Plan:
    """What is divided, what is added up, and what attention modules must be told about it."""

    rules: tuple[Rule, ...] = ()
    sums: tuple[str, ...] = ()  # modules whose outputs are summands
    norms: tuple[str, ...] = ()  # root-mean-square norms over all heads
    lists: Mapping[str, Count] = field(default_factory=dict)  # modules that list one for each head
    # Attributes of attention modules: numbers of this rank's heads, or numbers of which a rank has its part.
    attributes: Mapping[str, Count] = field(default_factory=dict)

    def __add__(self, other: Plan) -> Plan:
        return Plan(
            self.rules + other.rules,
            self.sums + other.sums,
            self.norms + other.norms,
            {**self.lists, **other.lists},
            {**self.attributes, **other.attributes},
        )

    def rule(self, name: str) -> Rule | None:
        """The rule for a tensor, if it is divided."""
        return next((rule for rule in self.rules if re.search(rf"(^|\.)(?:{rule.pattern})$", name)), None)

    def cut_of(self, layer: str, *, by: Literal["outputs", "inputs"]) -> Cut | None:
        """How a linear layer is cut on one side, if it is: its bias is cut with its outputs, or added once."""
        weight, bias = self.rule(f"{layer}.weight"), self.rule(f"{layer}.bias")
        if weight is None or bias is None or (bias.cut is weight.cut) != (by == "outputs"):
            return None
        return weight.cut

    def is_sum(self, name: str) -> bool:
        """Are a module's outputs summands?"""
        return any(re.search(rf"(^|\.)(?:{pattern})$", name) for pattern in self.sums)

    def is_shared_norm(self, name: str) -> bool:
        """Does a module normalise over what is divided?"""
        return any(re.search(rf"(^|\.)(?:{pattern})$", name) for pattern in self.norms)

    def own_of(self, name: str, division: Division) -> Span | None:
        """Which modules of a list are this rank's, if it lists one for each head."""
        counts = (count for pattern, count in self.lists.items() if re.search(rf"(^|\.)(?:{pattern})$", name))
        return next((division.queries if count == "heads" else division.keys for count in counts), None)


def by_outputs(names: str, cut: Cut, *, transposed: bool = False) -> Plan:
    """Linear layers of which each rank computes some outputs; `transposed` for weights (in, out)."""
    return Plan((Rule(rf"(?:{names})\.weight", int(transposed), cut), Rule(rf"(?:{names})\.bias", 0, cut)))


def by_inputs(names: str, cut: Cut, *, transposed: bool = False) -> Plan:
    """Linear layers that see some inputs on each rank; their outputs are summands, the bias is added once."""
    rules = Rule(rf"(?:{names})\.weight", 1 - int(transposed), cut), Rule(rf"(?:{names})\.bias", 0, once)
    return Plan(rules, sums=(names,))


_WORDS = Plan(
    (
        Rule(r"(?:embed_tokens|embed_in|wte|word_embeddings|lm_head|embed_out)\.weight", 0, vocabulary),
        Rule(r"(?:lm_head|embed_out)\.bias", 0, vocabulary),
    )
)
_ATTENTION = (
    by_outputs(r"self_attn\.q_proj", heads)
    + by_outputs(r"self_attn\.[kv]_proj", kv_heads)
    + by_inputs(r"self_attn\.(?:o_proj|out_proj|dense)", heads)
)
_GATED = by_outputs(r"(?:mlp|shared_experts?)\.(?:gate|up)_proj", even) + by_inputs(
    r"(?:mlp|shared_experts?)\.down_proj", even
)
_PLAIN = by_outputs(r"mlp\.(?:fc1|c_fc)|fc1", even) + by_inputs(r"mlp\.(?:fc2|c_proj)|fc2", even)
_EXPERTS = (
    # as transformers holds them: (experts, 2 · width, hidden) and (experts, hidden, width)
    Plan(
        (Rule(r"experts\.gate_up_proj", 1, even_halves), Rule(r"experts\.down_proj", 2, even)),
        sums=(r"mlp\.experts|block_sparse_moe\.experts",),
    )
    # as checkpoints do, each by itself
    + by_outputs(r"experts\.\d+\.(?:gate_proj|up_proj|w1|w3)", even)
    + by_inputs(r"experts\.\d+\.(?:down_proj|w2)", even)
)
_LLAMA = _WORDS + _ATTENTION + _GATED
_MIXTURE = _LLAMA + _EXPERTS
_FUSED_HEADS = (
    by_outputs(r"(?:attention|self_attention)\.query_key_value", heads)
    + by_inputs(r"(?:attention|self_attention)\.dense", heads)
    + by_outputs(r"mlp\.dense_h_to_4h", even)
    + by_inputs(r"mlp\.dense_4h_to_h", even)
)
_COUNTED = Plan(attributes={"num_heads": "heads", "num_key_value_heads": "kv_heads"})

_PLANS: Mapping[str, Plan] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "granite", "cohere2"), _LLAMA),
    **dict.fromkeys(("mixtral", "qwen2_moe", "qwen3_moe"), _MIXTURE),
    "cohere": _LLAMA
    + Plan((Rule(r"self_attn\.q_norm\.weight", 0, heads), Rule(r"self_attn\.k_norm\.weight", 0, kv_heads))),
    "olmo2": _LLAMA
    + Plan(
        (Rule(r"self_attn\.q_norm\.weight", 0, heads), Rule(r"self_attn\.k_norm\.weight", 0, kv_heads)),
        norms=(r"self_attn\.[qk]_norm",),
    ),
    "stablelm": _LLAMA
    + _COUNTED
    + Plan(lists={r"self_attn\.q_layernorm\.norms": "heads", r"self_attn\.k_layernorm\.norms": "kv_heads"}),
    "phi": _WORDS + _ATTENTION + _PLAIN,
    "starcoder2": _WORDS + _ATTENTION + _PLAIN,
    "opt": _WORDS + _ATTENTION + _PLAIN + _COUNTED,
    "phi3": _WORDS
    + by_outputs(r"self_attn\.qkv_proj", stacked)
    + by_inputs(r"self_attn\.o_proj", heads)
    + by_outputs(r"mlp\.gate_up_proj", even_halves)
    + by_inputs(r"mlp\.down_proj", even)
    + Plan(attributes={"num_key_value_heads": "kv_heads", "config.num_attention_heads": "heads"}),
    "deepseek_v3": _MIXTURE
    + by_outputs(r"self_attn\.(?:q_b_proj|kv_b_proj)", heads)
    + Plan(attributes={"num_heads": "heads"}),
    "gpt_oss": _WORDS
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
    "gpt2": _WORDS
    + by_outputs(r"attn\.c_attn", stacked, transposed=True)
    + by_inputs(r"attn\.c_proj", heads, transposed=True)
    + by_outputs(r"mlp\.c_fc", even, transposed=True)
    + by_inputs(r"mlp\.c_proj", even, transposed=True)
    + Plan(attributes={"num_heads": "heads", "embed_dim": "part", "split_size": "part"}),
    "gpt_neox": _WORDS + _FUSED_HEADS,
    "bloom": _WORDS + _FUSED_HEADS + Plan(attributes={"num_heads": "heads"}),
    "gptj": _WORDS
    + by_outputs(r"attn\.[qkv]_proj", heads)
    + by_inputs(r"attn\.out_proj", heads)
    + by_outputs(r"mlp\.fc_in", even)
    + by_inputs(r"mlp\.fc_out", even)
    + Plan(attributes={"num_attention_heads": "heads"}),
    "mpt": _WORDS
    + by_outputs(r"attn\.Wqkv", stacked)
    + by_inputs(r"attn\.out_proj", heads)
    + by_outputs(r"ffn\.up_proj", even)
    + by_inputs(r"ffn\.down_proj", even)
    + Plan(attributes={"n_heads": "heads"}),
}

_FALCON = _WORDS + _FUSED_HEADS + Plan(attributes={"num_heads": "heads", "num_kv_heads": "kv_heads"})
_BIGCODE = (
    _WORDS
    + by_inputs(r"attn\.c_proj", heads)
    + _PLAIN
    + Plan(attributes={"num_heads": "heads", "kv_heads": "kv_heads", "embed_dim": "part"})
)

PARALLEL_TYPES = frozenset({*_PLANS, "falcon", "gpt_bigcode"})


def plan_of(config: PretrainedConfig) -> Plan:
    """The family's plan. Raises UnsupportedModel for a family without one."""
    kind = config.model_type
    if kind == "falcon":
        return _falcon_plan(config)
    if kind == "gpt_bigcode":
        cut = stacked if config.multi_query else heads
        kv_dim: Plan = Plan(attributes={} if config.multi_query else {"kv_dim": "part"})
        return by_outputs(r"attn\.c_attn", cut) + _BIGCODE + kv_dim
    if kind not in _PLANS:
        raise UnsupportedModel(f"{kind} is not served by several ranks; served: {', '.join(sorted(PARALLEL_TYPES))}")
    return _PLANS[kind]


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
