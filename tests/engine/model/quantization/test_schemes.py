"""What is asked for, what the checkpoint says, and what this machine has: agreed upon, or refused with the reason."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from transformers import LlamaConfig

from engine.config import QuantizeName
from engine.model import UnsupportedModel
from engine.model.quantization import SCHEMES, chosen, dtype_of, schemes

_CPU, _CUDA = torch.device("cpu"), torch.device("cuda")
_ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def _everything_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every package, and a Hopper GPU; tests take away what they are about."""
    monkeypatch.setattr(schemes, "is_installed", lambda _: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _=None: (9, 0))


def config(**stored: Any) -> LlamaConfig:
    """A model's, quantized if something is stored about that."""
    made: Any = LlamaConfig()
    if stored:
        made.quantization_config = stored
    return made  # type: ignore[no-any-return]


def asked_of(flag: QuantizeName, device: torch.device = _CPU, **stored: Any) -> str | None:
    """The name of what was chosen."""
    found = chosen(flag, config(**stored), device)
    return None if found is None else found.scheme.name


def test_a_plain_checkpoint_stays_as_it_is_unless_a_scheme_is_asked_for() -> None:
    assert asked_of("auto") is None
    assert asked_of("none") is None
    assert asked_of("torchao-int8") == "torchao-int8"


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq"}, "awq"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "fbgemm_fp8"}, "fbgemm-fp8"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "bitsandbytes-nf4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes-fp4"),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}}}, "torchao-int8"),
    ],
)
def test_a_quantized_checkpoint_says_itself_what_it_is(stored: dict[str, Any], name: str) -> None:
    assert asked_of("auto", **stored) == name


def test_the_same_answer_twice_is_no_conflict_and_another_is() -> None:
    assert asked_of("gptq", quant_method="gptq") == "gptq"
    for flag in get_args(QuantizeName):
        if flag not in {"auto", "gptq", "marlin"}:
            with pytest.raises(UnsupportedModel, match=f"quantize {flag}.* by gptq"):
                asked_of(flag, quant_method="gptq")


def test_marlin_names_the_kernels_of_a_gptq_or_awq_checkpoint() -> None:
    for method in ("gptq", "awq"):
        found = chosen("marlin", config(quant_method=method, bits=4), _CUDA)
        assert found is not None
        assert (found.scheme.name, found.kernels) == ("marlin", "marlin")
    with pytest.raises(UnsupportedModel, match="kernels of a GPU"):
        asked_of("marlin", quant_method="gptq")


@pytest.mark.parametrize("flag", ["gptq", "awq", "marlin", "compressed-tensors"])
def test_schemes_that_need_calibration_are_not_made_here(flag: QuantizeName) -> None:
    """TGI's `quantize` command has no counterpart: a checkpoint that is quantized so is asked for."""
    for device in (_CPU, _CUDA):
        with pytest.raises(UnsupportedModel, match="checkpoint that is quantized so"):
            asked_of(flag, device)


@pytest.mark.parametrize("method", ["exl2", "hqq", "aqlm", "auto-round", ""])
def test_other_methods_are_refused_by_name(method: str) -> None:
    with pytest.raises(UnsupportedModel, match=method or "unnamed method"):
        asked_of("auto", quant_method=method)


def test_a_missing_package_is_told_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """For every scheme and device that needs one; the extra in that line exists, and brings the package."""
    monkeypatch.setattr(schemes, "is_installed", lambda _: False)
    extras = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for scheme in SCHEMES.values():
        for device, packages in scheme.made.items():
            _expect_the_line(scheme.name, device, packages, _spelled_out(extras, scheme.extra), {})
        for device, packages in scheme.read.items():
            if packages and scheme.name in _STORED:
                stored = _STORED[scheme.name]
                _expect_the_line(scheme.name, device, packages, _spelled_out(extras, scheme.extra), stored)


_STORED: dict[str, dict[str, Any]] = {
    "gptq": {"quant_method": "gptq", "bits": 4},
    "awq": {"quant_method": "awq"},
    "marlin": {"quant_method": "gptq", "bits": 4},
    "fp8": {"quant_method": "fp8"},
    "compressed-tensors": {"quant_method": "compressed-tensors"},
}


def _spelled_out(extras: dict[str, list[str]], name: str) -> list[str]:
    """An extra's requirements; one that is another extra by a second name is that one's."""
    same = re.fullmatch(r"formwork\[(\w+)\]", extras[name][0])
    return extras[name] if same is None else extras[same[1]]


def _expect_the_line(
    name: str, device: str, packages: tuple[str, ...], extra: list[str], stored: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        chosen(name, config(**stored), torch.device(device))  # type: ignore[arg-type]
    assert f"pip install 'formwork[{SCHEMES[name].extra}]'" in str(caught.value)
    for package in packages:
        assert package in str(caught.value)
        assert any(requirement.lower().startswith(package) for requirement in extra)


def test_a_device_without_the_kernels_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedModel, match=r"eetq is not served on cpu.*torchao-int8"):
        asked_of("eetq")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _=None: (8, 6))
    with pytest.raises(UnsupportedModel, match=r"fp8 needs a GPU of compute capability 8\.9; this one has 8\.6"):
        asked_of("fp8", _CUDA)


def test_ranks_share_what_each_can_make_of_its_part() -> None:
    for flag in get_args(QuantizeName):
        if flag in {"fp8", "torchao-int8", "torchao-int4"}:
            assert chosen(flag, config(), _CPU, ranks=2) is not None
        elif flag.startswith("bitsandbytes"):
            with pytest.raises(UnsupportedModel, match=f"{flag} is not divided among 2 ranks"):
                chosen(flag, config(), _CPU, ranks=2)
    for method in ("gptq", "awq", "fp8", "compressed-tensors", "mxfp4"):
        assert chosen("auto", config(quant_method=method), _CPU, ranks=2) is not None
    assert chosen("auto", config(quant_method="mxfp4"), _CUDA, ranks=2) is not None
    with pytest.raises(UnsupportedModel, match=r"gptq is not divided among 2 ranks on cuda.*one in mxfp4"):
        chosen("auto", config(quant_method="gptq"), _CUDA, ranks=2)


def test_activations_have_the_type_that_the_products_take() -> None:
    """float32 on a CPU; on a GPU what the kernels of a scheme know, or what was asked for."""
    int8, int4 = (chosen(name, config(), _CUDA) for name in ("torchao-int8", "torchao-int4"))
    assert int8 is not None
    assert int4 is not None
    assert dtype_of(int8, "auto", torch.float16, _CUDA) == torch.float16
    assert dtype_of(int4, "auto", torch.float16, _CUDA) == torch.bfloat16
    assert dtype_of(int8, "auto", torch.float32, _CPU) == torch.float32
    with pytest.raises(UnsupportedModel, match="dtype float16: torchao-int4 on cuda computes in bfloat16"):
        dtype_of(int4, "float16", torch.float16, _CUDA)
    with pytest.raises(UnsupportedModel, match="dtype bfloat16: torchao-int8 on cpu computes in float32"):
        dtype_of(int8, "bfloat16", torch.bfloat16, _CPU)
