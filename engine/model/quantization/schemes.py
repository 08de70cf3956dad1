"""Which quantization is served, on what, and with which package: one table.

What it is for: `chosen` reads what the operator asked for and what the checkpoint says of itself, and refuses before
any weight is read what cannot be: two different answers, a scheme that needs a calibrated checkpoint, a missing package
(with the line that installs it), a device without the kernels. What may not enter: tensors, transformers' classes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PretrainedConfig

from engine.config import QuantizeName
from engine.model.config import DtypeName
from engine.model.errors import UnsupportedModel
from engine.model.quantization.formats import FORMATS

Packages = tuple[str, ...]

_BITS_AND_BYTES = {device: ("bitsandbytes", "accelerate") for device in ("cpu", "cuda")}
_TORCHAO = {device: ("torchao", "accelerate") for device in ("cpu", "cuda")}
_GPTQ_MODEL = ("gptqmodel", "optimum", "accelerate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One way to hold weights in fewer bits: what it needs, by device, where it is served there at all.

    `made`: from floating point, at start. `read`: from a checkpoint that is quantized so already.
    """

    name: str
    bits: str  # for people
    made: Mapping[str, Packages] = field(default_factory=dict)
    read: Mapping[str, Packages] = field(default_factory=dict)
    extra: str = ""  # of our own package, which brings what it needs
    capability: tuple[int, int] = (7, 0)  # CUDA's least
    dtype: str = ""  # the only one of activations on CUDA; empty: any
    instead: str = ""  # what to do where it is not served


SCHEMES: Mapping[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme(name="bitsandbytes", bits="int8", made=_BITS_AND_BYTES, read=_BITS_AND_BYTES, extra="bitsandbytes"),
        Scheme(name="bitsandbytes-nf4", bits="nf4", made=_BITS_AND_BYTES, read=_BITS_AND_BYTES, extra="bitsandbytes"),
        Scheme(name="bitsandbytes-fp4", bits="fp4", made=_BITS_AND_BYTES, read=_BITS_AND_BYTES, extra="bitsandbytes"),
        Scheme(name="gptq", bits="int4 or int8", read={"cpu": (), "cuda": _GPTQ_MODEL}, extra="gptq"),
        Scheme(
            name="awq",
            bits="int4",
            read={"cpu": (), "cuda": _GPTQ_MODEL},
            extra="awq",
            capability=(7, 5),
            dtype="float16",
        ),
        Scheme(
            name="marlin",
            bits="int4 or int8",
            read={"cuda": _GPTQ_MODEL},
            extra="marlin",
            capability=(8, 0),
            instead="it names kernels of a GPU; leave it out, and the checkpoint is served in its own scheme",
        ),
        Scheme(
            name="eetq",
            bits="int8",
            made={"cuda": ("kernels", "accelerate")},
            read={"cuda": ("kernels", "accelerate")},
            extra="eetq",
            dtype="float16",
            instead="its kernels are a GPU's; torchao-int8 holds the same numbers",
        ),
        Scheme(
            name="fp8",
            bits="float8",
            made=_TORCHAO,
            read={"cpu": (), "cuda": ("kernels", "accelerate")},
            extra="fp8",
            capability=(8, 9),
            dtype="bfloat16",
        ),
        Scheme(
            name="compressed-tensors",
            bits="as its config.json says",
            read={"cpu": (), "cuda": ("compressed-tensors", "accelerate")},
            extra="compressed-tensors",
        ),
        Scheme(name="torchao-int8", bits="int8", made=_TORCHAO, read=_TORCHAO, extra="torchao"),
        Scheme(
            name="torchao-int4",
            bits="int4",
            made=_TORCHAO,
            read=_TORCHAO,
            extra="torchao",
            capability=(8, 0),
            dtype="bfloat16",
        ),
        # Only ever a checkpoint's own word, never a flag's.
        Scheme(name="fbgemm-fp8", bits="float8", read={"cpu": ()}, instead="serve one in the format fp8"),
        Scheme(name="mxfp4", bits="float4", read={"cpu": (), "cuda": ()}),  # gpt-oss as it is published
    )
}
DIVIDED = frozenset({"fp8", "torchao-int8", "torchao-int4"})  # made at start: each rank makes those of its share
_READ_EVERYWHERE = frozenset({"mxfp4"})  # written out in full on a GPU


@dataclass(frozen=True, slots=True)
class Quantization:
    """A scheme that can be served, and what the checkpoint says of it; None: it is made here."""

    scheme: Scheme
    stored: Mapping[str, Any] | None = field(default=None)
    kernels: str = ""  # marlin, if those were asked for


def chosen(asked: QuantizeName, config: PretrainedConfig, device: torch.device, ranks: int = 1) -> Quantization | None:
    """What the weights are to be held in, or None: as they are. Raises UnsupportedModel where that is not served."""
    stored = stored_settings(config)
    found = None if stored is None else stored_scheme(stored)
    if stored is not None and found is not None:
        _agree(asked, found)
        quantization = Quantization(SCHEMES[asked if asked == "marlin" else found.name], stored, kernels_of(asked))
    elif asked in {"auto", "none"}:
        return None
    else:
        quantization = Quantization(SCHEMES[asked])
    _check_device(quantization, device)
    _check_ranks(quantization, device, ranks)
    return quantization


def reads_here(quantization: Quantization, device: torch.device) -> bool:
    """Is the checkpoint read by `checkpoints`, not by a package?"""
    known = FORMATS.keys() if device.type == "cpu" else _READ_EVERYWHERE
    return quantization.stored is not None and quantization.scheme.name in known


def kernels_of(asked: QuantizeName) -> str:
    """The kernels that a flag names."""
    return "marlin" if asked == "marlin" else ""


def stored_settings(config: PretrainedConfig) -> Mapping[str, Any] | None:
    """config.json's quantization_config."""
    settings = getattr(config, "quantization_config", None)
    if settings is None:
        return None
    found: Mapping[str, Any] = settings if isinstance(settings, Mapping) else settings.to_dict()
    return found


def stored_scheme(stored: Mapping[str, Any]) -> Scheme:
    """The scheme of a quantized checkpoint. Raises UnsupportedModel for those that are not served, by their name."""
    method = str(stored.get("quant_method") or "")
    if stored.get("load_in_8bit") or stored.get("load_in_4bit"):
        kind = "" if stored.get("load_in_8bit") else f"-{stored.get('bnb_4bit_quant_type', 'fp4')}"
        name = f"bitsandbytes{kind}"
    elif method == "torchao":
        name = _torchao_scheme(stored)
    else:
        name = method.replace("_", "-")
    if name not in SCHEMES:
        served = ", ".join(SCHEMES)
        raise UnsupportedModel(f"the checkpoint is quantized by {name or 'an unnamed method'}; served: {served}")
    return SCHEMES[name]


def _torchao_scheme(stored: Mapping[str, Any]) -> str:
    kind = stored.get("quant_type")
    named = kind.get("default", kind) if isinstance(kind, Mapping) else kind
    word = str(named.get("_type") if isinstance(named, Mapping) else named).lower().replace("_", "")
    return {"int8weightonlyconfig": "torchao-int8", "int4weightonlyconfig": "torchao-int4"}.get(word, f"torchao {word}")


def _agree(asked: QuantizeName, found: Scheme) -> None:
    kin = {"marlin": {"gptq", "awq"}, "fp8": {"fbgemm-fp8"}}.get(asked, set())
    if asked not in {"auto", found.name} and found.name not in kin:
        raise UnsupportedModel(
            f"quantize {asked}: the checkpoint is quantized already, by {found.name}; leave the setting out"
        )


def _check_device(quantization: Quantization, device: torch.device) -> None:
    scheme, made_here = quantization.scheme, quantization.stored is None
    served = scheme.made if made_here else scheme.read
    if not served:
        raise UnsupportedModel(
            f"quantize {scheme.name}: weights of this scheme are made with calibration texts; give a checkpoint that "
            f"is quantized so, or ask for one of {', '.join(s.name for s in SCHEMES.values() if s.made)}"
        )
    if device.type not in served:
        raise UnsupportedModel(f"{scheme.name} is not served on {device.type}: {scheme.instead}")
    missing = [package for package in served[device.type] if not is_installed(package)]
    if missing:
        raise UnsupportedModel(
            f"{scheme.name} needs {' and '.join(missing)} on {device.type}: pip install 'formwork[{scheme.extra}]'"
        )
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < scheme.capability:
        least, own = (".".join(map(str, c)) for c in (scheme.capability, torch.cuda.get_device_capability(device)))
        raise UnsupportedModel(f"{scheme.name} needs a GPU of compute capability {least}; this one has {own}")


def _check_ranks(quantization: Quantization, device: torch.device, ranks: int) -> None:
    name = quantization.scheme.name
    made = quantization.stored is None and name in DIVIDED
    if ranks > 1 and not made and not reads_here(quantization, device):
        read = FORMATS.keys() if device.type == "cpu" else _READ_EVERYWHERE
        raise UnsupportedModel(
            f"{name} is not divided among {ranks} ranks on {device.type}; serve it with one, or a checkpoint in "
            f"floating point with {', '.join(sorted(DIVIDED))}, or one in {', '.join(sorted(read))}"
        )


def dtype_of(quantization: Quantization, asked: DtypeName, usual: torch.dtype, device: torch.device) -> torch.dtype:
    """Of activations, and of what is not quantized. Raises UnsupportedModel where the scheme has no products in it."""
    only = "float32" if device.type == "cpu" else quantization.scheme.dtype
    if not only:
        return usual
    if asked not in {"auto", only}:
        raise UnsupportedModel(f"dtype {asked}: {quantization.scheme.name} on {device.type} computes in {only}")
    found: torch.dtype = getattr(torch, only)
    return found


def is_installed(package: str) -> bool:
    """Can a package be imported? It is not imported for the question."""
    return importlib.util.find_spec(package.replace("-", "_")) is not None
