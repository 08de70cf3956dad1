"""Logits from transformers' own forward pass: one sequence at a time, no cache, no padding, its own attention."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

# transformers' eager Falcon adds ALiBi twice (its SDPA path adds it once, as the model was trained).
_SDPA = frozenset({"falcon_alibi"})


def dense_logits(folder: Path, sequences: Sequence[Sequence[int]], family: str = "") -> list[torch.Tensor]:
    """For each sequence (tokens, vocabulary)."""
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa" if family in _SDPA else "eager"
    )
    model.eval()
    with torch.no_grad():
        return [model(torch.tensor([list(tokens)]), use_cache=False).logits[0] for tokens in sequences]
