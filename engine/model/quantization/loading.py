"""Loading a model whose weights are quantized, or are to be.

What it is for: `load_quantized` picks the way of a scheme on a device; `size_of` and `stored_bytes` count what no
parameter's shape tells any more. What may not enter: what a scheme is (`schemes`).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from engine.model.config import RunnerConfig
from engine.model.errors import BrokenModel, UnsupportedModel
from engine.model.experts import experts_of, take_experts
from engine.model.loading import load_model
from engine.model.quantization import requests
from engine.model.quantization.checkpoints import Part, load_coded, load_unfolded
from engine.model.quantization.coded import CodedExpert, CodedLinear, CodedWeight
from engine.model.quantization.libraries import code_linears, mend_zero_rows
from engine.model.quantization.schemes import DIVIDED, Quantization, reads_here

_auto: Any = AutoModelForCausalLM  # half typed


def load_quantized(
    config: RunnerConfig,
    settings: PretrainedConfig,
    quantization: Quantization,
    dtype: torch.dtype,
    device: torch.device,
    part: Part | None = None,
) -> PreTrainedModel:
    """The model in evaluation mode, on its device; on a CPU with coded layers. Raises as `load_model`, and by name.

    `part`: a rank's, of a checkpoint that is read here.
    """
    outline = outline_of(settings, trust=config.trust_remote_code)
    stored, name = quantization.stored, quantization.scheme.name
    model: Any
    if stored is not None and reads_here(quantization, device):
        if device.type == "cpu":
            model = load_coded(Path(config.path), settings, name, stored, part)
        else:
            model = load_unfolded(Path(config.path), settings, name, stored, dtype, part)
            model.to(device)
    else:
        refuse_experts(quantization, outline, device)
        request = requests.request_of(quantization, outline.inputs, device, dtype)
        told = {"device_map": {"": device}, **({} if request is None else {"quantization_config": request})}
        model = _by_package(config, settings, quantization, dtype, told)
        _code_where_served(model, name, outline.inputs, device)
    model.formwork_parameters = outline.numbers
    return cast("PreTrainedModel", model)


def _by_package(
    config: RunnerConfig,
    settings: PretrainedConfig,
    quantization: Quantization,
    dtype: torch.dtype,
    told: dict[str, object],
) -> PreTrainedModel:
    trust = config.trust_remote_code
    try:
        return load_model(config.path, settings, dtype, config.revision, trust=trust, quantization=told)
    except (ImportError, RuntimeError, NotImplementedError) as error:
        raise BrokenModel(f"{quantization.scheme.name}: the package that loads it says: {error}") from error


def quantize_share(model: PreTrainedModel, quantization: Quantization, device: torch.device) -> None:
    """Makes a rank's layers quantized, in place; on a CPU coded."""
    outline = _outline(model)
    refuse_experts(quantization, outline, device)
    requests.quantize_linears(model, quantization.scheme.name, outline.inputs, device)
    _code_where_served(model, quantization.scheme.name, outline.inputs, device)


def _code_where_served(model: nn.Module, name: str, inputs: Collection[int], device: torch.device) -> None:
    """On a CPU the packages' layers give their codes, and experts, which are no layers, are coded one by one."""
    mend_zero_rows(model)
    if device.type != "cpu":
        return
    code_linears(model)
    for _, module in experts_of(model):
        module.coded_experts = [
            CodedExpert((_coded(expert.up, name, inputs),), _coded(expert.down, name, inputs))
            for expert in take_experts(module)
        ]


def _coded(matrix: torch.Tensor, name: str, inputs: Collection[int]) -> CodedWeight:
    """A matrix (out, in), quantized as a linear layer would be."""
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(matrix.contiguous(), requires_grad=False)
    holder = nn.Sequential(layer)
    requests.quantize_linears(holder, name, inputs, torch.device("cpu"))
    mend_zero_rows(holder)
    code_linears(holder)
    return cast("CodedWeight", holder[0].weight)


def refuse_experts(quantization: Quantization, outline: Outline, device: torch.device) -> None:
    """What a package would leave as it is, where we cannot take its place."""
    made_here = device.type == "cpu" and quantization.stored is None and quantization.scheme.name in DIVIDED
    if outline.mixture and not (made_here and outline.codable):
        raise UnsupportedModel(
            f"{quantization.scheme.name} on {device.type}: the experts of {outline.mixture} would stay as they are; "
            f"mixtures are quantized on a CPU, by {', '.join(sorted(DIVIDED))} or from a checkpoint"
        )


@dataclass(frozen=True, slots=True)
class Outline:
    """What a model's shapes say of its weights."""

    numbers: int  # tied ones once
    inputs: frozenset[int]  # of its linear layers and experts, the head's apart
    mixture: str = ""  # the family, if it is one
    codable: bool = True  # are all its experts matrices that we know?


def outline_of(config: PretrainedConfig, *, trust: bool = False) -> Outline:
    """Found without weights."""
    plain = copy.deepcopy(config)
    if hasattr(plain, "quantization_config"):
        del plain.quantization_config
    with torch.device("meta"):
        skeleton = _auto.from_config(plain, trust_remote_code=trust)
    return _outline(skeleton)


def _outline(model: Any) -> Outline:
    stacks = {name: parameter for name, parameter in model.named_parameters() if parameter.ndim == 3}
    known = {f"{name}.{leaf}" for name, _ in experts_of(model) for leaf in ("gate_up_proj", "down_proj")}
    sides = [
        parameter.shape[1 if module.is_transposed else 2]
        for _, module in experts_of(model)
        for parameter in (module.gate_up_proj, module.down_proj)
    ]
    return Outline(
        sum(parameter.numel() for parameter in model.parameters()),
        frozenset((*(layer.weight.shape[1] for layer in requests.inner_linears(model)), *sides)),
        model.config.model_type if stacks else "",
        stacks.keys() <= known,
    )


def stored_bytes(model: nn.Module) -> int:
    """What all weights take, quantized ones with their scales, tied ones once."""
    return sum({id(tensor): tensor.nbytes for tensor in _tensors(model)}.values()) + sum(
        weight.nbytes for module in model.modules() for weight in _codes(module)
    )


def _codes(module: Any) -> Iterator[CodedWeight]:
    if isinstance(module, CodedLinear):
        yield module.weight
    for expert in vars(module).get("coded_experts", ()):
        yield from (*expert.up, expert.down)


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    for tensor in (*model.parameters(), *model.buffers()):
        parts = getattr(tensor, "__tensor_flatten__", None)
        if parts is None:
            yield tensor
        else:  # torchao's: a tensor made of tensors
            yield from (inner for name in parts()[0] if (inner := getattr(tensor, name)) is not None)
