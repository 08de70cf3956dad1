"""Root-mean-square norms in one call instead of six, on a CPU and on an accelerator.

What it is for: at the few rows of a decode step the modelling code's separate operations cost far more than the
arithmetic. What may not enter: layer norms (torch has them in one call); on a CPU, dtypes other than float32.

The idea: families differ in small ways (a weight, or one plus the weight), so nothing is assumed: a module is replaced
only if the one call gives what the module itself gives on random rows.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.model.kernels import kernel
from engine.model.replacing import replace_modules

rms_norm: Any = None
with suppress(ImportError):  # no Triton on this platform
    from engine.model.device_fabric import rms_norm

Floats = NDArray[np.float32]

_LANES = 16
# How far two ways to round may lie apart, for numbers about one.
_APART = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@kernel
def normalize(rows: Floats, weight: Floats, epsilon: float, out: Floats) -> None:
    """Each row (count, width) over the root of its mean square plus epsilon, times the weight; additions in order."""
    count, width = rows.shape
    whole = width // _LANES * _LANES
    lanes = np.empty(_LANES, np.float32)
    for r in range(count):
        lanes[:] = 0.0
        for at in range(0, whole, _LANES):
            for lane in range(_LANES):
                lanes[lane] += rows[r, at + lane] * rows[r, at + lane]
        total = np.float32(0.0)
        for lane in range(_LANES):
            total += lanes[lane]
        for d in range(whole, width):
            total += rows[r, d] * rows[r, d]
        factor = np.float32(1.0) / np.float32(math.sqrt(total / np.float32(width) + np.float32(epsilon)))
        for d in range(width):
            out[r, d] = rows[r, d] * factor * weight[d]


class FusedRmsNorm(nn.Module):
    """Takes the place of a family's own norm."""

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        super().__init__()
        self._weight: Floats = weight.detach().clone().numpy()
        self._epsilon = epsilon

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(..., width) to the same shape."""
        width = rows.shape[-1]
        out = torch.empty(rows.shape)
        normalize(
            rows.reshape(-1, width).contiguous().numpy(), self._weight, self._epsilon, out.view(-1, width).numpy()
        )
        return out


class DeviceRmsNorm(nn.Module):
    """The same in one launch, by Triton where it is there and else by torch; it rounds once, at the end."""

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self._epsilon = epsilon

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(..., width) to the same shape."""
        if rms_norm is not None:
            out: torch.Tensor = rms_norm(rows, self.weight, self._epsilon)
            return out
        return nn.functional.rms_norm(rows, self.weight.shape, self.weight, self._epsilon)


def fuse_norms(model: nn.Module) -> int:
    """Replaces the norms that one call reproduces; how many those were."""
    return replace_modules(model, lambda norm: _fused(norm) if type(norm).__name__.endswith("RMSNorm") else None)


def _fused(norm: nn.Module) -> FusedRmsNorm | DeviceRmsNorm | None:
    weight = norm._parameters.get("weight")
    epsilon = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    if weight is None or weight.ndim != 1 or weight.dtype not in _APART or not isinstance(epsilon, float):
        return None
    on_host = weight.device.type == "cpu"
    if on_host and weight.dtype != torch.float32:
        return None
    rows = torch.randn(3, weight.shape[0], generator=torch.Generator().manual_seed(0)).to(weight)
    apart = _APART[weight.dtype]
    with torch.no_grad():
        expected = norm(rows)
        for effective in (weight, 1.0 + weight):
            fused = FusedRmsNorm(effective, epsilon) if on_host else DeviceRmsNorm(effective, epsilon)
            if torch.allclose(fused(rows), expected, rtol=10 * apart, atol=apart):
                return fused
            if weight.dtype != torch.float32:
                return None  # one plus a weight of 16 bits would be rounded once more than the family's own
    return None
