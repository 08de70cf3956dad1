"""Ranks as threads of one process: what a share computes can be tested without starting processes.

What it is for: `together(ranks, work)` calls `work(group)` for each rank at the same time. Sums are exact stand-ins for
those of `ProcessGroup`: in the order of the ranks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
import torch

from engine.model import runner

Result = TypeVar("Result")

_WAIT_S = 60.0


class Meeting:
    """A place where all ranks bring a tensor and leave with everyone's."""

    def __init__(self, ranks: int) -> None:
        self._barrier = threading.Barrier(ranks)
        self._brought: list[torch.Tensor] = [torch.empty(0)] * ranks

    def exchange(self, rank: int, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Everyone's tensors in the order of ranks."""
        self._brought[rank] = tensor.clone()
        self._barrier.wait(_WAIT_S)
        everyone = list(self._brought)
        self._barrier.wait(_WAIT_S)
        return everyone

    def abandon(self) -> None:
        """A rank has failed: nobody waits for it."""
        self._barrier.abort()


class ThreadGroup:
    """Implements `engine.model.parallel.Group`."""

    def __init__(self, rank: int, ranks: int, meeting: Meeting) -> None:
        self.rank, self.ranks = rank, ranks
        self._meeting = meeting

    def add_up(self, summands: torch.Tensor) -> torch.Tensor:
        """As Group."""
        total, *others = self._meeting.exchange(self.rank, summands)
        total = total.clone()
        for other in others:
            total += other
        return total

    def collect(self, columns: torch.Tensor) -> torch.Tensor | None:
        """As Group."""
        everyone = self._meeting.exchange(self.rank, columns)
        return torch.cat(everyone, dim=1) if self.rank == 0 else None

    def least(self, number: int) -> int:
        """As Group."""
        return min(int(n) for n in self._meeting.exchange(self.rank, torch.tensor([number])))


def load_in_turns(patch: pytest.MonkeyPatch) -> None:
    """Ranks load one after the other, and none computes before all have: transformers loads under global switches."""
    load, lock = runner._load_share, threading.Lock()
    loaded: dict[int, threading.Barrier] = {}

    def locked(*arguments: Any) -> Any:
        ranks = arguments[-1].ranks
        with lock:
            model = load(*arguments)
            all_loaded = loaded.setdefault(ranks, threading.Barrier(ranks))
        all_loaded.wait(_WAIT_S)
        return model

    patch.setattr(runner, "_load_share", locked)


def together(ranks: int, work: Callable[[ThreadGroup], Result]) -> list[Result]:
    """Each rank's result; the first failure is raised."""
    meeting = Meeting(ranks)

    def guarded(group: ThreadGroup) -> Result:
        try:
            return work(group)
        except BaseException:
            meeting.abandon()
            raise

    with ThreadPoolExecutor(ranks) as pool:
        futures = [pool.submit(guarded, ThreadGroup(rank, ranks, meeting)) for rank in range(ranks)]
        failures = [f.exception() for f in futures]
    own = [e for e in failures if e is not None and not isinstance(e, threading.BrokenBarrierError)]
    for failure in own or [e for e in failures if e is not None]:
        raise failure
    return [f.result() for f in futures]
