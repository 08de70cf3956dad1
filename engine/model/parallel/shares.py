"""A rank's share of a model: made, read and joined to the others'.

What it is for: `load_share` builds the family's model with narrower tensors and reads only those parts of the
checkpoint; `join` puts the sums in. What may not enter: how ranks talk (`group`), which tensors are divided (`plans`).

The idea: a rank's model is the family's own modelling code over narrower tensors. Most families find the number of
heads from the tensors; the others are told by attributes. Sums are hooks on the modules whose outputs are summands, so
that whatever takes the place of a linear layer afterwards (packed weights, adapters) is inside of them.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from engine.model.adapters import attention_name
from engine.model.attention import register_attention
from engine.model.errors import BrokenModel
from engine.model.parallel.division import Division, Share
from engine.model.parallel.group import Group
from engine.model.parallel.plans import Plan


def load_share(
    folder: Path, config: PretrainedConfig, plan: Plan, division: Division, dtype: torch.dtype
) -> PreTrainedModel:
    """The rank's model in evaluation mode on the CPU. Raises BrokenModel for a checkpoint that does not fit."""
    register_attention()
    known: Any = MODEL_FOR_CAUSAL_LM_MAPPING
    family: Any = _narrowed(known[type(config)], plan, division)
    try:
        model, report = family.from_pretrained(
            None,
            config=config,
            state_dict=dict(read_shares(folder, plan, division)),
            dtype=dtype,
            attn_implementation=attention_name(config),
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BrokenModel(f"cannot load a share of {folder} (weights must be safetensors): {error}") from error
    if report["missing_keys"] or report["mismatched_keys"]:
        lacking = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))
        raise BrokenModel(f"the checkpoint of {folder} lacks {len(lacking)} weights, {lacking[0]} first")
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    model.formwork_parameters = checkpoint_parameters(folder)
    return cast("PreTrainedModel", model.eval().requires_grad_(False))


def checkpoint_parameters(folder: Path) -> int:
    """Numbers in the checkpoint; what is tied is there once."""
    total = 0
    for file in _weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return total


def read_shares(folder: Path, plan: Plan, division: Division) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the checkpoint by name, of divided ones the rank's part alone; nothing more is read."""
    for file in _weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                rule = plan.rule(name)
                if rule is None:
                    yield name, tensors.get_tensor(name)
                else:
                    whole = tensors.get_slice(name)
                    share = rule.cut(division, whole.get_shape()[rule.dim])
                    yield name, _part(whole, whole.get_shape(), rule.dim, share)


def join(model: PreTrainedModel, plan: Plan, group: Group) -> None:
    """Adds the sums, after linear layers and experts have their last form."""
    for name, module in model.named_modules():
        if plan.is_sum(name):
            module.register_forward_hook(lambda _module, _inputs, summands: group.add_up(summands))
    words = cast("nn.Embedding", model.get_input_embeddings())
    zero_row = words.weight.shape[0] - 1
    first = group.rank * zero_row

    def own_rows(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        ids = inputs[0] - first
        return torch.where((ids >= 0) & (ids < zero_row), ids, zero_row), *inputs[1:]

    words.register_forward_pre_hook(own_rows)
    words.register_forward_hook(lambda _module, _inputs, summands: group.add_up(summands))


def share_norms(model: nn.Module, plan: Plan, group: Group) -> None:
    """Norms over all heads see only their rank's; the mean square is made of everyone's."""
    for name, module in list(model.named_modules()):
        if plan.is_shared_norm(name):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, SharedRmsNorm(module, group))


class SharedRmsNorm(nn.Module):
    """Takes the place of a norm whose rows are divided among ranks."""

    def __init__(self, inner: Any, group: Group) -> None:
        super().__init__()
        self.weight: nn.Parameter = inner.weight
        self.epsilon = float(inner.variance_epsilon)
        self._group = group

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(..., this rank's width) to the same shape."""
        exact = rows.float()
        squares = self._group.add_up(exact.square().sum(-1, keepdim=True))
        mean = squares / (rows.shape[-1] * self._group.ranks)
        return (self.weight * (exact * torch.rsqrt(mean + self.epsilon))).to(rows.dtype)


def _narrowed(family: type[PreTrainedModel], plan: Plan, division: Division) -> type[PreTrainedModel]:
    """The family's class, whose instances are narrow from the start; of the same name, by which weights are found."""

    def __init__(self: Any, config: PretrainedConfig, *arguments: Any, **named: Any) -> None:  # noqa: N807
        family.__init__(self, config, *arguments, **named)
        _narrow(self, plan, division)

    return type(family.__name__, (family,), {"__init__": __init__, "__module__": family.__module__})


def _narrow(model: nn.Module, plan: Plan, division: Division) -> None:
    made: dict[int, nn.Parameter] = {}  # tied parameters stay one
    for name, module in model.named_modules():
        for leaf, parameter in list(module._parameters.items()):
            rule = plan.rule(f"{name}.{leaf}")
            if parameter is None or rule is None:
                continue
            if id(parameter) not in made:
                shape = list(parameter.shape)
                shape[rule.dim] = len(rule.cut(division, shape[rule.dim]))
                made[id(parameter)] = nn.Parameter(parameter.new_empty(shape), requires_grad=False)
            module._parameters[leaf] = made[id(parameter)]
        if "layer_idx" in vars(module):
            _tell(module, plan, division)
        if hasattr(module, "nf"):  # Conv1D keeps its number of outputs
            module.nf = module.weight.shape[1]


def _tell(attention: Any, plan: Plan, division: Division) -> None:
    """Sets an attention module's numbers to this rank's."""
    own = {"heads": division.queries[1] - division.queries[0], "kv_heads": division.keys[1] - division.keys[0]}
    attention.formwork_heads = division.heads, division.queries
    for name, count in plan.attributes.items():
        place, _, last = name.rpartition(".")
        if place:  # the configuration is everyone's: this module gets one of its own
            attention.config = copy.copy(attention.config)
        holder = attention.config if place else attention
        if hasattr(holder, last):
            setattr(holder, last, getattr(holder, last) // division.ranks if count == "part" else own[count])


def _part(whole: Any, shape: list[int], dim: int, share: Share) -> torch.Tensor:
    before = (slice(None),) * dim
    parts = [whole[(*before, slice(start, stop))] for start, stop in share.spans if stop > start]
    if share.zeros:
        like = parts[0] if parts else whole[(*before, slice(0, 0))]
        parts.append(like.new_zeros([*shape[:dim], share.zeros, *shape[dim + 1 :]]))
    return torch.cat(parts, dim).contiguous()


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [folder / Path(name).name for name in sorted(set(names))]
    return [folder / "model.safetensors"]
