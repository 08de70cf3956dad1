"""A model put together from tensors that were read one by one, rather than by transformers from a folder.

What it is for: `WeightFiles` finds and reads a checkpoint's tensors, whole or in part; `assemble` makes the family's
model, shaped before it is filled. A rank's share and quantized checkpoints are both loaded so. What may not enter:
which tensors are divided (`parallel`), what codes mean (`quantization`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from engine.model.adapters import attention_name
from engine.model.attention import register_attention
from engine.model.errors import BrokenModel, UnsupportedModel
from engine.model.loading import refuse_incomplete


class WeightFiles:
    """A folder's tensors by name, in one file or in shards. Raises BrokenModel where there are none."""

    def __init__(self, folder: Path) -> None:
        try:
            self._homes = _homes(folder)
            self._opened: dict[Path, Any] = {
                home: safe_open(home, framework="pt") for home in set(self._homes.values())
            }
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise BrokenModel(f"cannot load {folder} (weights must be safetensors): {error}") from error

    @property
    def names(self) -> list[str]:
        """Of all tensors."""
        return list(self._homes)

    @property
    def numbers(self) -> int:
        """How many there are in all tensors; what is tied is there once."""
        return sum(math.prod(self.shape(name)) for name in self._homes)

    def shape(self, name: str) -> list[int]:
        """A tensor's shape, without reading it."""
        found: list[int] = self._slice(name).get_shape()
        return found

    def whole(self, name: str) -> torch.Tensor:
        """A tensor."""
        found: torch.Tensor = self._opened[self._homes[name]].get_tensor(name)
        return found

    def part(self, name: str, dim: int, spans: Sequence[tuple[int, int]], zeros: int = 0) -> torch.Tensor:
        """Those spans of dimension `dim` of a tensor, and zeros after them; nothing more is read."""
        whole, before = self._slice(name), (slice(None),) * dim
        parts = [whole[(*before, slice(start, stop))] for start, stop in spans if stop > start]
        if zeros:
            like, shape = parts[0] if parts else whole[(*before, slice(0, 0))], whole.get_shape()
            parts.append(like.new_zeros([*shape[:dim], zeros, *shape[dim + 1 :]]))
        return torch.cat(parts, dim).contiguous()

    def _slice(self, name: str) -> Any:
        return self._opened[self._homes[name]].get_slice(name)


def assemble(
    folder: Path,
    config: PretrainedConfig,
    shape: Callable[[nn.Module], None],
    tensors: Mapping[str, torch.Tensor],
    dtype: torch.dtype,
) -> PreTrainedModel:
    """The family's model in evaluation mode on the CPU; `shape` changes it after it is made, before it is filled.

    Raises BrokenModel where tensors do not fit, UnsupportedModel for a family that brings its own code.
    """
    register_attention()
    family = family_of(config)
    if family is None:
        raise UnsupportedModel(f"{config.model_type} brings its own code, which is loaded whole or not at all")
    try:
        shaped: Any = _shaped(family, shape)
        model, report = shaped.from_pretrained(
            None,
            config=config,
            state_dict=dict(tensors),
            dtype=dtype,
            attn_implementation=attention_name(config),
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BrokenModel(f"cannot load {folder}: {error}") from error
    refuse_incomplete(str(folder), report)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return cast("PreTrainedModel", model.eval().requires_grad_(False))


def family_of(config: PretrainedConfig) -> Any:
    """The family's class, or None where it brings its own code."""
    known: Any = MODEL_FOR_CAUSAL_LM_MAPPING
    return known.get(type(config), None)


def _shaped(family: type[PreTrainedModel], shape: Callable[[nn.Module], None]) -> type[PreTrainedModel]:
    """The family's class, whose instances are shaped from the start; of the same name, by which weights are found."""

    def __init__(self: Any, config: PretrainedConfig, *arguments: Any, **named: Any) -> None:  # noqa: N807
        family.__init__(self, config, *arguments, **named)
        shape(self)

    return type(family.__name__, (family,), {"__init__": __init__, "__module__": family.__module__})


def _homes(folder: Path) -> dict[str, Path]:
    """Every tensor's file."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {name: folder / Path(file).name for name, file in places.items()}
    with safe_open(folder / "model.safetensors", framework="pt") as tensors:
        return dict.fromkeys(tensors.keys(), folder / "model.safetensors")
