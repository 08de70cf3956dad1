"""Codes taken out of other packages' layers. bitsandbytes is not installed where tests run: its layers' data, as its
papers define them, stand in for it; docs/status.md says where the package itself was compared."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from engine.model import UnsupportedModel
from engine.model.quantization import CodedLinear
from engine.model.quantization.libraries import code_linears

_TABLE = torch.linspace(-1, 1, 16)


class Data(torch.Tensor):
    """A parameter with more to it, as that package's are."""

    SCB: torch.Tensor
    quant_state: Any


def layer(kind: str, data: torch.Tensor, **more: Any) -> nn.Module:
    """A module of that class name around such a weight."""
    module: nn.Module = type(kind, (nn.Module,), {})()
    weight = data.as_subclass(Data)
    vars(weight).update(more)
    module._parameters["weight"] = weight  # type: ignore[assignment]
    module.bias = None  # type: ignore[assignment]
    return nn.Sequential(module)


def unfolded(model: nn.Module) -> torch.Tensor:
    """What its one layer stands for, once it is coded."""
    assert code_linears(model) == 1
    (coded,) = model.children()
    assert isinstance(coded, CodedLinear)
    return torch.from_numpy(coded.weight.unfolded())


def test_int8_rows_are_scaled_by_their_greatest_magnitude() -> None:
    """LLM.int8(): 127 stands for it (arXiv:2208.07339)."""
    codes, largest = torch.randint(-127, 128, (6, 10), dtype=torch.int8), torch.rand(6)
    want = codes.float() * largest[:, None] / 127
    torch.testing.assert_close(unfolded(layer("Linear8bitLt", codes, SCB=largest)), want)


def test_int8_weights_that_are_not_rounded_yet_are_rounded_here() -> None:
    """The package does it at the first product."""
    weight = torch.randn(6, 10)
    got = unfolded(layer("Linear8bitLt", weight))
    assert (got - weight).abs().max() <= weight.abs().amax() / 127 / 2 + 1e-6


@pytest.mark.parametrize("nested", [False, True])
def test_four_bits_are_numbers_of_a_table_times_their_blocks_scale(nested: bool) -> None:
    """The first of two codes is in the high half; scales may be rounded themselves (QLoRA, arXiv:2305.14314)."""
    codes = torch.randint(0, 16, (4, 128), dtype=torch.uint8)
    flat = codes.flatten()
    packed = (flat[0::2] << 4 | flat[1::2])[:, None]
    state = SimpleNamespace(shape=(4, 128), blocksize=64, code=_TABLE, nested=nested, absmax=torch.rand(8))
    scales = state.absmax
    if nested:
        state.absmax = torch.randint(0, 256, (8,), dtype=torch.uint8)
        state.state2 = SimpleNamespace(code=torch.randn(256), absmax=torch.rand(4), blocksize=2)
        state.offset = torch.tensor(0.25)
        rounded = state.state2.code[state.absmax.long()]
        scales = rounded * state.state2.absmax.repeat_interleave(2) + 0.25
    want = (_TABLE[codes.long()].reshape(8, 64) * scales[:, None]).reshape(4, 128)
    torch.testing.assert_close(unfolded(layer("Linear4bit", packed, quant_state=state)), want)


def test_blocks_must_end_with_the_inputs() -> None:
    state = SimpleNamespace(shape=(4, 96), blocksize=64, code=_TABLE, nested=False, absmax=torch.rand(6))
    with pytest.raises(UnsupportedModel, match="multiples of 64"):
        unfolded(layer("Linear4bit", torch.zeros(192, 1, dtype=torch.uint8), quant_state=state))


def test_weights_of_an_unknown_class_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match="Data"):
        unfolded(layer("Linear", torch.zeros(2, 2)))
