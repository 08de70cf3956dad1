"""Medusa heads: what a hidden state says about the tokens after the next one.

What it is for: loading heads from safetensors, and asking them (Cai et al. 2024, "Medusa"; the files of its authors,
and TGI's second form in which heads share the model's output matrix). What may not enter: sequences, grammars: a head
says what is likely, who asks takes what is legal.

The files: `medusa_lm_head.safetensors` with `{head}.{block}.linear.weight` and `.bias` of residual blocks
(x + silu(linear(x))), and optionally `{head}.{blocks}.weight`, an output matrix of the head's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from engine.model.errors import BrokenModel

FILE = "medusa_lm_head.safetensors"
_NAME = re.compile(r"(\d+)\.(\d+)\.(?:linear\.)?(weight|bias)")

Linear = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Foreseen:
    """Of each row and head the likeliest tokens, best first, with the head's probabilities."""

    tokens: NDArray[np.int64]  # (rows, heads, candidates)
    chances: NDArray[np.float32]


class MedusaHeads:
    """Reads the hidden states that went into the model's output matrix in the last forward pass."""

    def __init__(self, blocks: Sequence[Sequence[Linear]], outputs: Sequence[Linear], candidates: int = 4) -> None:
        self._blocks = blocks
        self._outputs = outputs
        self._candidates = candidates
        self.hidden = torch.empty(0)  # of the last pass, a row for each of its logits; a replayed graph sets it

    @property
    def count(self) -> int:
        return len(self._blocks)

    def watch(self, output: torch.nn.Module) -> None:
        """Keeps what goes into the model's output matrix."""

        def keep(_module: torch.nn.Module, given: tuple[Any, ...]) -> None:
            self.hidden = given[0].reshape(-1, given[0].shape[-1])

        output.register_forward_pre_hook(keep)

    def look(self, rows: Sequence[int]) -> Foreseen:
        """What the heads say behind these logits rows of the last pass: head k of token k + 1 after the row's."""
        with torch.no_grad():
            hidden = self.hidden[torch.tensor(rows, device=self.hidden.device)]
            found = [self._best(hidden, blocks, out) for blocks, out in zip(self._blocks, self._outputs, strict=True)]
        tokens, chances = (torch.stack(each, dim=1).cpu().numpy() for each in zip(*found, strict=True))
        return Foreseen(tokens, chances)

    def _best(self, state: torch.Tensor, blocks: Sequence[Linear], out: Linear) -> tuple[torch.Tensor, torch.Tensor]:
        for block in blocks:
            state = state + F.silu(block(state))
        logits = out(state).float()
        best = torch.topk(logits, min(self._candidates, logits.shape[-1]), dim=-1)
        return best.indices, (best.values - torch.logsumexp(logits, dim=-1, keepdim=True)).exp()


def load_heads(folder: Path, output: Linear, width: int, like: torch.Tensor) -> MedusaHeads:
    """The heads of a folder; those without an output matrix use the model's. `like` gives dtype and device.

    Raises BrokenModel: no such file, other names or shapes.
    """
    try:
        tensors = load_file(folder / FILE)
    except (OSError, SafetensorError) as error:
        raise BrokenModel(f"cannot read {folder / FILE}: {error}") from error
    heads: dict[int, dict[int, dict[str, torch.Tensor]]] = {}
    for name, tensor in tensors.items():
        found = _NAME.fullmatch(name)
        if found is None or (found[3] == "weight" and tensor.shape[-1] != width):
            raise BrokenModel(f"{FILE}: {name} of shape {tuple(tensor.shape)} is no part of a head over {width} values")
        heads.setdefault(int(found[1]), {}).setdefault(int(found[2]), {})[found[3]] = tensor.to(like.device, like.dtype)
    blocks: list[list[Linear]] = []
    outputs: list[Linear] = []
    for _, parts in sorted(heads.items()):
        own = [part for _, part in sorted(parts.items())]
        last = own.pop() if own[-1]["weight"].shape[0] != width or "bias" not in own[-1] else None
        outputs.append(output if last is None else _linear(last))
        blocks.append([_linear(part) for part in own])
    if not blocks:
        raise BrokenModel(f"{FILE} holds no heads")
    return MedusaHeads(blocks, outputs)


def _linear(part: dict[str, torch.Tensor]) -> Linear:
    return linear(part["weight"], part.get("bias"))


def linear(weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
    """Rows times the matrix (out, in), plus the bias."""
    return lambda rows: F.linear(rows, weight, bias)
