"""Quantized checkpoints made from a family's tiny model, number by number as their formats are described.

What it is for: each maker takes a linear weight (out, in) and returns the tensors that its format stores, and the
weight that they stand for, computed on the way in floating point. `quantized_copy` makes a whole folder and the model
that it should equal. What may not enter: the code under test.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]
Maker = Callable[[torch.Tensor], tuple[Tensors, torch.Tensor]]

LINEAR = ("_proj.weight", ".dense.weight", ".fc1.weight", ".fc2.weight", ".w1.weight", ".w2.weight", ".w3.weight")


def quantized_copy(
    source: Path, target: Path, maker: Maker, settings: Mapping[str, Any], endings: tuple[str, ...] = LINEAR
) -> Path:
    """`target` becomes the quantized checkpoint; the folder returned holds the model that it stands for."""
    tensors, exact = load_file(source / "model.safetensors"), {}
    written: Tensors = {}
    for name, tensor in tensors.items():
        if name.endswith(endings):
            made, exact[name] = maker(tensor.float())
            written |= {f"{name.removesuffix('weight')}{leaf}": part.contiguous() for leaf, part in made.items()}
        else:
            written[name] = exact[name] = tensor
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    model = target / "exact"
    model.mkdir(parents=True)
    for folder, content, extra in ((target, written, {"quantization_config": dict(settings)}), (model, exact, {})):
        save_file(content, folder / "model.safetensors", {"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config | extra), encoding="utf-8")
    return model


def gptq(bits: int, group: int, *, act_order: bool = False, v2: bool = False) -> Maker:
    """Codes down the inputs, 32 / bits to a word; zeros less one in the first format."""

    def make(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        inputs = weight.shape[1]
        order = (
            torch.randperm(inputs, generator=torch.Generator().manual_seed(0)) if act_order else torch.arange(inputs)
        )
        index = torch.empty(inputs, dtype=torch.int32)
        index[order] = (torch.arange(inputs) // group).int()
        codes, scales, zeros = _grouped(weight, index, bits)
        exact = (codes - zeros[:, index.long()]) * scales[:, index.long()]
        stored = zeros if v2 else zeros - 1
        tensors = {
            "qweight": _packed_down(codes.T, bits),
            "qzeros": _packed_down(stored, bits).T,
            "scales": scales.T,
            "g_idx": index,
        }
        return tensors, exact

    return make


def awq(group: int) -> Maker:
    """Codes across the outputs, eight to a word, in the order 0 2 4 6 1 3 5 7."""

    def make(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        index = (torch.arange(weight.shape[1]) // group).int()
        codes, scales, zeros = _grouped(weight, index, 4)
        exact = (codes - zeros[:, index.long()]) * scales[:, index.long()]
        order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])

        def packed(rows: torch.Tensor) -> torch.Tensor:
            shuffled = rows.reshape(rows.shape[0], -1, 8)[..., order].reshape(rows.shape)
            return _packed_down(shuffled.T, 4).T

        return {"qweight": packed(codes.T), "qzeros": packed(zeros.T), "scales": scales.T}, exact

    return make


def float8(block: int | None) -> Maker:
    """A scale for each block of outputs and inputs, or (None) for each output."""

    def make(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        outputs, inputs = weight.shape
        high, wide = (1, inputs) if block is None else (block, block)
        scales = torch.empty(math.ceil(outputs / high), math.ceil(inputs / wide))
        codes, exact = torch.empty(outputs, inputs, dtype=torch.float8_e4m3fn), torch.empty_like(weight)
        for i in range(scales.shape[0]):
            for j in range(scales.shape[1]):
                place = slice(i * high, (i + 1) * high), slice(j * wide, (j + 1) * wide)
                scales[i, j] = weight[place].abs().max().clamp(min=1e-8) / 448
                codes[place] = (weight[place] / scales[i, j]).to(torch.float8_e4m3fn)
                exact[place] = codes[place].float() * scales[i, j]
        return {"weight": codes, ("weight_scale" if block is None else "weight_scale_inv"): scales}, exact

    return make


def int8() -> Maker:
    """compressed-tensors' int-quantized: signed numbers, a scale an output."""

    def make(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        scales = weight.abs().amax(1, keepdim=True).clamp(min=1e-8) / 127
        codes = (weight / scales).round()
        return {"weight": codes.to(torch.int8), "weight_scale": scales}, codes * scales

    return make


def int4_packed(group: int) -> Maker:
    """compressed-tensors' pack-quantized: signed numbers moved up by eight, along the inputs, eight to a word."""

    def make(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        groups = weight.reshape(weight.shape[0], -1, group)
        scales = groups.abs().amax(2).clamp(min=1e-8) / 7
        codes = (groups / scales[..., None]).round().clamp(-8, 7)
        packed = _packed_down(codes.reshape(weight.shape).T + 8, 4).T
        tensors = {"weight_packed": packed, "weight_scale": scales, "weight_shape": torch.tensor(weight.shape)}
        return tensors, (codes * scales[..., None]).reshape(weight.shape)

    return make


def mxfp4_copy(source: Path, target: Path) -> None:
    """gpt-oss with its experts as they are published: codes and scales at random, which stand for other weights."""
    tensors, generator = load_file(source / "model.safetensors"), torch.Generator().manual_seed(3)
    for name in [name for name in tensors if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, inputs, outputs = tensors.pop(name).shape
        shape = (experts, outputs, inputs // 32)
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8, generator=generator)
        tensors[f"{name}_scales"] = torch.randint(122, 126, shape, dtype=torch.uint8, generator=generator)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _grouped(weight: torch.Tensor, index: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(codes (out, in), scales (out, groups), zeros (out, groups)) of unsigned codes between a group's extremes."""
    groups, most = int(index.max()) + 1, 2**bits - 1
    scales, zeros = torch.empty(weight.shape[0], groups), torch.empty(weight.shape[0], groups)
    codes = torch.empty_like(weight)
    for g in range(groups):
        part = weight[:, index == g]
        low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
        scales[:, g] = (high - low) / most
        zeros[:, g] = (-low / scales[:, g]).round().clamp(1, most)
        codes[:, index == g] = (part / scales[:, g, None] + zeros[:, g, None]).round().clamp(0, most)
    return codes, scales, zeros


def _packed_down(rows: torch.Tensor, bits: int) -> torch.Tensor:
    """(n, columns) codes to int32 (n · bits / 32, columns), the first in the lowest bits; three bits may be parted."""
    words = torch.zeros(rows.shape[0] * bits // 32, rows.shape[1], dtype=torch.int64)
    for i, row in enumerate(rows.long()):
        word, place = divmod(bits * i, 32)
        words[word] |= (row << place) & (2**32 - 1)
        if place + bits > 32:
            words[word + 1] |= row >> (32 - place)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)
