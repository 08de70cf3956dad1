"""Packed products: the right numbers, and each row alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from engine.model.linear import OneDnnWeight, OwnWeight, PackedLinear, RouterWeight, pack_linears, pack_weight
from engine.model.rows import row_stable


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", [OneDnnWeight, OwnWeight])
@pytest.mark.parametrize("shape", [(48, 32), (7, 33), (96, 2048), (1, 16), (40, 1500)])
def test_a_row_has_the_same_bits_among_any_number_of_rows(
    shape: tuple[int, int], kind: type[OneDnnWeight] | type[OwnWeight]
) -> None:
    """Up to several blocks, by either way, and the right numbers."""
    weight, bias = torch.randn(shape), torch.randn(shape[0])
    packed = kind(weight)
    rows = torch.randn(600, shape[1])
    whole = packed(rows)
    torch.testing.assert_close(whole, rows @ weight.T, atol=1e-3, rtol=0)
    torch.testing.assert_close(packed(rows[:3], bias), whole[:3] + bias)
    for count in (1, 2, 3, 5, 8, 31, 100, 256, 257, 599):
        assert torch.equal(packed(rows[:count]), whole[:count])


def test_no_rows_give_no_rows() -> None:
    """A prefill chunk that needs no logits."""
    for kind in (OneDnnWeight, OwnWeight):
        assert kind(torch.randn(6, 4))(torch.randn(1, 0, 4)).shape == (1, 0, 6)


def test_our_own_kernel_serves_float32_on_one_thread() -> None:
    """oneDNN serves long rows, other dtypes and several threads."""
    assert isinstance(pack_weight(torch.zeros(16, 64)), OwnWeight)
    assert isinstance(pack_weight(torch.zeros(16, 4096)), OneDnnWeight)
    assert isinstance(pack_weight(torch.zeros(16, 64, dtype=torch.bfloat16)), OneDnnWeight)
    torch.set_num_threads(2)
    try:
        assert isinstance(pack_weight(torch.zeros(16, 64)), OneDnnWeight)
    finally:
        torch.set_num_threads(1)


def test_every_kind_of_linear_module_is_replaced() -> None:
    """`nn.Linear` with and without bias, and GPT-2's transposed Conv1D, with equal results."""
    model = nn.Sequential(nn.Linear(8, 12), _conv(), nn.Linear(5, 3, bias=False)).requires_grad_(False)
    rows = torch.randn(2, 9, 8)
    want = model(rows)
    pack_linears(model)
    assert all(isinstance(m, PackedLinear) for m in model)
    torch.testing.assert_close(model(rows), want, atol=1e-6, rtol=0)


def test_a_router_that_calls_linear_itself_gets_the_packed_product() -> None:
    """In the dtype that it asks for."""
    weight = torch.randn(32, 16, dtype=torch.bfloat16)
    routed = RouterWeight.of(weight)
    rows = torch.randn(40, 16)
    got = nn.functional.linear(rows, routed.type(torch.float32))
    torch.testing.assert_close(got, rows @ weight.float().T, atol=1e-5, rtol=0)
    assert torch.equal(nn.functional.linear(rows[:1], routed.type(torch.float32)), got[:1])


@pytest.mark.parametrize("width", [1, 7, 48, 64, 100])
@pytest.mark.parametrize("function", [torch.sigmoid, nn.functional.silu, nn.functional.gelu])
def test_an_activation_gives_a_row_the_same_bits(function: torch.nn.Module, width: int) -> None:
    """Whatever is left over at the end."""
    rows = torch.randn(70, width)
    whole = row_stable(function, rows)
    torch.testing.assert_close(whole, function(rows))
    for row in range(70):
        assert torch.equal(row_stable(function, rows[row : row + 1])[0], whole[row])


def _conv() -> nn.Module:
    conv: nn.Module = Conv1D(5, 12)  # type: ignore[no-untyped-call]
    return conv
