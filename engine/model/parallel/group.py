"""How ranks talk while they compute.

What it is for: the three things that a share of a model needs of the others: a sum, the logits together, a number that
all agree on. What may not enter: commands (`engine.team` has its own line to each rank).

The idea: on CPU ranks a sum is added in the order of the ranks, wherever a number lies in its tensor. A ring would add
in an order that depends on the place, and so on which requests share a step; NCCL's does, as a GPU's products do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

import torch
import torch.distributed as dist


class Group(Protocol):
    """The ranks that share a model, seen from one of them."""

    rank: int
    ranks: int

    def add_up(self, summands: torch.Tensor) -> torch.Tensor:
        """The sum of all ranks' tensors, which are alike in shape; may be written into `summands`."""
        ...

    def collect(self, columns: torch.Tensor) -> torch.Tensor | None:
        """On rank 0 all ranks' (rows, width) beside each other, (rows, ranks · width); elsewhere None."""
        ...

    def least(self, number: int) -> int:
        """The smallest of all ranks' numbers."""
        ...


class ProcessGroup:
    """Ranks in processes of their own: gloo between CPUs, NCCL between GPUs.

    While models load and kernels are compiled, ranks may be minutes apart; afterwards (`hurry`) a rank that is missing
    for `timeout_s` has died or hangs, and the collective raises. `exchanged` counts the numbers in tensors given to
    sums and collections, `waited_s` the wall-clock seconds in them (on a GPU those of the launch only).
    """

    def __init__(self, rank: int, ranks: int, rendezvous: str, device: torch.device, timeout_s: float) -> None:
        self.rank, self.ranks = rank, ranks
        self._cpu = device.type == "cpu"
        dist.init_process_group(
            "gloo" if self._cpu else "nccl",
            init_method=f"file://{rendezvous}",
            rank=rank,
            world_size=ranks,
            timeout=timedelta(minutes=30),
            device_id=None if self._cpu else device,
        )
        self.exchanged, self.waited_s = 0, 0.0
        self._later = dist.new_group(timeout=timedelta(seconds=timeout_s))
        self._group: dist.ProcessGroup | None = None

    def hurry(self) -> None:
        """From now on all ranks work in step."""
        self._group = self._later

    def add_up(self, summands: torch.Tensor) -> torch.Tensor:
        """As Group."""
        with self._counted(summands):
            return self._add_up(summands)

    def collect(self, columns: torch.Tensor) -> torch.Tensor | None:
        """As Group."""
        if columns.shape[0] == 0:
            return columns.repeat(1, self.ranks) if self.rank == 0 else None
        with self._counted(columns):
            return self._collect(columns.contiguous())

    @contextmanager
    def _counted(self, tensor: torch.Tensor) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.exchanged += tensor.numel()
        self.waited_s += time.perf_counter() - start

    def _add_up(self, summands: torch.Tensor) -> torch.Tensor:
        if not self._cpu:
            dist.all_reduce(summands, group=self._group)
            return summands
        summands = summands.contiguous()
        parts = [torch.empty_like(summands) for _ in range(self.ranks)]
        dist.all_gather(parts, summands, group=self._group)
        total = parts[0]
        for part in parts[1:]:
            total += part
        return total

    def _collect(self, columns: torch.Tensor) -> torch.Tensor | None:
        if self._cpu:
            parts = [torch.empty_like(columns) for _ in range(self.ranks)] if self.rank == 0 else None
            dist.gather(columns, parts, dst=0, group=self._group)
            return None if parts is None else torch.cat(parts, dim=1)
        # NCCL has no gather that a CUDA graph can record.
        every = columns.new_empty((self.ranks, *columns.shape))
        dist.all_gather_into_tensor(every, columns, group=self._group)
        return every.transpose(0, 1).flatten(1) if self.rank == 0 else None

    def least(self, number: int) -> int:
        """As Group."""
        value = torch.tensor([number], device="cpu" if self._cpu else "cuda")
        dist.all_reduce(value, dist.ReduceOp.MIN, group=self._group)
        return int(value)

    def close(self) -> None:
        """Ends the connections."""
        dist.destroy_process_group()
