"""Quantized checkpoints on a CPU: read as they are, layer by layer, without the packages that made them.

What it is for: GPTQ, AWQ, float8 and compressed-tensors folders to a model whose linear layers are coded. What may not
enter: products, schemes that are made here (`libraries`).

The idea: a layer's tensors lie beside each other in the file; what they mean is one function of a format. The model is
made with coded layers in the place of those, so its full size is never in memory, and all other tensors are read as
ever.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from engine.model.adapters import attention_name
from engine.model.attention import register_attention
from engine.model.errors import BrokenModel, UnsupportedModel
from engine.model.quantization.coded import CodedLinear, CodedWeight
from engine.model.unfolding import Kind

Parts = Mapping[str, torch.Tensor]  # a layer's tensors, by the last part of their names
Reader = Callable[[Parts, Mapping[str, Any]], CodedWeight]
Integers = NDArray[np.int64]

_AWQ_COLUMNS = (0, 2, 4, 6, 1, 3, 5, 7)  # which output each nibble of a word holds
_IGNORED = frozenset({"bias", "k_scale", "v_scale", "q_scale", "input_scale", "input_zero_point", "activation_scale"})


def gptq(parts: Parts, settings: Mapping[str, Any]) -> CodedWeight:
    """qweight int32 (in · bits / 32, out), qzeros (groups, out · bits / 32), scales (groups, out), g_idx (in,).

    Frantar et al. 2022, arXiv:2210.17323; the layout is AutoGPTQ's. Its first format stores zeros less one.
    """
    bits = int(settings["bits"])
    _expect(bits in {4, 8}, f"gptq with {bits} bits; 4 and 8 are served")
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
        bits=bits,
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
    odd = sorted(parts.keys() - _COMPRESSED - _IGNORED)
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


_COMPRESSED = frozenset(
    {"weight", "weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx"}
)
_READERS: Mapping[str, tuple[Reader, frozenset[str]]] = {  # the second: a layer that has one of these is quantized
    "gptq": (gptq, frozenset({"qweight"})),
    "awq": (awq, frozenset({"qweight"})),
    "fp8": (float8, frozenset({"weight_scale_inv", "weight_scale"})),
    "fbgemm-fp8": (float8, frozenset({"weight_scale"})),
    "compressed-tensors": (compressed_tensors, frozenset({"weight_packed", "weight_scale"})),
}


def is_read_here(scheme: str) -> bool:
    """Does `load_coded` read checkpoints of this scheme?"""
    return scheme in _READERS


def load_coded(folder: Path, config: PretrainedConfig, scheme: str, stored: Mapping[str, Any]) -> PreTrainedModel:
    """The model with coded layers, float32, in evaluation mode. Raises BrokenModel and UnsupportedModel by name."""
    _refuse_settings(stored)
    register_attention()
    plain = copy.deepcopy(config)
    del plain.quantization_config
    known: Any = MODEL_FOR_CAUSAL_LM_MAPPING
    if type(config) not in known:
        raise UnsupportedModel(f"quantized checkpoints of {config.model_type}, which brings its own code")
    reader, marks = _READERS[scheme]
    try:
        coded, rest = _read(folder, marks, lambda parts: reader(parts, stored))
        family: Any = _with_coded(known[type(config)], coded)
        model, report = family.from_pretrained(
            None,
            config=plain,
            state_dict=rest,
            dtype=torch.float32,
            attn_implementation=attention_name(plain),
            output_loading_info=True,
        )
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise BrokenModel(f"cannot load {folder} (weights must be safetensors): {error}") from error
    if report["missing_keys"] or report["mismatched_keys"]:
        lacking = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))
        raise BrokenModel(f"the checkpoint of {folder} lacks {len(lacking)} weights, {lacking[0]} first")
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return cast("PreTrainedModel", model.eval().requires_grad_(False))


def _refuse_settings(stored: Mapping[str, Any]) -> None:
    sparse = stored.get("sparsity_config") or {}
    _expect(sparse.get("format", "dense") == "dense", f"sparse weights ({sparse.get('format')})")
    _expect(not stored.get("transform_config"), "compressed-tensors with transform_config")


def _read(
    folder: Path, marks: frozenset[str], reader: Callable[[Parts], CodedWeight]
) -> tuple[dict[str, CodedWeight], dict[str, torch.Tensor]]:
    """(coded weights by layer, all other tensors by name)."""
    homes = dict(_homes(folder))
    layers: dict[str, list[str]] = {}
    for name in homes:
        layer, _, leaf = name.rpartition(".")
        if leaf in marks:
            layers.setdefault(layer, [])
    for name in homes:
        layer, _, leaf = name.rpartition(".")
        if layer in layers and leaf not in _IGNORED:
            layers[layer].append(name)
    held = {name for names in layers.values() for name in names}
    opened: dict[Path, Any] = {home: safe_open(home, framework="pt") for home in set(homes.values())}

    def tensor(name: str) -> torch.Tensor:
        found: torch.Tensor = opened[homes[name]].get_tensor(name)
        return found

    coded = {
        layer: reader({name.rpartition(".")[2]: tensor(name) for name in names}) for layer, names in layers.items()
    }
    rest = {name: tensor(name) for name in homes if name not in held and not _is_ignored(name)}
    return coded, rest


def _is_ignored(name: str) -> bool:
    leaf = name.rpartition(".")[2]
    return leaf in _IGNORED and leaf != "bias"


def _homes(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every tensor's name and file."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        for name, file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].items():
            yield name, folder / Path(file).name
        return
    with safe_open(folder / "model.safetensors", framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - not a mapping
            yield name, folder / "model.safetensors"


def _with_coded(family: type[PreTrainedModel], coded: Mapping[str, CodedWeight]) -> type[PreTrainedModel]:
    """The family's class, whose instances have coded layers from the start; of the same name."""

    def __init__(self: Any, config: PretrainedConfig, *arguments: Any, **named: Any) -> None:  # noqa: N807
        family.__init__(self, config, *arguments, **named)
        for name, weight in coded.items():
            _put(self, name, weight)

    return type(family.__name__, (family,), {"__init__": __init__, "__module__": family.__module__})


def _put(model: nn.Module, name: str, weight: CodedWeight) -> None:
    parent, _, last = name.rpartition(".")
    try:
        old = model.get_submodule(name)
    except AttributeError:
        old = None
    if old is None or not _fits(old, weight):
        raise UnsupportedModel(f"the checkpoint has quantized weights {weight.shape} for {name}, no such linear layer")
    setattr(model.get_submodule(parent), last, CodedLinear(weight, cast("nn.Parameter | None", old.bias)))


def _fits(module: nn.Module, weight: CodedWeight) -> bool:
    shape = getattr(module._parameters.get("weight"), "shape", ())
    return tuple(shape[::-1] if type(module).__name__ == "Conv1D" else shape) == weight.shape


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise UnsupportedModel(f"{what}: not served on a CPU")


def _words(packed: torch.Tensor, bits: int) -> Integers:
    """int32 (rows, words) to (rows, words · 32 / bits), the lowest bits first."""
    shifts = np.arange(0, 32, bits)
    words = packed.contiguous().numpy().view(np.uint32).astype(np.int64)
    codes: Integers = (words[..., None] >> shifts & (2**bits - 1)).reshape(words.shape[0], -1)
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
