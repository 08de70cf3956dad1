"""Quantized checkpoints read as they are, layer by layer, without the packages that made them.

What it is for: a folder to a model whose linear layers and experts are coded, whole or one rank's share of it. What may
not enter: products, what a layer's tensors mean (`formats`), schemes that are made here (`libraries`).

The idea: a layer's tensors lie beside each other in the file. The model is made with coded layers in the place of
those, so its full size is never in memory, and all other tensors are read as ever. A rank decodes a layer and keeps its
part: scales go with their inputs, so a cut need not fall between groups.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from engine.model.assembly import WeightFiles, assemble, family_of
from engine.model.errors import BrokenModel, UnsupportedModel
from engine.model.experts import are_experts, take_experts
from engine.model.parallel.division import Division
from engine.model.parallel.rules import Plan
from engine.model.parallel.shares import narrow, read_share
from engine.model.quantization.coded import CodedExpert, CodedLinear, CodedWeight, beside, fit_beside
from engine.model.quantization.formats import FORMATS, IGNORED, Format, Parts

_EXPERT = re.compile(r"(?P<experts>.+\.experts)\.(?P<number>\d+)\.(?P<part>\w+)")
_GATE_AND_UP = (("gate_up_proj",), ("gate_proj", "up_proj"), ("w1", "w3"))
_DOWN = ("down_proj", "w2")
_RENAMED = (".block_sparse_moe.", ".mlp.")  # Mixtral's, of which transformers 5 renamed the modules


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a model is a rank's."""

    plan: Plan
    division: Division

    def of(self, layer: str, weight: CodedWeight) -> CodedWeight:
        """The rank's part of a layer's weight. Raises UnsupportedModel where its codes cannot be cut there."""
        by_outputs, by_inputs = self.plan.cut_of(layer, by="outputs"), self.plan.cut_of(layer, by="inputs")
        if by_outputs is not None:
            share = by_outputs(self.division, weight.shape[0])
            return weight.rows(share.spans, share.zeros)
        if by_inputs is None:
            return weight
        try:
            return weight.columns(by_inputs(self.division, weight.shape[1]).spans)
        except ValueError as error:
            raise UnsupportedModel(f"{layer} among {self.division.ranks} ranks: {error}") from error


def load_coded(
    folder: Path, config: PretrainedConfig, scheme: str, stored: Mapping[str, Any], part: Part | None = None
) -> PreTrainedModel:
    """The model with coded layers, float32, in evaluation mode. Raises BrokenModel and UnsupportedModel by name."""
    plain = _unquantized(config, stored)
    checkpoint = _Checkpoint(folder, plain, FORMATS[scheme], stored, part)
    coded = dict(checkpoint.coded())

    def shape(model: nn.Module) -> None:
        if part is not None:
            narrow(model, part.plan, part.division)
        _put(model, coded)

    return assemble(folder, plain, shape, checkpoint.rest(), torch.float32)


def load_unfolded(
    folder: Path,
    config: PretrainedConfig,
    scheme: str,
    stored: Mapping[str, Any],
    dtype: torch.dtype,
    part: Part | None = None,
) -> PreTrainedModel:
    """The model with the numbers that the experts' codes stand for, transposed as gpt-oss has them."""
    plain = _unquantized(config, stored)
    checkpoint = _Checkpoint(folder, plain, FORMATS[scheme], stored, part)
    stacks: dict[str, list[torch.Tensor]] = {}
    for name, weight in checkpoint.coded():
        found = _EXPERT.fullmatch(name)
        assert found is not None
        matrix = torch.from_numpy(weight.unfolded()).to(dtype).T.contiguous()
        stacks.setdefault(f"{found['experts']}.{found['part']}", []).append(matrix)

    def shape(model: nn.Module) -> None:
        if part is not None:
            narrow(model, part.plan, part.division)

    tensors = checkpoint.rest() | {name: torch.stack(matrices) for name, matrices in stacks.items()}
    return assemble(folder, plain, shape, tensors, dtype)


def _unquantized(config: PretrainedConfig, stored: Mapping[str, Any]) -> PretrainedConfig:
    """The configuration of the model that the codes stand for."""
    sparse = stored.get("sparsity_config") or {}
    if sparse.get("format", "dense") != "dense":
        raise UnsupportedModel(f"sparse weights ({sparse['format']}): not served on a CPU")
    if stored.get("transform_config"):
        raise UnsupportedModel("compressed-tensors with transform_config: not served on a CPU")
    plain = copy.deepcopy(config)
    del plain.quantization_config
    return plain


class _Checkpoint:
    """A folder's tensors: those of quantized layers, and the rest."""

    def __init__(
        self, folder: Path, config: PretrainedConfig, form: Format, stored: Mapping[str, Any], part: Part | None
    ) -> None:
        self._folder, self._form, self._stored, self._part = folder, form, stored, part
        self._files = WeightFiles(folder)
        self._left_out = getattr(family_of(config), "_keys_to_ignore_on_load_unexpected", None) or ()
        split = {name: form.split(name) for name in self._files.names}
        quantized = {layer for layer, leaf in split.values() if leaf in form.marks}
        self._layers: dict[str, dict[str, str]] = {}  # by layer, then by part: the tensor's name
        for name, (layer, leaf) in split.items():
            if layer in quantized and leaf not in IGNORED:
                self._layers.setdefault(layer, {})[leaf] = name

    def coded(self) -> Iterator[tuple[str, CodedWeight]]:
        """Each quantized layer by name, of a rank its part, read and decoded as it is asked for."""
        for layer, names in self._layers.items():
            if any(re.search(pattern, layer) for pattern in self._left_out):  # what transformers does not load either
                continue
            parts = {leaf: self._files.whole(name) for leaf, name in names.items()}
            for name, own in _experts_apart(layer, parts) if self._form.stacked else ((layer, parts),):
                try:
                    weight = self._form.read(own, self._stored)
                except (KeyError, ValueError) as error:
                    raise BrokenModel(f"cannot load {self._folder}: {name} has no good {error}") from error
                yield name, weight if self._part is None else self._part.of(name, weight)

    def rest(self) -> dict[str, torch.Tensor]:
        """All other tensors by name, of a rank its parts."""
        held = {name for names in self._layers.values() for name in names.values()}
        names = (name for name in self._files.names if name not in held and not _is_ignored(name))
        if self._part is None:
            return {name: self._files.whole(name) for name in names}
        plan, division = self._part.plan, self._part.division
        return {name: read_share(self._files, name, plan, division) for name in names}


def _experts_apart(layer: str, parts: Parts) -> Iterator[tuple[str, Parts]]:
    """Tensors of all experts to those of each."""
    home, _, last = layer.rpartition(".")
    for number in range(len(next(iter(parts.values())))):
        yield f"{home}.{number}.{last}", {leaf: tensor[number] for leaf, tensor in parts.items()}


def _is_ignored(name: str) -> bool:
    leaf = name.rpartition(".")[2]
    return leaf in IGNORED and leaf != "bias"


def _put(model: nn.Module, coded: Mapping[str, CodedWeight]) -> None:
    """Coded layers and experts in the places of the model's own."""
    experts: dict[str, dict[tuple[int, str], CodedWeight]] = {}
    for name, weight in coded.items():
        found = _EXPERT.fullmatch(name)
        if found is None:
            _put_linear(model, name, weight)
        else:
            experts.setdefault(found["experts"], {})[int(found["number"]), found["part"]] = weight
    for name, matrices in experts.items():
        _put_experts(model, name, matrices)


def _put_linear(model: nn.Module, name: str, weight: CodedWeight) -> None:
    old = _submodule(model, name)
    if old is None or not _fits(old, weight):
        raise UnsupportedModel(f"the checkpoint has quantized weights {weight.shape} for {name}, no such linear layer")
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, CodedLinear(weight, cast("nn.Parameter | None", old.bias)))


def _fits(module: nn.Module, weight: CodedWeight) -> bool:
    shape = getattr(module._parameters.get("weight"), "shape", ())
    return tuple(shape[::-1] if type(module).__name__ == "Conv1D" else shape) == weight.shape


def _put_experts(model: nn.Module, name: str, matrices: Mapping[tuple[int, str], CodedWeight]) -> None:
    module: Any = _submodule(model, name) or _submodule(model, name.replace(*_RENAMED))
    if module is None or not are_experts(module):
        raise UnsupportedModel(f"the checkpoint has quantized experts at {name}, where this model has none that fit")
    is_interleaved = module.is_transposed  # gpt-oss: gates and values alternate, so that neither stands by itself
    coded, experts = [], take_experts(module)
    if max(number for number, _ in matrices) >= len(experts):
        raise BrokenModel(f"{name} has more experts than config.json says")
    for number, whole in enumerate(experts):
        own = {part: weight for (at, part), weight in matrices.items() if at == number}
        up = next((tuple(own[p] for p in parts) for parts in _GATE_AND_UP if own.keys() >= set(parts)), ())
        down = next((own[part] for part in _DOWN if part in own), None)
        if down is None or not up or (is_interleaved and len(up) > 1):
            raise UnsupportedModel(f"expert {number} of {name} is quantized in part, or lacks weights: {sorted(own)}")
        if (sum(each.shape[0] for each in up), down.shape) != (whole.up.shape[0], tuple(whole.down.shape)):
            raise BrokenModel(f"the weights of expert {number} of {name} do not fit config.json")
        coded.append(CodedExpert((beside(up),) if fit_beside(up) else up, down))
    module.coded_experts = coded
    module._is_hf_initialized = True  # else transformers would draw numbers for the tensors that it has no more


def _submodule(model: nn.Module, name: str) -> nn.Module | None:
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None
