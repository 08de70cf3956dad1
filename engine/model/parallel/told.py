"""transformers' own tensor-parallel plans, told in ours.

What it is for: a family that `plans` has no entry for may say itself which of its layers are divided by outputs and
which by inputs (`base_model_tp_plan`). What may not enter: styles that need more than a cut and a sum; those are
refused by name.

The idea: transformers' words leave out what heads are: it divides a projection's outputs as evenly as can be. Here
queries are cut by heads, and keys and values by theirs, several ranks holding the same where there are fewer of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from transformers import PretrainedConfig

from engine.model.errors import UnsupportedModel
from engine.model.parallel.division import even, even_halves, heads, kv_heads
from engine.model.parallel.rules import COUNTED, EXPERTS, WORDS, Plan, by_inputs, by_outputs

_NOTHING = frozenset({"replicated_with_grad_allreduce", "replicate", "embedding_rowwise", "moe_tp_experts"})

_VOCABULARY = frozenset({"embed_tokens", "lm_head", "model.embed_tokens"})  # divided by rows, whatever they say


def told_plan(config: PretrainedConfig) -> Plan | None:
    """The plan of a family that brings one; None where it does not. Raises UnsupportedModel, naming the style."""
    told: Mapping[str, str] = getattr(config, "base_model_tp_plan", None) or {}
    if not any("self_attn" in name for name in told):
        return None
    plan = WORDS + COUNTED
    for name, style in told.items():
        plan += _told_rule(config, name, style)
    return plan


def _told_rule(config: PretrainedConfig, name: str, style: str) -> Plan:
    """`name`: a layer's, with stars for numbers."""
    if style in _NOTHING or name in _VOCABULARY:
        return Plan()
    *_, parent, leaf = ("", *name.split("."))
    layer = re.escape(f"{parent}.{leaf}")
    if parent == "experts" and style in {"packed_colwise", "rowwise"}:
        return EXPERTS
    if parent == "self_attn" and (style, leaf) in {("colwise", "q_proj"), ("colwise", "k_proj"), ("colwise", "v_proj")}:
        return by_outputs(layer, heads if leaf == "q_proj" else kv_heads)
    if leaf == "gate_up_proj" and style == "colwise_gather_output":  # gate above up: theirs is whole again behind it
        return by_outputs(layer, even_halves)
    if parent != "self_attn" and style == "colwise":
        return by_outputs(layer, even)
    if style == "rowwise" or (style == "rowwise_split_input" and parent != "self_attn"):
        return by_inputs(layer, heads if parent == "self_attn" else even)
    raise UnsupportedModel(f"{config.model_type} is not served by several ranks: its {name} is divided as {style}")
