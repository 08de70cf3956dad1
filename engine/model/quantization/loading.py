"""Loading a model whose weights are quantized, or are to be.

What it is for: `load_quantized` picks the way of a scheme on a device; `size_of` and `stored_bytes` count what no
parameter's shape tells any more. What may not enter: what a scheme is (`schemes`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from engine.model.config import RunnerConfig
from engine.model.errors import BrokenModel, UnsupportedModel
from engine.model.loading import load_model
from engine.model.quantization import requests
from engine.model.quantization.checkpoints import is_read_here, load_coded
from engine.model.quantization.coded import CodedLinear
from engine.model.quantization.libraries import code_linears, mend_zero_rows
from engine.model.quantization.schemes import Quantization

_auto: Any = AutoModelForCausalLM  # half typed


def load_quantized(
    config: RunnerConfig,
    settings: PretrainedConfig,
    quantization: Quantization,
    dtype: torch.dtype,
    device: torch.device,
) -> PreTrainedModel:
    """The model in evaluation mode, on its device; on a CPU with coded layers. Raises as `load_model`, and by name."""
    outline = outline_of(settings, trust=config.trust_remote_code)
    stored, scheme = quantization.stored, quantization.scheme
    if device.type == "cpu" and stored is not None and is_read_here(scheme.name):
        model = load_coded(Path(config.path), settings, scheme.name, stored)
    else:
        request = requests.request_of(quantization, outline.inputs, device, dtype)
        told = {"device_map": {"": device}, **({} if request is None else {"quantization_config": request})}
        model = _by_package(config, settings, quantization, dtype, told)
        mend_zero_rows(model)
        if device.type == "cpu":
            code_linears(model)
    model.formwork_parameters = outline.numbers  # type: ignore[assignment]
    return model


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
    requests.quantize_share(model, quantization.scheme.name, device)
    mend_zero_rows(model)
    if device.type == "cpu":
        code_linears(model)


@dataclass(frozen=True, slots=True)
class Outline:
    """What a model's configuration says of its weights."""

    numbers: int  # tied ones once
    inputs: frozenset[int]  # of its linear layers, the head's apart


def outline_of(config: PretrainedConfig, *, trust: bool = False) -> Outline:
    """Found without weights. Raises UnsupportedModel for experts, which no scheme here would touch."""
    plain = copy.deepcopy(config)
    if hasattr(plain, "quantization_config"):
        del plain.quantization_config
    with torch.device("meta"):
        skeleton = _auto.from_config(plain, trust_remote_code=trust)
    if any(parameter.ndim == 3 for parameter in skeleton.parameters()):
        raise UnsupportedModel(f"the experts of {config.model_type} would stay as they are; dense models are quantized")
    return Outline(
        sum(parameter.numel() for parameter in skeleton.parameters()),
        frozenset(layer.in_features for layer in requests.inner_linears(skeleton)),
    )


def stored_bytes(model: nn.Module) -> int:
    """What all weights take, quantized ones with their scales, tied ones once."""
    return sum({id(tensor): tensor.nbytes for tensor in _tensors(model)}.values()) + sum(
        module.weight.nbytes for module in model.modules() if isinstance(module, CodedLinear)
    )


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    for tensor in (*model.parameters(), *model.buffers()):
        parts = getattr(tensor, "__tensor_flatten__", None)
        if parts is None:
            yield tensor
        else:  # torchao's: a tensor made of tensors
            yield from (inner for name in parts()[0] if (inner := getattr(tensor, name)) is not None)
