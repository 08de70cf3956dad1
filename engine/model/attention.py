"""The one attention function that every served model calls, and what it is told.

What it is for: transformers hands each layer's queries, keys and values to a function registered by name; ours gives
them to the step that travels with the forward pass as the keyword `paged`. What may not enter: module state (nothing is
read behind the reader's back in `forward`), the layout of the cache (a backend's own business).

The idea: tokens of all sequences are packed into one row, `[1, T]`. No mask is ever built: each backend knows from the
step which keys a token may see. transformers makes none for an attention implementation without a registered mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from transformers import AttentionInterface

from engine.model.errors import UnsupportedModel

ATTENTION_NAME = "formwork_paged"


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """What one layer asks for."""

    layer: int
    query: torch.Tensor  # (T, heads, key_dim)
    key: torch.Tensor  # (T, kv_heads, key_dim)
    value: torch.Tensor  # (T, kv_heads, value_dim)
    scale: float
    window: int | None = None  # a token sees itself and the window - 1 tokens before it
    softcap: float | None = None  # scores become softcap · tanh(score / softcap)
    sinks: torch.Tensor | None = None  # (heads,): one extra logit a head, which takes part in the softmax only
    slopes: torch.Tensor | None = None  # (heads,): ALiBi, slope · key position is added to the score


class AttentionStep(Protocol):
    """One step's attention over the paged cache."""

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """Stores the call's keys and values, returns (T, heads, value_dim)."""
        ...


# What models hand to the interface beside what is honoured here: it is about other backends, or said by the step.
_HARMLESS = frozenset(
    {"dropout", "is_causal", "output_attentions", "output_router_logits", "position_ids", "use_cache"}
)


def paged_attention(  # noqa: PLR0913 - transformers' signature
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    paged: AttentionStep | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: (1, heads, T, dim) in, (1, T, heads, dim) out."""
    if paged is None:
        raise UnsupportedModel(
            f"{type(module).__name__} does not get the keywords that the model was given, so no step"
        )
    if not rest.keys() <= _HARMLESS:
        raise UnsupportedModel(f"{type(module).__name__} asks attention for {sorted(rest.keys() - _HARMLESS)}")
    if attention_mask is not None:
        raise UnsupportedModel(
            f"{type(module).__name__} needs an attention mask of its own, which paged attention lacks"
        )
    if not getattr(module, "is_causal", True):
        raise UnsupportedModel(f"{type(module).__name__} attends in both directions; only causal models are served")
    call = AttentionCall(
        layer=module.layer_idx,  # type: ignore[arg-type]
        query=query[0].transpose(0, 1),
        key=key[0].transpose(0, 1),
        value=value[0].transpose(0, 1),
        scale=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        window=sliding_window,
        softcap=softcap,
        sinks=s_aux,
    )
    return paged.attend(call).unsqueeze(0), None


def register_attention() -> None:
    """Makes the function known to transformers under `ATTENTION_NAME`; no mask is registered, so that none is built."""
    AttentionInterface.register(ATTENTION_NAME, paged_attention)
