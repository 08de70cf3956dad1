"""How much memory there is, and how many cache pages fit into it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.model.config import RunnerConfig
from engine.model.errors import BrokenModel

_CPU_FRACTION = 0.25  # the rest is for grammars, the other process, and whoever else lives here
_CUDA_FRACTION = 0.9


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one layer stores per token, in elements."""

    kv_heads: int
    key_dim: int
    value_dim: int


def page_count(config: RunnerConfig, page_bytes: int, free_bytes: int, *, device: str) -> int:
    """Pages of `page_bytes` each, as the configuration wants them. Raises BrokenModel if not one fits."""
    if config.pages is not None:
        return config.pages
    fraction = config.memory_fraction or (_CUDA_FRACTION if device == "cuda" else _CPU_FRACTION)
    budget = config.cache_bytes if config.cache_bytes is not None else int(free_bytes * fraction)
    pages = budget // page_bytes
    if pages < 1:
        raise BrokenModel(f"{budget} bytes hold no page of the KV cache ({page_bytes} bytes each)")
    return pages


def page_bytes(layers: Sequence[LayerShape], page_size: int, element_bytes: int) -> int:
    """Keys and values of one page in all layers."""
    return sum(s.kv_heads * (s.key_dim + s.value_dim) for s in layers) * page_size * element_bytes


def free_cpu_bytes() -> int:
    """What this process may still take: the machine's available memory, or the container's if that is less."""
    available = _meminfo("MemAvailable")
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    return available if limit is None or used is None else min(available, max(limit - used, 0))


def measured_bandwidth(device: torch.device, megabytes: int = 64) -> float:
    """Bytes a second that the device reads, the best of a few sums over more than its caches hold."""
    values = torch.ones(megabytes << 18, device=device)
    best = float("inf")
    for _ in range(4):
        _wait_for(device)
        start = time.perf_counter()
        values.sum()
        _wait_for(device)
        best = min(best, time.perf_counter() - start)
    return values.nbytes / best


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _meminfo(field: str) -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def _cgroup(name: str) -> int | None:
    try:
        text = (Path("/sys/fs/cgroup") / name).read_text(encoding="ascii").strip()
    except OSError:
        return None
    return None if text == "max" else int(text)
