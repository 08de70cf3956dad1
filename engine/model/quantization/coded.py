"""A weight as codes: what every scheme of integers, float8 or 4-bit tables comes to once it is read.

What it is for: the one value between formats (`checkpoints`, `libraries`) and products (`linear`). What may not enter:
names of schemes, files.

The idea: whatever the scheme, a weight is a code per number and a scale per group of inputs, so four bits by GPTQ and
four bits by bitsandbytes are the same product with another table. Only weights are coded: activations stay float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.model.unfolding import Kind

Floats = NDArray[np.float32]
Span = tuple[int, int]

_FLOAT8 = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()


@dataclass(frozen=True, slots=True, eq=False)
class CodedWeight:
    """(out, in) numbers: code d of output o is `value(code) · scales[o, d // group]`.

    The value is code - offsets[o, d // group], or that of the float8_e4m3fn, or table[code]. Where the scheme sorted
    the inputs (GPTQ's act-order), column d of `codes` belongs to input `order[d]`; a rank's share of such a layer has
    columns more than inputs, which stand for zero.
    """

    codes: NDArray[np.uint8]  # (out, columns), one to a byte whatever `bits` says
    scales: Floats  # (out, groups)
    group: int  # inputs with a scale in common; the last group may be shorter
    kind: Kind = Kind.INTEGER
    bits: int = 8
    offsets: Floats | None = None  # (out, groups), of integers only
    table: Floats | None = None  # 16 numbers, of tables only
    order: NDArray[np.int64] | None = None  # (columns,); None: columns are inputs

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.codes.shape[0], self.codes.shape[1] if self.order is None else int(self.order.max()) + 1

    @property
    def nbytes(self) -> int:
        """What it takes once it is packed."""
        offsets = 0 if self.offsets is None else self.offsets.nbytes
        return self.codes.size * self.bits // 8 + self.scales.nbytes + offsets

    def unfolded(self) -> Floats:
        """(out, in) float32, inputs in the model's order."""
        groups = np.arange(self.codes.shape[1]) // self.group
        values = self._values(groups) * self.scales[:, groups]
        if self.order is None:
            return values
        sorted_back = np.empty(self.shape, np.float32)
        sorted_back[:, self.order] = values  # of an input's several columns the last counts; those before are zero
        return sorted_back

    def rows(self, spans: Sequence[Span], zeros: int = 0) -> CodedWeight:
        """Those outputs, and `zeros` after them whose weights are all zero."""
        kept = np.concatenate([np.arange(start, stop) for start, stop in (*spans, (0, 0))])
        below = ((0, zeros), (0, 0))
        return replace(
            self,
            codes=np.pad(self.codes[kept], below),
            scales=np.pad(self.scales[kept], below),
            offsets=None if self.offsets is None else np.pad(self.offsets[kept], below),
        )

    def columns(self, spans: Sequence[Span]) -> CodedWeight:
        """Those inputs. Raises ValueError where codes of four bits would be cut between the two of a byte."""
        kept = np.concatenate([np.arange(start, stop) for start, stop in spans])
        if self.order is not None:
            return self._sorted_columns(kept)
        lengths = [stop - start for start, stop in spans]
        group = math.gcd(self.group, *(start for start, _ in spans), *lengths[:-1])
        if self.bits == 4 and group % 2 and len(kept) > group:
            raise ValueError(f"four-bit codes with scales for {self.group} inputs cannot be cut at {spans}")
        groups = kept[::group] // self.group
        return replace(
            self,
            codes=np.ascontiguousarray(self.codes[:, kept]),
            scales=np.ascontiguousarray(self.scales[:, groups]),
            group=group,
            offsets=None if self.offsets is None else np.ascontiguousarray(self.offsets[:, groups]),
        )

    def _sorted_columns(self, kept: NDArray[np.int64]) -> CodedWeight:
        """Groups lose columns unequally: each is filled up to the widest, from its front, with codes for zero."""
        assert self.order is not None
        assert self.offsets is not None
        new = np.full(int(self.order.max()) + 1, -1)
        new[kept] = np.arange(len(kept))
        held = np.flatnonzero(new[self.order] >= 0)
        groups, counts = np.unique(held // self.group, return_counts=True)
        width = int(counts.max()) + int(counts.max()) % 2
        codes = np.repeat(self.offsets[:, groups].astype(np.uint8), width, axis=1)
        order = np.empty(len(groups) * width, np.int64)
        for at, (group, count) in enumerate(zip(groups, counts, strict=True)):
            own = held[held // self.group == group]
            end, first = (at + 1) * width, at * width
            order[first : end - count] = new[self.order[own[-1]]]
            codes[:, end - count : end], order[end - count : end] = self.codes[:, own], new[self.order[own]]
        scales, offsets = (np.ascontiguousarray(each[:, groups]) for each in (self.scales, self.offsets))
        return replace(self, codes=codes, scales=scales, group=width, offsets=offsets, order=order)

    def _values(self, groups: NDArray[np.int64]) -> Floats:
        if self.kind == Kind.FLOAT8:
            return np.asarray(_FLOAT8[self.codes], np.float32)
        if self.kind == Kind.TABLE:
            assert self.table is not None
            return self.table[self.codes]
        assert self.offsets is not None
        return self.codes.astype(np.float32) - self.offsets[:, groups]


@dataclass(frozen=True, slots=True, eq=False)
class CodedExpert:
    """One expert of a mixture: in `up` what stands one below the other (gate and up, if they are apart), and down."""

    up: tuple[CodedWeight, ...]
    down: CodedWeight


Weight = torch.Tensor | CodedWeight  # of a linear layer, (out, in)


def fit_beside(weights: Sequence[CodedWeight]) -> bool:
    """Are all coded, grouped and sorted alike?"""
    first = weights[0]
    return all(
        (first.kind, first.bits, first.group, first.codes.shape[1])
        == (each.kind, each.bits, each.group, each.codes.shape[1])
        and _equal(first.table, each.table)
        and _equal(first.order, each.order)
        for each in weights
    )


def beside(weights: Sequence[CodedWeight]) -> CodedWeight:
    """One weight with the outputs of all, one after the other; they must fit."""
    offsets = [each.offsets for each in weights if each.offsets is not None]
    return replace(
        weights[0],
        codes=np.concatenate([each.codes for each in weights]),
        scales=np.concatenate([each.scales for each in weights]),
        offsets=np.concatenate(offsets) if offsets else None,
    )


def _equal(one: NDArray[np.generic] | None, other: NDArray[np.generic] | None) -> bool:
    return (one is None and other is None) or (one is not None and other is not None and np.array_equal(one, other))


class CodedLinear(nn.Module):
    """A linear layer whose weight is coded, until `linear` packs it: slow, and exact."""

    def __init__(self, weight: CodedWeight, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.out_features, self.in_features = weight.shape

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        return nn.functional.linear(rows, torch.from_numpy(self.weight.unfolded()), self.bias)
