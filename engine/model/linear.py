"""Matrix products on a CPU that give a row the same bits whatever rows stand beside it.

What it is for: packed weights take the place of `nn.Linear`, GPT-2's `Conv1D`, experts and routers; they are faster at
the few rows of a decode step, too. What may not enter: other layers (`rows` has the activations, norms work row by row
as they are).

Three ways. Our own kernels have a fixed order of additions by construction: one (`cpu_products`) serves float32 on one
thread where a row is short enough for the caches, one (`coded_products`) weights that are quantized. oneDNN's packed
weights serve the rest; a library may choose another kernel, with another order of additions, for another number of
rows, so each shape of weight is probed once: the least number of rows from which on all agree is its floor, and fewer
rows are padded to it. Many rows go in blocks no larger than what was probed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers.integrations.moe import ExpertsInterface
from transformers.pytorch_utils import Conv1D

from engine.model.coded_products import coded_product, lay_out_codes
from engine.model.cpu_products import lay_out, product
from engine.model.experts import Expert, are_experts, take_experts
from engine.model.quantization.coded import CodedExpert, CodedLinear, CodedWeight
from engine.model.replacing import replace_modules
from engine.model.rows import row_stable
from engine.simd import LANES

_log = logging.getLogger(__name__)

EXPERTS_NAME = "formwork_packed"
_BLOCK = 256  # rows; larger blocks gain under 5 %
_FIXED = 16  # rows of every block where no floor up to this was found
_PROBES = (1, 2, 3, 4, 6, 8, 12, 16, 17, 24, 32, 48, 64, 96, 128, 192)
_LARGE = 8 << 20  # weights beyond which only the small probes are affordable at start
_LARGE_PROBES = (1, 2, 3, 4, 8, 16, 32, 64)

_OWN_INPUTS = 2048  # longest row for which our kernel keeps up with oneDNN at many rows (it is ahead at few)
_NO_BIAS = np.zeros(0, np.float32)

Product = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]


class PackedWeight(Protocol):
    """A weight (out, in) in a layout of its own; rows times it are bitwise independent of their neighbours."""

    inputs: int
    outputs: int

    def __call__(self, rows: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """(..., in) times the weight, plus the bias: (..., out)."""
        ...


def pack_weight(weight: torch.Tensor | CodedWeight) -> PackedWeight:
    """The layout that suits the weight and torch's number of threads, which must not change afterwards."""
    if isinstance(weight, CodedWeight):
        return OwnCodedWeight(weight)
    if weight.dtype == torch.float32 and weight.shape[1] <= _OWN_INPUTS and torch.get_num_threads() == 1:
        return OwnWeight(weight)
    return OneDnnWeight(weight)


class OwnWeight:
    """A float32 weight for our own kernel."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.outputs, self.inputs = weight.shape
        self._laid_out = lay_out(weight.detach().numpy())
        self._width = self._laid_out.shape[0] * self._laid_out.shape[2]

    def __call__(self, rows: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """As PackedWeight."""
        flat = rows.reshape(-1, self.inputs).contiguous()
        out = torch.empty(flat.shape[0], self._width)
        product(flat.numpy(), self._laid_out, _NO_BIAS if bias is None else bias.numpy(), out.numpy())
        if self._width != self.outputs:
            out = out[:, : self.outputs].contiguous()
        return out.view(*rows.shape[:-1], self.outputs)


class OwnCodedWeight:
    """A weight of eight or four bits for our own kernel; with several threads each has its share of the outputs."""

    def __init__(self, weight: CodedWeight) -> None:
        self.outputs, self.inputs = weight.shape
        codes = lay_out_codes(weight.codes, weight.bits)
        scales = lay_out(weight.scales)
        offsets = scales[:0] if weight.offsets is None else lay_out(weight.offsets)
        table = _NO_BIAS if weight.table is None else weight.table
        self._weight = (codes, scales, offsets, table, int(weight.kind), weight.bits, weight.group)
        self._order = None if weight.order is None else torch.from_numpy(weight.order)
        threads = min(torch.get_num_threads(), codes.shape[0])
        self._shares = list(pairwise(codes.shape[0] * i // threads for i in range(threads + 1)))

    def __call__(self, rows: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """As PackedWeight."""
        flat = rows.reshape(-1, self.inputs)
        flat = flat.contiguous() if self._order is None else flat[:, self._order]
        out = torch.empty(flat.shape[0], self._shares[-1][1] * LANES)
        given, filled = flat.numpy(), out.numpy()
        later = [_pool(len(self._shares)).submit(self._share, given, filled, share) for share in self._shares[1:]]
        self._share(given, filled, self._shares[0])
        for each in later:
            each.result()
        out = out if out.shape[1] == self.outputs else out[:, : self.outputs].contiguous()
        if bias is not None:
            out += bias
        return out.view(*rows.shape[:-1], self.outputs)

    def _share(self, rows: NDArray[np.float32], out: NDArray[np.float32], tiles: tuple[int, int]) -> None:
        coded_product(rows, *self._weight, *tiles, out)


class WeightsBelow:
    """Several weights over the same inputs, the outputs of one after those of the other."""

    def __init__(self, weights: Sequence[PackedWeight]) -> None:
        self._weights = weights
        self.inputs, self.outputs = weights[0].inputs, sum(weight.outputs for weight in weights)

    def __call__(self, rows: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """As PackedWeight."""
        out = torch.cat([weight(rows) for weight in self._weights], dim=-1)
        return out if bias is None else out + bias


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """The threads that help with products, beside the caller's own."""
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="products")


class OneDnnWeight:
    """A weight in oneDNN's packed layout."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.outputs, self.inputs = weight.shape
        self.dtype = weight.dtype
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), 16)
        self._floor, self._block = _rows_that_agree(self._product, weight)

    def __call__(self, rows: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """As PackedWeight."""
        count = rows.numel() // self.inputs
        if self._floor <= count <= self._block:
            return self._product(rows, bias)
        flat = rows.reshape(count, self.inputs)
        blocks = [self._padded(block, bias) for block in torch.split(flat, self._block)] if count else []
        out = torch.cat(blocks) if blocks else flat.new_empty(0, self.outputs)
        return out.view(*rows.shape[:-1], self.outputs)

    def _padded(self, block: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        missing = self._floor - block.shape[0]
        if missing <= 0:
            return self._product(block, bias)
        return self._product(nn.functional.pad(block, (0, 0, 0, missing)), bias)[: block.shape[0]]

    def _product(self, rows: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._packed, bias, "none", [], "")
        return out


_floors: dict[tuple[Any, ...], tuple[int, int]] = {}


def _rows_that_agree(product: Product, weight: torch.Tensor) -> tuple[int, int]:
    """(floor, block): any number of rows between the two gives each row the same bits. Probed once for each shape."""
    key = (*weight.shape, weight.dtype, torch.get_num_threads())
    if key not in _floors:
        _floors[key] = _probe(product, weight)
    return _floors[key]


def _probe(product: Product, weight: torch.Tensor) -> tuple[int, int]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(_BLOCK, weight.shape[1], generator=generator).to(weight.dtype)
    expected = product(rows, None)
    probes = _PROBES if weight.numel() <= _LARGE else _LARGE_PROBES
    disagreeing = [m for m in probes if not torch.equal(product(rows[:m].contiguous(), None), expected[:m])]
    floor = min(m for m in (*probes, _BLOCK) if m > max(disagreeing, default=0))
    if floor <= _FIXED:
        return floor, _BLOCK
    _log.warning("weights of shape %s: no floor of rows found, every block is padded to %d", weight.shape, _FIXED)
    return _FIXED, _FIXED


class PackedLinear(nn.Module):
    """Takes the place of `nn.Linear` and `Conv1D`."""

    def __init__(self, weight: torch.Tensor | CodedWeight, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.packed = pack_weight(weight)
        self.in_features, self.out_features = self.packed.inputs, self.packed.outputs
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        return self.packed(rows, self.bias)


class RouterWeight(torch.Tensor):
    """A weight that routers hand to `F.linear` themselves; the product is a packed one, in the dtype they ask for."""

    packed: dict[torch.dtype, PackedWeight]

    @classmethod
    def of(cls, weight: torch.Tensor) -> RouterWeight:
        """The same values, packed at first use."""
        made: RouterWeight = weight.detach().as_subclass(cls)
        made.packed = {}
        return made

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Linear products are packed, a change of dtype is put off until the product, all else is as ever."""
        if func is nn.functional.linear and isinstance(args[1], cls):
            rows, weight, *bias = args
            if rows.dtype not in weight.packed:
                with torch._C.DisableTorchFunctionSubclass():
                    weight.packed[rows.dtype] = pack_weight(weight.as_subclass(torch.Tensor).to(rows.dtype))
            return weight.packed[rows.dtype](rows, *bias, **(kwargs or {}))
        if func is torch.Tensor.type and len(args) == 2:
            return args[0]
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


def packed_experts(
    module: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """transformers' experts interface: each expert's rows through its packed weights, added in the experts' order."""
    out = torch.zeros_like(hidden_states)
    for expert in torch.unique(top_k_index).tolist():
        if expert >= len(module.formwork_experts):  # a masked slot
            continue
        up, up_bias, down, down_bias = module.formwork_experts[expert]
        tokens, slots = torch.where(top_k_index == expert)
        rows = down(row_stable(module._apply_gate, up(hidden_states[tokens], up_bias)), down_bias)
        out.index_add_(0, tokens, (rows * top_k_weights[tokens, slots, None]).to(out.dtype))
    return out


def pack_linears(model: nn.Module) -> None:
    """Replaces every matrix product of the model; unpacked copies are dropped as it goes (tied embeddings stay)."""
    replace_modules(model, _packed_module)
    for module in model.modules():
        if "Router" in type(module).__name__ and "weight" in module._parameters:
            weight = module._parameters.pop("weight")
            assert weight is not None
            module.weight = RouterWeight.of(weight)
        if are_experts(module) or "coded_experts" in vars(module):
            _pack_experts(module)
            ExpertsInterface.register(EXPERTS_NAME, packed_experts)
            module.config._experts_implementation_internal = EXPERTS_NAME  # type: ignore[union-attr]


def _packed_module(module: nn.Module) -> PackedLinear | None:
    if isinstance(module, CodedLinear):
        return PackedLinear(module.weight, module.bias)
    # By exact type: a subclass's forward may do something else. FalconLinear differs from Linear in nothing.
    if type(module) is nn.Linear or type(module).__name__ == "FalconLinear":
        return PackedLinear(module.weight, module.bias)  # type: ignore[arg-type]
    if type(module) is Conv1D:
        return PackedLinear(module.weight.t(), module.bias)
    return None


def _pack_experts(module: Any) -> None:
    up_bias, down_bias = (module._parameters.pop(name, None) for name in ("gate_up_proj_bias", "down_proj_bias"))
    coded: list[CodedExpert] | None = vars(module).pop("coded_experts", None)
    module.formwork_experts = []
    experts: Sequence[Expert | CodedExpert] = take_experts(module) if coded is None else coded
    for number, expert in enumerate(experts):
        up = pack_weight(expert.up) if isinstance(expert, Expert) else _packed_below(expert.up)
        biases = (None if bias is None else bias[number].detach() for bias in (up_bias, down_bias))
        module.formwork_experts.append((up, next(biases), pack_weight(expert.down), next(biases)))


def _packed_below(weights: Sequence[CodedWeight]) -> PackedWeight:
    packed = [pack_weight(weight) for weight in weights]
    return packed[0] if len(packed) == 1 else WeightsBelow(packed)
