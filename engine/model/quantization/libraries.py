"""What other packages made of linear layers, as codes: torchao's tensors, bitsandbytes' layers.

What it is for: on a CPU the package that knows a scheme quantizes, and our products multiply. What may not enter:
importing those packages (their classes are known by name; a model without them never loads them).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.model.errors import UnsupportedModel
from engine.model.quantization.coded import CodedLinear, CodedWeight
from engine.model.replacing import replace_modules
from engine.model.unfolding import Kind


def code_linears(model: nn.Module) -> int:
    """Takes every quantized layer's codes out of its package's module; how many those were. Raises UnsupportedModel."""

    def coded(layer: nn.Module) -> nn.Module | None:
        weight = _coded(layer)
        return None if weight is None else CodedLinear(weight, layer.bias)  # type: ignore[arg-type]

    return replace_modules(model, coded)


def mend_zero_rows(model: nn.Module) -> None:
    """Outputs without any weight: torchao's float8 gives them the scale 0 and codes 0 / 0, so NaN. In place."""
    for module in model.modules():
        weight: Any = module._parameters.get("weight")
        if type(weight).__name__ == "Float8Tensor":
            empty = weight.scale == 0
            weight.qdata.view(torch.uint8).masked_fill_(empty.expand(weight.qdata.shape), 0)
            weight.scale.masked_fill_(empty, 1)


def _coded(layer: Any) -> CodedWeight | None:
    weight = getattr(layer, "_parameters", {}).get("weight")
    if weight is None or type(weight) in {nn.Parameter, torch.Tensor}:
        return None
    reader = _LAYERS.get(type(layer).__name__) or _TENSORS.get(type(weight).__name__)
    if reader is None:
        raise UnsupportedModel(f"quantized weights as {type(weight).__name__} are not served on a CPU")
    return reader(layer)


def _int8_tensor(layer: Any) -> CodedWeight:
    """torchao's Int8Tensor: qdata (out, in), scale (out, groups), zero_point likewise or None."""
    weight = layer.weight
    return _integers(weight.qdata, weight.scale, weight.zero_point, weight.block_size[-1], bits=8)


def _unpacked_tensor(layer: Any) -> CodedWeight:
    """torchao's IntxUnpackedToInt8Tensor: numbers of fewer bits, one to a byte until they are packed here."""
    weight = layer.weight
    bits = 4 if str(weight.target_dtype) == "torch.int4" else 8
    return _integers(weight.qdata, weight.scale, weight.zero_point, weight.block_size[-1], bits=bits)


def _float8_tensor(layer: Any) -> CodedWeight:
    """torchao's Float8Tensor: qdata float8_e4m3fn (out, in), scale (out, 1)."""
    weight = layer.weight
    codes = weight.qdata.contiguous().view(torch.uint8).numpy()
    outputs, inputs = codes.shape
    scales = np.broadcast_to(weight.scale.float().numpy().reshape(-1, 1), (outputs, 1)).astype(np.float32)
    return CodedWeight(codes, scales, inputs, kind=Kind.FLOAT8)


def _linear_8bit(layer: Any) -> CodedWeight:
    """bitsandbytes' Linear8bitLt: CB int8 (out, in), SCB the greatest magnitude of each output, 127 of which is 1.

    Its own product also rounds activations to eight bits; here they stay float32.
    """
    weight = layer.weight
    codes, largest = (weight.data, weight.SCB) if weight.data.dtype == torch.int8 else _vectorwise(weight.data)
    return _integers(codes, largest[:, None] / 127, None, codes.shape[1], bits=8)


def _vectorwise(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """LLM.int8()'s weights (arXiv:2208.07339, section 2.1), which bitsandbytes makes at the first product."""
    largest = weight.abs().amax(1).float()
    return (weight.float() * (127 / largest.clamp(min=1e-30))[:, None]).round().to(torch.int8), largest


def _linear_4bit(layer: Any) -> CodedWeight:
    """bitsandbytes' Linear4bit: two codes to a byte, the first in the high half; a scale a block along the inputs."""
    state = layer.weight.quant_state
    absmax = _plain_absmax(state)
    outputs, inputs = (int(n) for n in state.shape)
    if inputs % state.blocksize:
        raise UnsupportedModel(
            f"bitsandbytes with 4 bits needs inputs in multiples of {state.blocksize} on a CPU; a layer has {inputs}"
        )
    packed = layer.weight.data.contiguous().view(torch.uint8).reshape(-1).numpy()
    codes = np.stack([packed >> 4, packed & 15], 1).reshape(outputs, inputs)
    table: NDArray[np.float32] = state.code.float().numpy()
    return CodedWeight(
        codes, absmax.reshape(outputs, -1), int(state.blocksize), kind=Kind.TABLE, bits=4, table=table.copy()
    )


def _plain_absmax(state: Any) -> NDArray[np.float32]:
    """The blocks' scales, which "double quantization" holds in eight bits themselves (arXiv:2305.14314)."""
    if not state.nested:
        return np.asarray(state.absmax.float().numpy())
    inner = state.state2
    codes = state.absmax.numpy().astype(np.int64)
    scales = np.repeat(inner.absmax.float().numpy(), inner.blocksize)[: codes.size]
    return np.asarray(inner.code.float().numpy()[codes] * scales + float(state.offset), np.float32)


def _integers(
    codes: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None, group: int, *, bits: int
) -> CodedWeight:
    """Of signed numbers: moved up by half their range."""
    half = 2 ** (bits - 1)
    moved = (codes.to(torch.int16) + half).to(torch.uint8).contiguous().numpy()
    grid = scales.float().reshape(moved.shape[0], -1).contiguous().numpy()
    offsets = np.full(grid.shape, half, np.float32)
    if zeros is not None:
        offsets += zeros.float().reshape(grid.shape).numpy()
    return CodedWeight(moved, grid, group, bits=bits, offsets=offsets)


_TENSORS: Mapping[str, Callable[[Any], CodedWeight]] = {
    "Int8Tensor": _int8_tensor,
    "IntxUnpackedToInt8Tensor": _unpacked_tensor,
    "Float8Tensor": _float8_tensor,
}
_LAYERS: Mapping[str, Callable[[Any], CodedWeight]] = {
    "Linear8bitLt": _linear_8bit,
    "Linear4bit": _linear_4bit,
}
