"""Filling a step's masks beside its forward pass: when a second thread is worth it.

What it is for: a CPU with two cores, where the loop's thread computes. What may not enter: masks, the loop.

The idea: a mask that was met before is looked up in microseconds, a first one may take milliseconds. Handing masks over
costs about a millisecond wherever both threads want the interpreter's lock, which the forward pass of a small model
does all the time. So they are handed over only while those of late steps took longer than that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TypeVar

Filled = TypeVar("Filled")

_WORTH_S = 0.002
_RECENT = 0.2  # weight of a step in what late ones took


class MaskHelper:
    """`worth_s`: seconds of masks a step from which on they are handed to the executor's thread."""

    def __init__(self, executor: Executor, worth_s: float = _WORTH_S) -> None:
        self._executor = executor
        self._worth_s = worth_s
        self._late_s = 0.0  # a step's masks, in the time of the thread that fills them

    def begin(self, fill: Callable[[], Filled]) -> Callable[[], Filled]:
        """Starts `fill` in the other thread, or puts it off; the result is what waits for it, or does it."""
        if self._late_s < self._worth_s:
            return lambda: self._timed(fill)
        filling: Future[Filled] = self._executor.submit(self._timed, fill)
        return filling.result

    def _timed(self, fill: Callable[[], Filled]) -> Filled:
        began = time.thread_time()
        try:
            return fill()
        finally:
            self._late_s += _RECENT * (time.thread_time() - began - self._late_s)
