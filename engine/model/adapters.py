"""Families whose attention modules do not call transformers' attention interface with our step.

What it is for: Falcon, BLOOM, MPT and (before transformers 5.24) GPT-J compute attention in their module, StableLM's
layers do not hand keywords on. All of them do hand on their cache, so the step travels in its place, and a subclass of
the attention module picks it up. What may not enter: weights (a module keeps its own and only changes class), any other
part of a model.

The idea: each class below says how one family makes queries, keys and values, and what it does with the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface
from transformers.models.bloom import modeling_bloom
from transformers.models.falcon import modeling_falcon
from transformers.models.gptj import modeling_gptj
from transformers.models.mpt import modeling_mpt
from transformers.models.stablelm import modeling_stablelm

from engine.model.attention import ATTENTION_NAME, AttentionCall, AttentionStep, paged_attention

ADAPTED_NAME = "formwork_paged_adapted"

# Half typed: the annotations of these modules contradict what they accept.
_bloom: Any = modeling_bloom
_falcon: Any = modeling_falcon
_gptj: Any = modeling_gptj
_mpt: Any = modeling_mpt
_stablelm: Any = modeling_stablelm


class Passenger:
    """A step in the place of the cache: looks empty to the model, carries the attention to the module."""

    def __init__(self, step: AttentionStep) -> None:
        self.step = step

    def get_seq_length(self, *_: Any) -> int:
        """No past: positions are always given."""
        return 0

    def get_query_offset(self, *_: Any) -> int:
        """As above."""
        return 0

    def get_mask_sizes(self, query_length: int, *_: Any) -> tuple[int, int]:
        """The keys of this step only, from the first."""
        return query_length, 0


def passenger_in(arguments: Mapping[str, Any]) -> tuple[str, Passenger]:
    """The passenger, after its name: `past_key_values`, `layer_past` or `cache`, by family and version."""
    return next((name, value) for name, value in arguments.items() if isinstance(value, Passenger))


def all_heads(module: Any, held: int) -> tuple[int, slice]:
    """(heads of the layer, those of them that this module holds): a rank of several has its share."""
    count, (first, last) = getattr(module, "formwork_heads", (held, (0, held)))
    return count, slice(first, last)


def attend(
    module: nn.Module,
    passenger: Passenger,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    slopes: torch.Tensor | None = None,
) -> torch.Tensor:
    """(1, T, heads, dim) three times in, (1, T, heads · dim) out."""
    call = AttentionCall(
        layer=module.layer_idx,  # type: ignore[arg-type]
        query=query[0],
        key=key[0],
        value=value[0],
        scale=scale,
        slopes=slopes,
    )
    return passenger.step.attend(call).flatten(1).unsqueeze(0)


class PagedGPTJAttention(_gptj.GPTJAttention):  # type: ignore[misc]
    """Rotary embedding on the first `rotary_dim` dimensions, interleaved."""

    def forward(
        self, hidden_states: torch.Tensor, *, position_ids: torch.Tensor, **rest: Any
    ) -> tuple[torch.Tensor, None]:
        """As GPTJAttention, over the paged cache."""
        heads = (*hidden_states.shape[:-1], self.num_attention_heads, self.head_dim)
        query = self.q_proj(hidden_states).view(heads)
        key = self.k_proj(hidden_states).view(heads)
        value = self.v_proj(hidden_states).view(heads)
        # The table's rows are picked here rather than by the base class, which would copy the whole table every time.
        sin, cos = self.embed_positions[position_ids].to(key.dtype).chunk(2, dim=-1)
        query, key = self._rotate(query, sin, cos), self._rotate(key, sin, cos)
        out = attend(self, passenger_in(rest)[1], query, key, value, 1.0 / float(self.scale_attn))
        return self.out_proj(out), None

    def _rotate(self, states: torch.Tensor, sin: torch.Tensor, cos: torch.Tensor) -> torch.Tensor:
        width = self.rotary_dim or self.head_dim
        turned = _gptj.apply_rotary_pos_emb(states[..., :width], sin, cos)
        return torch.cat([turned, states[..., width:]], dim=-1)


class PagedFalconAttention(_falcon.FalconAttention):  # type: ignore[misc]
    """Rotary or ALiBi; multi-head, multi-query, or grouped heads laid out group by group."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        alibi: torch.Tensor | None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        **rest: Any,
    ) -> tuple[torch.Tensor, None]:
        """As FalconAttention, over the paged cache, without repeating grouped keys."""
        query, key, value = self._heads(self.query_key_value(hidden_states))
        slopes = None
        if alibi is None:
            cos, sin = position_embeddings
            query, key = _falcon.apply_rotary_pos_emb(query.transpose(1, 2), key.transpose(1, 2), cos, sin)
            query, key = query.transpose(1, 2), key.transpose(1, 2)
        else:
            slopes = self.formwork_slopes
        out = attend(self, passenger_in(rest)[1], query, key, value, self.inv_norm_factor, slopes)
        return self.dense(out), None

    def _heads(self, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if not self.new_decoder_architecture and not self.multi_query:
            query, key, value = self._split_heads(fused)
            return query, key, value
        if not self.new_decoder_architecture:  # the base class picks with a list of indices, a copy from the host
            every = fused.view(*fused.shape[:2], -1, self.head_dim)
            return every[..., :-2, :], every[..., -2:-1, :], every[..., -1:, :]
        grouped = fused.view(*fused.shape[:2], self.num_kv_heads, -1, self.head_dim)
        return grouped[..., :-2, :].flatten(2, 3), grouped[..., -2, :], grouped[..., -1, :]

    def prepare(self) -> None:
        """Keeps the ALiBi slopes, scaled as the scores are (this family scales their sum)."""
        two = torch.ones(1, 2, dtype=torch.long)
        count, own = all_heads(self, self.num_heads)
        slopes = _falcon.build_alibi_tensor(two, count, torch.float32)[own, 0, 1]
        self.register_buffer("formwork_slopes", slopes * self.inv_norm_factor, persistent=False)


class PagedBloomAttention(_bloom.BloomAttention):  # type: ignore[misc]
    """ALiBi, multi-head; the residual is added in here."""

    def forward(self, hidden_states: torch.Tensor, residual: torch.Tensor, **rest: Any) -> tuple[torch.Tensor, None]:
        """As BloomAttention, over the paged cache."""
        fused = self.query_key_value(hidden_states)
        query, key, value = fused.view(*fused.shape[:2], self.num_heads, 3, self.head_dim).unbind(3)
        out = attend(self, passenger_in(rest)[1], query, key, value, self.inv_norm_factor, self.formwork_slopes)
        return self.dense(out) + residual, None

    def prepare(self) -> None:
        """Keeps the ALiBi slopes."""
        two = torch.ones(1, 2, dtype=torch.long)
        count, own = all_heads(self, self.num_heads)
        slopes = _bloom.build_alibi_tensor(two, count, torch.float32)[own, 0, 1]
        self.register_buffer("formwork_slopes", slopes.contiguous(), persistent=False)


class PagedMptAttention(_mpt.MptAttention):  # type: ignore[misc]
    """ALiBi, multi-head, optionally clipped."""

    def forward(self, hidden_states: torch.Tensor, **rest: Any) -> tuple[torch.Tensor, None]:
        """As MptAttention, over the paged cache."""
        fused = self.Wqkv(hidden_states)
        if self.clip_qkv:
            fused = fused.clamp(min=-self.clip_qkv, max=self.clip_qkv)
        query, key, value = fused.view(*fused.shape[:2], 3, self.n_heads, self.head_dim).unbind(2)
        passenger = passenger_in(rest)[1]
        out = attend(self, passenger, query, key, value, float(self.softmax_scale), self.formwork_slopes)
        return self.out_proj(out), None

    def prepare(self) -> None:
        """Keeps the ALiBi slopes (MPT's differ from BLOOM's where the heads are no power of two)."""
        count, own = all_heads(self, self.n_heads)
        pair = _mpt.build_mpt_alibi_tensor(count, 2)[own, 0]
        self.register_buffer("formwork_slopes", pair[:, 1] - pair[:, 0], persistent=False)


class PagedStableLmAttention(_stablelm.StableLmAttention):  # type: ignore[misc]
    """Uses the attention interface, but its layer hands no keywords on."""

    def forward(self, hidden_states: torch.Tensor, **rest: Any) -> tuple[torch.Tensor, None]:
        """As StableLmAttention, with the step as the keyword that the interface expects."""
        name, passenger = passenger_in(rest)
        rest.update({name: None, "attention_mask": None, "paged": passenger.step})
        output, _ = super().forward(hidden_states, **rest)
        return output, None


_ADAPTED: dict[type[nn.Module], type[nn.Module]] = {
    _falcon.FalconAttention: PagedFalconAttention,
    _bloom.BloomAttention: PagedBloomAttention,
    _mpt.MptAttention: PagedMptAttention,
    _stablelm.StableLmAttention: PagedStableLmAttention,
}

_ADAPTED_TYPES = {"falcon", "bloom", "mpt", "stablelm"}
# From transformers 5.24 on GPT-J uses the interface like the others.
if hasattr(_gptj.GPTJAttention, "_attn"):
    _ADAPTED[_gptj.GPTJAttention] = PagedGPTJAttention
    _ADAPTED_TYPES.add("gptj")

ADAPTED_TYPES = frozenset(_ADAPTED_TYPES)


def attention_name(config: PretrainedConfig) -> str:
    """What to load a model with: the adapted families choose their attention class by name and know only their own."""
    return "eager" if config.model_type in ADAPTED_TYPES else ATTENTION_NAME


def adapt(model: PreTrainedModel) -> bool:
    """Changes the class of attention modules that need it; True iff the step must travel as the cache."""
    found = [module for module in model.modules() if type(module) in _ADAPTED]
    for module in found:
        module.__class__ = _ADAPTED[type(module)]
        prepare = getattr(module, "prepare", None)
        if prepare is not None:
            prepare()
            module.formwork_slopes = module.formwork_slopes.to(model.device)
    if found:
        AttentionInterface.register(ADAPTED_NAME, paged_attention)
        AttentionMaskInterface.register(ADAPTED_NAME, _nothing)
        model.config._attn_implementation = ADAPTED_NAME
    return bool(found)


def _nothing(*_: Any, device: torch.device | None = None, **__: Any) -> torch.Tensor:
    """In place of a mask: MPT converts what it gets, so None would not do; a copy to a device is never recorded."""
    return torch.empty(0, device=device)
