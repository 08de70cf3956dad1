"""What transformers is asked for, scheme by scheme: one configuration object each.

What it is for: schemes whose weights a package makes or reads. What may not enter: checks of devices and packages
(`schemes` has made them), what is read here (`checkpoints`).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PretrainedConfig

from engine.model.errors import UnsupportedModel
from engine.model.quantization.schemes import Quantization

_GROUPS = (128, 64, 32)  # inputs with an int4 scale in common, the widest that divides every layer's inputs
_transformers: Any = transformers  # its configurations are half typed
_dtypes: Any = torch  # knows int4 at run time only


def request_of(quantization: Quantization, config: PretrainedConfig, device: torch.device, dtype: torch.dtype) -> Any:
    """The quantization_config for `from_pretrained`, or None where the checkpoint's own says it all."""
    name = quantization.scheme.name
    if quantization.stored is None:
        return _made(name, config, device, dtype)
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


def _made(name: str, config: PretrainedConfig, device: torch.device, dtype: torch.dtype) -> Any:
    if name == "bitsandbytes":
        return _transformers.BitsAndBytesConfig(load_in_8bit=True)
    if name.startswith("bitsandbytes-"):
        kind = name.removeprefix("bitsandbytes-")
        four = {"load_in_4bit": True, "bnb_4bit_quant_type": kind, "bnb_4bit_compute_dtype": dtype}
        return _transformers.BitsAndBytesConfig(**four)
    if name == "eetq":
        return _transformers.EetqConfig("int8")
    return _transformers.TorchAoConfig(torchao_config(name, config, device))


def torchao_config(name: str, config: PretrainedConfig, device: torch.device) -> Any:
    """torchao's own configuration of a scheme: weights alone on a CPU, float8 on both sides where a GPU has that."""
    torchao: Any = importlib.import_module("torchao.quantization")
    if name == "torchao-int8":
        return torchao.Int8WeightOnlyConfig(version=2)
    if name == "torchao-int4":
        group = int4_group(config)
        if device.type == "cpu":
            return torchao.IntxWeightOnlyConfig(weight_dtype=_dtypes.int4, granularity=torchao.PerGroup(group))
        return torchao.Int4WeightOnlyConfig(group_size=group, int4_packing_format="tile_packed_to_4d")
    if device.type == "cpu":
        return torchao.Float8WeightOnlyConfig()
    return torchao.Float8DynamicActivationFloat8WeightConfig(granularity=torchao.PerRow())


def int4_group(config: PretrainedConfig) -> int:
    """The widest group that divides the inputs of attention and of the feed-forward part."""
    widths = {config.hidden_size, getattr(config, "intermediate_size", None) or config.hidden_size}
    found = next((group for group in _GROUPS if all(width % group == 0 for width in widths)), None)
    if found is None:
        raise UnsupportedModel(f"torchao-int4 needs layers whose inputs {_GROUPS[-1]} divides; these have {widths}")
    return found


def quantize_share(model: nn.Module, name: str, config: PretrainedConfig, device: torch.device) -> None:
    """Quantizes a rank's layers in place, all but the head, which is divided by rows of the vocabulary."""
    torchao: Any = importlib.import_module("torchao.quantization")
    heads = {id(head) for head in _heads(model)}
    torchao.quantize_(
        model,
        torchao_config(name, config, device),
        filter_fn=lambda module, _: type(module) is nn.Linear and id(module) not in heads,
    )


def _heads(model: Any) -> Iterable[nn.Module]:
    head = model.get_output_embeddings()
    return () if head is None else (head,)
