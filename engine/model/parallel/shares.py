"""A rank's share of a model: made, read and joined to the others'.

What it is for: `load_share` builds the family's model with narrower tensors and reads only those parts of the
checkpoint; `join` puts the sums in. What may not enter: how ranks talk (`group`), which tensors are divided (`plans`).

The idea: a rank's model is the family's own modelling code over narrower tensors. Most families find the number of
heads from the tensors; the others are told by attributes. Sums are hooks on the modules whose outputs are summands, so
that whatever takes the place of a linear layer afterwards (packed weights, adapters) is inside of them.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from engine.model.assembly import WeightFiles, assemble
from engine.model.parallel.division import Division
from engine.model.parallel.group import Group
from engine.model.parallel.rules import Plan


def load_share(
    folder: Path, config: PretrainedConfig, plan: Plan, division: Division, dtype: torch.dtype
) -> PreTrainedModel:
    """The rank's model in evaluation mode on the CPU. Raises BrokenModel for a checkpoint that does not fit."""
    files = WeightFiles(folder)
    shares = {name: read_share(files, name, plan, division) for name in files.names}
    model: Any = assemble(folder, config, lambda made: narrow(made, plan, division), shares, dtype)
    model.formwork_parameters = files.numbers
    return cast("PreTrainedModel", model)


def read_share(files: WeightFiles, name: str, plan: Plan, division: Division) -> torch.Tensor:
    """A tensor of the checkpoint, or the rank's part of a divided one; nothing more is read."""
    rule = plan.rule(name)
    if rule is None:
        return files.whole(name)
    share = rule.cut(division, files.shape(name)[rule.dim])
    return files.part(name, rule.dim, share.spans, share.zeros)


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


def whole_columns(share: torch.Tensor, vocabulary: int, group: Group) -> torch.Tensor:
    """All ranks' columns of a product with the output matrix, (rows, vocabulary); on ranks behind the first no rows.

    A rank's last column is that of the row of zeros.
    """
    every = group.collect(share)
    if every is None:
        return share.new_empty(0, vocabulary)
    return every.view(len(share), group.ranks, -1)[..., :-1].flatten(1)[:, :vocabulary].contiguous()


def whole_output(model: PreTrainedModel, group: Group) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """The output matrix (vocabulary, hidden) and its bias, on rank 0; None on the others. Before layers are packed."""
    output = cast("nn.Linear", model.get_output_embeddings())  # type: ignore[no-untyped-call]
    vocabulary: int = model.config.get_text_config().vocab_size
    weight: Any = output.weight  # a tensor, or codes
    own = weight.detach() if isinstance(weight, torch.Tensor) else torch.from_numpy(weight.unfolded())
    matrix = whole_columns(own.t(), vocabulary, group)
    bias = None if output.bias is None else whole_columns(output.bias.detach()[None], vocabulary, group)
    return None if group.rank else (matrix.t().contiguous(), None if bias is None else bias[0])


def share_norms(model: nn.Module, plan: Plan, division: Division, group: Group) -> None:
    """Norms over all heads see only this rank's: the mean square is made of everyone's. Of one a head, its own stay."""
    for name, module in list(model.named_modules()):
        parent, _, last = name.rpartition(".")
        own = plan.own_of(name, division)
        if own is not None:
            setattr(model.get_submodule(parent), last, cast("nn.ModuleList", module)[slice(*own)])
        elif plan.is_shared_norm(name):
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


def narrow(model: nn.Module, plan: Plan, division: Division) -> None:
    """Makes a whole model's parameters as wide as the rank's are, in place; what they hold is lost."""
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
