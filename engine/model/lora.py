"""Low-rank adapters: many in one batch, each row with its own.

What it is for: reading PEFT's folders (adapter_config.json, adapter_model.safetensors) and adding to a linear layer's
outputs what each row's adapter says, `scale · B (A x)` (LoRA, arXiv:2106.09685). What may not enter: names that clients
use, which adapters stay loaded (`engine.adapters`).

The idea: the base model runs once over the whole batch; a hook on each adapted layer adds the rows of each adapter that
takes part. On a CPU the two small products are packed like all others, so a row's result does not depend on which rows
have the same adapter. Under tensor parallelism A is cut like the layer's inputs and B like its outputs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from engine.batch import StepBatch
from engine.model.errors import BrokenModel, UnsupportedModel
from engine.model.fusion import Parts
from engine.model.linear import PackedLinear, pack_weight
from engine.model.parallel import Division, Plan

Product = Callable[[torch.Tensor], torch.Tensor]

_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<half>[AB])(?:\.default)?\.weight")
# Fields of adapter_config.json that say how it was trained, found or named, not what it computes.
_HISTORY = frozenset(
    {"auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config", "exclude_modules"}
    | {"fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "loftq_config"}
    | {"lora_dropout", "lora_ga_config", "megatron_config", "megatron_core", "peft_version", "qalora_group_size"}
    | {"revision", "target_modules", "task_type"}
)
_READ = frozenset({"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"})
_ACTIVATIONS = frozenset({torch.float32, torch.bfloat16, torch.float16})
_NOTHING: Final[tuple[Any, ...]] = (None, False, "none", 0, {}, [])


@dataclass(frozen=True, slots=True)
class Pair:
    """One layer's two products, (rows, in) to (rows, rank) to (rows, out); the scale is in the second."""

    down: Product
    up: Product
    layer: str  # that computes the outputs, fused with others' or not
    columns: slice  # where they are in its outputs


class Adapters:
    """The adapters of one model, by slot. Not thread-safe: only the engine loop calls it."""

    def __init__(self, model: nn.Module, plan: Plan | None = None, division: Division | None = None) -> None:
        self._modules = dict(model.named_modules())
        self._like = _plain_parameter(model)
        self._plan, self._division = plan, division
        self._held: dict[int, Mapping[str, Sequence[Pair]]] = {}  # by slot, then by the layer that is hooked
        self._hooked: set[str] = set()
        self._present: list[tuple[Mapping[str, Sequence[Pair]], torch.Tensor]] = []

    def load(self, slot: int, folder: Path, most_rank: int) -> None:
        """Puts a folder's adapter into a slot. Raises BrokenModel or UnsupportedModel, naming what does not fit."""
        config = read_config(folder)
        pairs: dict[str, list[Pair]] = {}
        for name, halves in _read_halves(folder).items():
            pair = self._pair(name, halves, _scale(config, name, halves["A"].shape[0]), most_rank)
            pairs.setdefault(pair.layer, []).append(pair)
        for name in pairs.keys() - self._hooked:
            # Before the hook that adds up ranks' summands: an adapter's part is one of them.
            self._modules[name].register_forward_hook(self._hook(name), prepend=True)
            self._hooked.add(name)
        self._held[slot] = pairs

    def unload(self, slot: int) -> None:
        """Empties a slot."""
        self._held.pop(slot, None)

    def enter(self, batch: StepBatch) -> None:
        """Says which rows of the pass that comes next have which adapter."""
        self._present = []
        if batch.adapters is None:
            return
        slots = torch.from_numpy(batch.adapters).repeat_interleave(torch.from_numpy(batch.query_starts).diff())
        for slot in torch.unique(slots).tolist():
            if slot >= 0:
                self._present.append((self._held[slot], torch.where(slots == slot)[0].to(self._like.device)))

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], torch.Tensor], torch.Tensor]:
        def add(_module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            for pairs, rows in self._present:
                for pair in pairs.get(name, ()):
                    flat: torch.Tensor = inputs[0].reshape(-1, inputs[0].shape[-1])
                    columns = output.view(-1, output.shape[-1])[:, pair.columns]
                    columns.index_add_(0, rows, pair.up(pair.down(flat[rows])))
            return output

        return add

    def _pair(self, name: str, halves: Mapping[str, torch.Tensor], scale: float, most_rank: int) -> Pair:
        layer, columns = self._place(name)
        module = self._modules.get(layer)
        sizes = None if module is None else _sizes(module)
        if module is None or sizes is None:
            raise UnsupportedModel(f"the adapter changes {name}, which is no linear layer of this model")
        if name.rpartition(".")[2] in {"lm_head", "embed_out"}:
            raise UnsupportedModel(f"the adapter changes {name}; adapters of the vocabulary are not served")
        if not all(bool(torch.isfinite(half).all()) for half in halves.values()):
            raise BrokenModel(f"the adapter's matrices at {name} hold infinity or what is no number")
        down, up = halves["A"], halves["B"] * scale
        if down.shape[0] > most_rank:
            raise UnsupportedModel(f"the adapter has rank {down.shape[0]} at {name}; the server takes {most_rank}")
        down, up = self._cut(name, 1, down), self._cut(name, 0, up)
        outputs = len(range(*columns.indices(sizes[1])))
        if (down.shape[1], up.shape[0]) != (sizes[0], outputs) or down.shape[0] != up.shape[1]:
            shape = tuple(halves["A"].shape), tuple(halves["B"].shape)
            raise BrokenModel(f"the adapter's matrices at {name} are {shape}, which do not fit this model")
        return Pair(self._product(down, module), self._product(up, module), layer, columns)

    def _product(self, matrix: torch.Tensor, module: nn.Module) -> Product:
        """The matrix as the layer's own is held: packed on a CPU; else on the model's device, never quantized."""
        if isinstance(module, PackedLinear):
            return pack_weight(matrix.to(getattr(module.packed, "dtype", torch.float32)).contiguous())
        moved = matrix.to(self._like)
        return lambda rows: nn.functional.linear(rows, moved)

    def _place(self, name: str) -> tuple[str, slice]:
        """The layer that computes another's outputs, and in which of its columns."""
        parent, _, last = name.rpartition(".")
        parts: Parts = getattr(self._modules.get(parent), "parts", {})
        if last not in parts:
            return name, slice(None)
        whole, columns = parts[last]
        return f"{parent}.{whole}", columns

    def _cut(self, name: str, dim: int, matrix: torch.Tensor) -> torch.Tensor:
        """A rank's part: of A (dim 1) what the layer's inputs are cut to, of B (dim 0) what its outputs are."""
        cut = None if self._plan is None else self._plan.cut_of(name, by="inputs" if dim else "outputs")
        if cut is None or self._division is None:
            return matrix
        share = cut(self._division, matrix.shape[dim])
        return torch.cat([matrix.narrow(dim, start, stop - start) for start, stop in share.spans], dim)


def read_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json. Raises UnsupportedModel for what plain LoRA does not have, by field."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrokenModel(f"cannot read adapter_config.json of {folder}: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise UnsupportedModel(f"{folder} is no LoRA adapter")
    odd = sorted(k for k, v in config.items() if k not in _HISTORY and k not in _READ and v not in _NOTHING)
    if odd:
        raise UnsupportedModel(f"the adapter in {folder} has {odd[0]}, which is not served; plain LoRA is")
    return config


def _read_halves(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    found: dict[str, dict[str, torch.Tensor]] = {}
    try:
        with safe_open(folder / "adapter_model.safetensors", framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - not a mapping
                match = _TENSOR.fullmatch(key)
                if match is None:
                    raise UnsupportedModel(f"the adapter in {folder} has a tensor {key}, which is no part of LoRA")
                found.setdefault(match["module"], {})[match["half"]] = tensors.get_tensor(key)
    except (OSError, SafetensorError) as error:
        raise BrokenModel(f"cannot read adapter_model.safetensors of {folder}: {error}") from error
    lacking = sorted(name for name, halves in found.items() if len(halves) < 2)
    if lacking or not found:
        raise BrokenModel(f"the adapter in {folder} lacks half of {lacking[0]}" if lacking else f"{folder} is empty")
    return found


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    patterns = config.get("alpha_pattern") or {}
    alpha = next((a for key, a in patterns.items() if re.fullmatch(rf"(.*\.)?({key})", module)), config["lora_alpha"])
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _sizes(module: nn.Module) -> tuple[int, int] | None:
    """(inputs, outputs) of this rank's linear layer."""
    if isinstance(module, PackedLinear):
        return module.packed.inputs, module.packed.outputs
    if isinstance(module, nn.Embedding):
        return None
    weight = module._parameters.get("weight")
    if weight is None or not weight.is_floating_point():  # packed numbers, if anything
        sizes = getattr(module, "in_features", None), getattr(module, "out_features", None)
        return None if None in sizes else cast("tuple[int, int]", sizes)
    if weight.ndim != 2:
        return None
    outputs, inputs = weight.shape if type(module).__name__ != "Conv1D" else weight.shape[::-1]
    return inputs, outputs


def _plain_parameter(model: nn.Module) -> torch.Tensor:
    """One that tells the device and the dtype of activations: quantized weights have others."""
    return next(p for p in model.parameters() if type(p) is nn.Parameter and p.dtype in _ACTIVATIONS)
