"""Logits from transformers' own forward pass: one sequence at a time, no cache, no padding, its own attention.

For a cache in another dtype, that attention is given keys and values rounded to it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM
from transformers.masking_utils import eager_mask

# transformers' eager Falcon adds ALiBi twice (its SDPA path adds it once, as the model was trained).
_SDPA = frozenset({"falcon_alibi"})


def dense_logits(folder: Path, sequences: Sequence[Sequence[int]], family: str = "") -> list[torch.Tensor]:
    """For each sequence (tokens, vocabulary)."""
    return _logits(folder, sequences, "sdpa" if family in _SDPA else "eager")


def dense_logits_of_stored(folder: Path, sequences: Sequence[Sequence[int]], stored: torch.dtype) -> list[torch.Tensor]:
    """The same with keys and values that were rounded to `stored`, for models whose eager attention is a function."""
    with _rounding_attention(stored) as name:
        return _logits(folder, sequences, name)


def _logits(folder: Path, sequences: Sequence[Sequence[int]], attention: str) -> list[torch.Tensor]:
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    model.eval()
    with torch.no_grad():
        return [model(torch.tensor([list(tokens)]), use_cache=False).logits[0] for tokens in sequences]


@contextmanager
def _rounding_attention(stored: torch.dtype) -> Iterator[str]:
    def attend(module: Any, query: Any, key: Any, value: Any, *rest: Any, **options: Any) -> Any:
        own = sys.modules[type(module).__module__].eager_attention_forward
        return own(module, query, key.to(stored).float(), value.to(stored).float(), *rest, **options)

    name = f"rounding_{stored}".replace(".", "_")
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, eager_mask)
    yield name
