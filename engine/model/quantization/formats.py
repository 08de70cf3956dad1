"""What a quantized layer's tensors mean, format by format: each a function from tensors to codes.

What it is for: GPTQ, AWQ, float8, compressed-tensors and MXFP4, read without the packages that made them. What may not
enter: files, models, names of layers (`checkpoints` has those).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from engine.model.errors import UnsupportedModel
from engine.model.quantization.coded import CodedWeight
from engine.model.unfolding import Kind

Parts = Mapping[str, torch.Tensor]  # a layer's tensors, by the last part of their names
Reader = Callable[[Parts, Mapping[str, Any]], CodedWeight]
Integers = NDArray[np.int64]

_AWQ_COLUMNS = (0, 2, 4, 6, 1, 3, 5, 7)  # which output each nibble of a word holds
IGNORED = frozenset({"bias", "k_scale", "v_scale", "q_scale", "input_scale", "input_zero_point", "activation_scale"})


def gptq(parts: Parts, settings: Mapping[str, Any]) -> CodedWeight:
    """qweight int32 (in · bits / 32, out), qzeros (groups, out · bits / 32), scales (groups, out), g_idx (in,).

    Frantar et al. 2022, arXiv:2210.17323; the layout is AutoGPTQ's. Its first format stores zeros less one. Codes of
    three bits run on from word to word; those of two and three are held in four.
    """
    bits = int(settings["bits"])
    _expect(bits in {2, 3, 4, 8}, f"gptq with {bits} bits; 2, 3, 4 and 8 are served")
    stored_as = settings.get("checkpoint_format") or ("marlin" if settings.get("is_marlin_format") else "gptq")
    _expect(stored_as in {"gptq", "gptq_v2"}, f"gptq in the format {stored_as}; gptq and gptq_v2 are served")
    codes = _words(parts["qweight"].T, bits)  # (out, in)
    zeros = _words(parts["qzeros"], bits)
    if stored_as == "gptq":
        zeros = (zeros + 1) & (2**bits - 1)
    inputs, groups = codes.shape[1], zeros.shape[0]
    group = int(settings["group_size"]) if int(settings["group_size"]) > 0 else inputs
    order = None
    if "g_idx" in parts:
        index = parts["g_idx"].numpy()
        if not np.array_equal(index, np.arange(inputs) // group):
            order = np.argsort(index, kind="stable")
            _expect(
                np.array_equal(index[order], np.arange(inputs) // group), "gptq with groups of unequal sizes (g_idx)"
            )
            codes = codes[:, order]
    _expect(zeros.shape[1] >= codes.shape[0] and groups == -(-inputs // group), "gptq with odd group sizes")
    return CodedWeight(
        codes.astype(np.uint8),
        _floats(parts["scales"].T),
        group,
        bits=max(bits, 4),
        offsets=np.ascontiguousarray(zeros.T[: codes.shape[0]], np.float32),
        order=order,
    )


def awq(parts: Parts, settings: Mapping[str, Any]) -> CodedWeight:
    """qweight int32 (in, out / 8), qzeros (groups, out / 8), scales (groups, out).

    Lin et al. 2023, arXiv:2306.00978; the layout is AutoAWQ's for matrix products ("gemm").
    """
    bits, version = int(settings.get("bits", 4)), str(settings.get("version", "gemm")).lower()
    _expect(bits == 4 and version == "gemm", f"awq with {bits} bits in the layout {version}; 4 bits in gemm are served")
    codes, zeros = (_awq_words(parts[name]) for name in ("qweight", "qzeros"))
    inputs = codes.shape[0]
    group = int(settings["group_size"]) if int(settings["group_size"]) > 0 else inputs
    return CodedWeight(
        np.ascontiguousarray(codes.T.astype(np.uint8)),
        _floats(parts["scales"].T),
        group,
        bits=4,
        offsets=np.ascontiguousarray(zeros.T, np.float32),
    )


def float8(parts: Parts, settings: Mapping[str, Any]) -> CodedWeight:
    """weight float8_e4m3fn (out, in) and a scale of all, of each output, or of each block of outputs and inputs.

    `weight_scale_inv` (DeepSeek's, transformers' "fp8") and `weight_scale` are both what a code is multiplied by.
    """
    weight = parts["weight"]
    _expect(weight.dtype == torch.float8_e4m3fn, f"float8 weights as {weight.dtype}; float8_e4m3fn is served")
    given = parts["weight_scale_inv"] if "weight_scale_inv" in parts else parts["weight_scale"]
    _expect(given.is_floating_point() and given.dtype.itemsize > 1, f"float8 with scales as {given.dtype}")
    scales, group = _spread(given, tuple(weight.shape), settings.get("weight_block_size"))
    return CodedWeight(weight.view(torch.uint8).numpy(), scales, group, kind=Kind.FLOAT8)


def compressed_tensors(parts: Parts, settings: Mapping[str, Any]) -> CodedWeight:
    """weight_packed int32 (out, in · bits / 32), or weight int8 or float8 (out, in), with scales and maybe zeros.

    The format is the package's own (docs of compressed-tensors: pack-quantized, int-quantized, float-quantized).
    """
    odd = sorted(parts.keys() - _COMPRESSED - IGNORED)
    _expect(not odd, f"compressed-tensors with {odd[0] if odd else ''}")
    if "weight_packed" not in parts and parts["weight"].dtype == torch.float8_e4m3fn:
        return float8(parts, {"weight_block_size": _block_structure(settings)})
    if "weight_packed" in parts:
        packed = parts["weight_packed"]
        outputs, inputs = (int(n) for n in parts["weight_shape"])
        bits = 4 if packed.shape[1] == -(-inputs // 8) else 8
        _expect(packed.shape[1] == -(-inputs * bits // 32), "compressed-tensors with other than 4 or 8 bits")
        codes = _words(packed, bits)[:, :inputs]
    else:
        _expect(parts["weight"].dtype == torch.int8, f"compressed-tensors with weights as {parts['weight'].dtype}")
        codes, bits = parts["weight"].numpy().astype(np.int64) + 128, 8
        outputs, inputs = codes.shape
    scales, group = _spread(parts["weight_scale"], (outputs, inputs), None)
    zeros = _compressed_zeros(parts.get("weight_zero_point"), scales.shape, bits)
    order = None
    if "weight_g_idx" in parts and not np.array_equal(parts["weight_g_idx"].numpy(), np.arange(inputs) // group):
        index = parts["weight_g_idx"].numpy()
        order = np.argsort(index, kind="stable")
        _expect(np.array_equal(index[order], np.arange(inputs) // group), "compressed-tensors with odd g_idx")
        codes = codes[:, order]
    return CodedWeight(
        np.ascontiguousarray(codes.astype(np.uint8)), scales, group, bits=bits, offsets=zeros, order=order
    )


def mxfp4(parts: Parts, _settings: Mapping[str, Any]) -> CodedWeight:
    """blocks uint8 (out, in / 32, 16), scales uint8 (out, in / 32): an expert of gpt-oss as it is published.

    Two float4_e2m1fn to a byte, the first in the low half; the scale is a power of two with a bias of 127 (OCP
    Microscaling Formats 1.0, section 5.3).
    """
    blocks, scales = parts["blocks"].numpy(), parts["scales"].numpy()
    _expect(blocks.ndim == 3 and blocks.shape[2] == 16, f"mxfp4 in blocks {blocks.shape}; (outputs, groups, 16)")
    codes = np.stack([blocks & 15, blocks >> 4], -1).reshape(len(blocks), -1)
    powers = np.ldexp(np.float32(1), scales.astype(np.int32) - 127)
    return CodedWeight(codes, powers, 32, kind=Kind.TABLE, bits=4, table=_FLOAT4)


_FLOAT4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
_COMPRESSED = frozenset(
    {"weight", "weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx"}
)


@dataclass(frozen=True, slots=True)
class Format:
    """How a scheme stores layers: tensors named layer, joint, part; a layer with one of `marks` is quantized."""

    read: Reader
    marks: frozenset[str]
    joint: str = "."
    stacked: bool = False  # a layer's tensors hold all experts, along their first dimension

    def split(self, name: str) -> tuple[str, str]:
        """A tensor's name to (layer, part)."""
        layer, _, part = name.rpartition(self.joint)
        return layer, part


FORMATS: Mapping[str, Format] = {
    "gptq": Format(gptq, frozenset({"qweight"})),
    "awq": Format(awq, frozenset({"qweight"})),
    "fp8": Format(float8, frozenset({"weight_scale_inv", "weight_scale"})),
    "fbgemm-fp8": Format(float8, frozenset({"weight_scale"})),
    "compressed-tensors": Format(compressed_tensors, frozenset({"weight_packed", "weight_scale"})),
    "mxfp4": Format(mxfp4, frozenset({"blocks"}), joint="_", stacked=True),
}


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise UnsupportedModel(f"{what}: not served on a CPU")


def _words(packed: torch.Tensor, bits: int) -> Integers:
    """int32 (rows, words) to (rows, words · 32 / bits), the lowest bits first."""
    words = packed.contiguous().numpy().view(np.uint32)
    if 32 % bits == 0:
        shifts = np.arange(0, 32, bits, dtype=np.uint32)
        return (words[..., None] >> shifts & np.uint32(2**bits - 1)).reshape(words.shape[0], -1).astype(np.int64)
    single = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    codes: Integers = single.reshape(words.shape[0], -1, bits).astype(np.int64) @ (1 << np.arange(bits))
    return codes


def _awq_words(packed: torch.Tensor) -> Integers:
    """int32 (rows, words) to (rows, 8 · words): a word's nibbles are not in order."""
    nibbles = _words(packed, 4).reshape(packed.shape[0], -1, 8)
    columns = np.empty_like(nibbles)
    columns[..., _AWQ_COLUMNS] = nibbles
    return cast("Integers", columns.reshape(packed.shape[0], -1))


def _floats(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.float().contiguous().numpy()
    return array


def _spread(scales: torch.Tensor, shape: tuple[int, ...], block: Any) -> tuple[NDArray[np.float32], int]:
    """((out, groups) scales, inputs in a group), of scales of all, of outputs, of groups, or of blocks."""
    outputs, inputs = shape
    given = _floats(scales)
    if given.size == 1:
        return np.full((outputs, 1), given.reshape(-1)[0], np.float32), inputs
    given = given.reshape(given.shape[0], -1)
    if given.shape[0] != outputs:
        _expect(block is not None, f"scales {given.shape} for weights {shape}")
        high, wide = (int(n) for n in block)
        return np.repeat(given, high, axis=0)[:outputs], wide
    groups = given.shape[1]
    group = int(block[1]) if block is not None and groups > 1 else -(-inputs // groups)
    _expect(groups == -(-inputs // group), f"{groups} groups of {inputs} inputs")
    return given, group


def _compressed_zeros(zeros: torch.Tensor | None, shape: tuple[int, ...], bits: int) -> NDArray[np.float32]:
    """What to subtract from codes, which are the signed numbers plus half their range."""
    half = 2 ** (bits - 1)
    if zeros is None:
        return np.full(shape, half, np.float32)
    if zeros.dtype == torch.int32 and tuple(zeros.shape) != shape:  # packed along the outputs
        return np.ascontiguousarray(_words(zeros.T, bits).T[: shape[0]], np.float32)
    return np.broadcast_to(zeros.float().numpy().reshape(zeros.shape[0], -1) + half, shape).astype(np.float32)


def _block_structure(settings: Mapping[str, Any]) -> Any:
    """The block of the first group of layers that has one."""
    groups = (settings.get("config_groups") or {}).values()
    return next((w["block_structure"] for g in groups if (w := g.get("weights") or {}).get("block_structure")), None)
