"""What transformers is asked for, scheme by scheme: one configuration object each.

What it is for: schemes whose weights a package makes or reads. What may not enter: checks of devices and packages
(`schemes` has made them), what is read here (`checkpoints`).
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from typing import Any

import torch
import transformers
from torch import nn

from engine.model.errors import UnsupportedModel
from engine.model.quantization.schemes import Quantization

_GROUPS = (128, 64, 32)  # inputs with an int4 scale in common, the widest that divides every layer's inputs
_transformers: Any = transformers  # its configurations are half typed
_dtypes: Any = torch  # knows int4 at run time only


def request_of(quantization: Quantization, inputs: Collection[int], device: torch.device, dtype: torch.dtype) -> Any:
    """The quantization_config for `from_pretrained`, or None where the checkpoint's own says it all.

    `inputs`: how many the linear layers and experts have, the head's apart.
    """
    name = quantization.scheme.name
    if quantization.stored is None:
        return _made(name, inputs, device, dtype)
    if quantization.kernels:
        method = str(quantization.stored["quant_method"])
        kind = _transformers.GPTQConfig if method == "gptq" else _transformers.AwqConfig
        return kind(bits=int(quantization.stored.get("bits", 4)), backend=quantization.kernels)
    if name == "compressed-tensors":
        return _compressed(quantization.stored)
    return None


def _compressed(stored: Mapping[str, Any]) -> Any:
    """float8 stays as it is, for torch's scaled products; transformers has no products for the others: unfolded."""
    groups = (stored.get("config_groups") or {}).values()
    weights = [group.get("weights") or {} for group in groups]
    float8 = any(each.get("type") == "float" and each.get("num_bits") == 8 for each in weights)
    return _transformers.CompressedTensorsConfig(use_optimized_inference=float8, dequantize=not float8)


def _made(name: str, inputs: Collection[int], device: torch.device, dtype: torch.dtype) -> Any:
    if name == "bitsandbytes":
        return _transformers.BitsAndBytesConfig(load_in_8bit=True)
    if name.startswith("bitsandbytes-"):
        kind = name.removeprefix("bitsandbytes-")
        four = {"load_in_4bit": True, "bnb_4bit_quant_type": kind, "bnb_4bit_compute_dtype": dtype}
        return _transformers.BitsAndBytesConfig(**four)
    if name == "eetq":
        return _transformers.EetqConfig("int8")
    return _transformers.TorchAoConfig(torchao_config(name, inputs, device))


def torchao_config(name: str, inputs: Collection[int], device: torch.device) -> Any:
    """torchao's own configuration of a scheme: weights alone on a CPU, float8 on both sides where a GPU has that."""
    if not inputs:
        raise UnsupportedModel(f"{name}: this family has no linear layers of torch's, which torchao quantizes")
    torchao: Any = importlib.import_module("torchao.quantization")
    if name == "torchao-int8":
        return torchao.Int8WeightOnlyConfig(version=2)
    if name == "torchao-int4":
        group = int4_group(inputs)
        if device.type == "cpu":
            return torchao.IntxWeightOnlyConfig(weight_dtype=_dtypes.int4, granularity=torchao.PerGroup(group))
        return torchao.Int4WeightOnlyConfig(group_size=group, int4_packing_format="tile_packed_to_4d")
    if device.type == "cpu":
        return torchao.Float8WeightOnlyConfig()
    return torchao.Float8DynamicActivationFloat8WeightConfig(granularity=torchao.PerRow())


def int4_group(inputs: Collection[int]) -> int:
    """The widest group that divides every layer's inputs."""
    found = next((group for group in _GROUPS if all(width % group == 0 for width in inputs)), None)
    if found is None:
        widths = ", ".join(map(str, sorted(inputs)))
        raise UnsupportedModel(f"torchao-int4 needs layers whose inputs {_GROUPS[-1]} divides; these have {widths}")
    return found


def quantize_linears(model: nn.Module, name: str, inputs: Collection[int], device: torch.device) -> None:
    """Has torchao quantize linear layers in place, all but the head. `inputs`: of all layers that are made alike."""
    torchao: Any = importlib.import_module("torchao.quantization")
    layers = {id(layer) for layer in inner_linears(model)}
    torchao.quantize_(model, torchao_config(name, inputs, device), filter_fn=lambda module, _: id(module) in layers)


def inner_linears(model: Any) -> list[nn.Linear]:
    """All linear layers but the head."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
