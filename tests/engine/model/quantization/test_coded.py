"""Coded weights: what a code stands for, and products that are bit by bit those of the numbers it stands for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from engine.model.linear import OwnCodedWeight, OwnWeight, PackedLinear, pack_linears
from engine.model.quantization import CodedLinear, CodedWeight
from engine.model.quantization.coded import beside, fit_beside
from engine.model.unfolding import Kind

_SHAPES = [(48, 32), (7, 34), (96, 2048), (1, 16), (40, 1500)]
_KINDS = [(Kind.INTEGER, 8), (Kind.INTEGER, 4), (Kind.FLOAT8, 8), (Kind.TABLE, 4)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def coded(kind: Kind, bits: int, shape: tuple[int, int], group: int = 16, *, ordered: bool = False) -> CodedWeight:
    """A weight at random; float8's two codes that are no numbers do not occur."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2**bits, shape).astype(np.uint8)
    groups = -(-shape[1] // group)
    return CodedWeight(
        np.where(codes & 127 == 127, 1, codes).astype(np.uint8) if kind == Kind.FLOAT8 else codes,
        rng.random((shape[0], groups), np.float32) * 0.02,
        group,
        kind,
        bits,
        offsets=rng.integers(0, 2**bits, (shape[0], groups)).astype(np.float32) if kind == Kind.INTEGER else None,
        table=rng.standard_normal(16, np.float32) if kind == Kind.TABLE else None,
        order=rng.permutation(shape[1]) if ordered else None,
    )


def number(weight: CodedWeight, output: int, column: int) -> float:
    """What one code stands for, by the definition."""
    code, scale = int(weight.codes[output, column]), float(weight.scales[output, column // weight.group])
    if weight.offsets is not None:
        return (code - float(weight.offsets[output, column // weight.group])) * scale
    if weight.table is not None:
        return float(weight.table[code]) * scale
    sign, exponent, fraction = -1 if code >> 7 else 1, code >> 3 & 15, code & 7
    magnitude = fraction / 8 * 2.0**-6 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7)
    return sign * magnitude * scale


@pytest.mark.parametrize(("kind", "bits"), _KINDS)
def test_codes_stand_for_the_numbers_of_their_definition(kind: Kind, bits: int) -> None:
    """One by one, inputs put back into the model's order."""
    weight = coded(kind, bits, (16, 40), ordered=True)
    assert weight.order is not None
    unfolded = weight.unfolded()
    for output in range(16):
        for column in range(40):
            want = number(weight, output, column)
            assert unfolded[output, weight.order[column]] == pytest.approx(want, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("group", [16, 128, 4096])
@pytest.mark.parametrize("shape", _SHAPES)
@pytest.mark.parametrize(("kind", "bits"), _KINDS)
def test_a_product_is_bit_by_bit_that_of_the_unfolded_weight(
    kind: Kind, bits: int, shape: tuple[int, int], group: int
) -> None:
    """Whatever the number of rows, the groups, and what is left over at the end of a tile or a chunk."""
    weight = coded(kind, bits, shape, group)
    packed, exact = OwnCodedWeight(weight), OwnWeight(torch.from_numpy(weight.unfolded()))
    rows, bias = torch.randn(130, shape[1]), torch.randn(shape[0])
    whole = exact(rows)
    for count in (1, 2, 3, 8, 31, 65, 130):
        assert torch.equal(packed(rows[:count]), whole[:count])
    assert torch.equal(packed(rows[:3], bias), whole[:3] + bias)


def test_sorted_inputs_meet_their_own_columns() -> None:
    """GPTQ's act-order."""
    weight = coded(Kind.INTEGER, 4, (20, 64), ordered=True)
    rows = torch.randn(5, 64)
    want = rows @ torch.from_numpy(weight.unfolded()).T
    torch.testing.assert_close(OwnCodedWeight(weight)(rows), want, atol=1e-4, rtol=1e-4)


def test_threads_do_not_change_a_bit() -> None:
    """Each has its share of the outputs."""
    weight, rows = coded(Kind.INTEGER, 8, (100, 64)), torch.randn(9, 64)
    alone = OwnCodedWeight(weight)(rows)
    torch.set_num_threads(3)
    assert torch.equal(OwnCodedWeight(weight)(rows), alone)


def test_no_rows_give_no_rows() -> None:
    """A prefill chunk that needs no logits."""
    assert OwnCodedWeight(coded(Kind.TABLE, 4, (6, 16)))(torch.randn(1, 0, 16)).shape == (1, 0, 6)


def test_weights_of_one_kind_fit_beside_each_other() -> None:
    """Queries, keys and values become one product; other groups, tables or orders do not fit."""
    first, second = coded(Kind.INTEGER, 4, (16, 32)), coded(Kind.INTEGER, 4, (8, 32))
    assert fit_beside([first, second])
    both = beside([first, second]).unfolded()
    assert np.array_equal(both, np.concatenate([first.unfolded(), second.unfolded()]))
    others = [
        coded(Kind.INTEGER, 4, (8, 32), group=32),
        coded(Kind.INTEGER, 8, (8, 32)),
        coded(Kind.INTEGER, 4, (8, 32), ordered=True),
        coded(Kind.TABLE, 4, (8, 32)),
    ]
    assert not any(fit_beside([first, other]) for other in others)


def test_coded_layers_are_packed_like_all_others() -> None:
    """With their bias, and equal to what they were."""
    weight = coded(Kind.FLOAT8, 8, (24, 32))
    model = torch.nn.Sequential(CodedLinear(weight, torch.nn.Parameter(torch.randn(24))))
    rows = torch.randn(3, 32)
    want = model(rows)
    pack_linears(model)
    assert isinstance(model[0], PackedLinear)
    torch.testing.assert_close(model(rows), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("spans", [((0, 24),), ((24, 40),), ((0, 8), (20, 30)), ((38, 40),)])
@pytest.mark.parametrize(("kind", "bits"), _KINDS)
def test_a_part_of_the_inputs_is_those_columns(
    kind: Kind, bits: int, spans: tuple[tuple[int, int], ...], *, ordered: bool
) -> None:
    """Whether or not groups end there; sorted inputs (of integers only) are found wherever they were sorted to."""
    if ordered and kind != Kind.INTEGER:
        return
    weight = coded(kind, bits, (16, 40), ordered=ordered)
    part = weight.columns(spans)
    kept = [i for start, stop in spans for i in range(start, stop)]
    assert part.shape == (16, len(kept))
    assert np.array_equal(part.unfolded(), weight.unfolded()[:, kept])
    rows = torch.randn(3, len(kept), generator=torch.Generator().manual_seed(0))
    expected = rows @ torch.from_numpy(part.unfolded()).T
    torch.testing.assert_close(OwnCodedWeight(part)(rows), expected, atol=1e-4, rtol=1e-4)


def test_two_codes_of_a_byte_are_not_parted() -> None:
    """A cut at an odd input would leave scales that change between them."""
    with pytest.raises(ValueError, match="cannot be cut"):
        coded(Kind.INTEGER, 4, (16, 40)).columns(((5, 30),))


def test_a_part_of_the_outputs_is_those_rows_and_zeros_behind_them() -> None:
    """As a rank holds its rows of a vocabulary."""
    weight = coded(Kind.TABLE, 4, (40, 32))
    part = weight.rows(((3, 7), (30, 40)), zeros=2).unfolded()
    assert np.array_equal(part[:-2], weight.unfolded()[[*range(3, 7), *range(30, 40)]])
    assert not part[-2:].any()
