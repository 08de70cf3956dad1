"""Fault points: what a test, or an operator's rehearsal, breaks on purpose in the engine process.

What it is for: `parse_faults` reads a line such as `step:kill:nth=40,life=1; logits:nan:seed=666`, `FaultPoints` says
when a fault is due, and `injected` puts it into an engine's rooms. What may not enter: what the engine does about it.

The idea: a fault is injected by wrapping the parts that the composition root has built. An engine without faults is
built without wrappers, so a fault point that is off is not even a comparison. Which request is hit is told by its
seed, which a client chooses; a fault without one hits whoever comes. `life` counts engine processes from 1, so that a
fault need not meet the process that was started because of it.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from engine.admission import Admission
from engine.batch import Runner, StepBatch
from engine.drawing import Drawn, Rejected, Row, Sampler
from engine.generation import Generation
from engine.loop import Rooms
from engine.masks import NO_NAMES, Names
from engine.messages import Generate, ModelInfo
from engine.scheduler import Part, Scheduler

_HANG_S = 3600.0


class Site(StrEnum):
    """Where. Those between `DRAW` and `SENT` are the steps of a token's commit, in their order."""

    LOAD = "load"  # before the model is loaded
    STEP = "step"  # before a forward pass
    LOGITS = "logits"  # of a row, after the pass
    MASK = "mask"  # when a row's mask is filled
    MARK = "mark"  # when a row's watermark is asked
    DRAW = "draw"  # before a token is drawn
    DRAWN = "drawn"  # after that, before the matcher knows
    ADVANCED = "advanced"  # the matcher knows, nothing is emitted
    COUNTED = "counted"  # the scheduler has counted it; the step's events are not sent
    SEND = "send"  # before a frame of events goes out
    SENT = "sent"  # after that


class Action(StrEnum):
    """What."""

    KILL = "kill"  # as `kill -9`
    HANG = "hang"  # no step, no sign of life
    RAISE = "raise"
    NAN = "nan"  # LOGITS only
    INF = "inf"  # LOGITS only
    EMPTY = "empty"  # MASK only: no token is legal


_DATA = {Action.NAN: Site.LOGITS, Action.INF: Site.LOGITS, Action.EMPTY: Site.MASK}


class Injected(Exception):
    """The exception that a fault point raises."""


class FaultSyntaxError(ValueError):
    """A line of faults that cannot be read."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One line's entry; a condition that is None always holds."""

    site: Site
    action: Action
    seed: int | None = None  # of the request
    nth: int | None = None  # the how manieth time that the site is reached (by that request)
    p: float | None = None
    life: int | None = None


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Reads `site:action[:name=value,…]; …`. Raises FaultSyntaxError, naming the entry."""
    return tuple(_fault(entry.strip()) for entry in text.split(";") if entry.strip())


def _fault(entry: str) -> Fault:
    site, _, rest = entry.partition(":")
    action, _, conditions = rest.partition(":")
    try:
        fault = Fault(Site(site), Action(action), **_conditions(conditions))
    except (ValueError, TypeError) as error:
        raise FaultSyntaxError(f"fault {entry!r}: {error}") from None
    if _DATA.get(fault.action, fault.site) is not fault.site:
        raise FaultSyntaxError(f"fault {entry!r}: {action} is for {_DATA[fault.action]} only")
    return fault


def _conditions(text: str) -> dict[str, Any]:
    kinds = {"seed": int, "nth": int, "life": int, "p": float}
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    unknown = next((name for name, _, _ in pairs if name.strip() not in kinds), None)
    if unknown is not None:
        raise ValueError(f"{unknown!r} is no condition; known: {', '.join(kinds)}")
    return {name.strip(): kinds[name.strip()](value) for name, _, value in pairs}


class FaultPoints:
    """Knows which faults are due. Draws of `p` are seeded by the process's life: a rehearsal can be repeated."""

    def __init__(self, faults: Sequence[Fault], life: int) -> None:
        self._faults = [fault for fault in faults if fault.life in (None, life)]
        self._times: Counter[tuple[Site, int | None]] = Counter()
        self._random = random.Random(life)

    def reach(self, site: Site, seed: int | None = None) -> Action | None:
        """Does what is due here, or returns the action that only the caller can do. Raises Injected."""
        self._times[site, None] += 1
        if seed is not None:
            self._times[site, seed] += 1
        due = next((fault for fault in self._faults if self._is_due(fault, site, seed)), None)
        return None if due is None else _do(due)

    def _is_due(self, fault: Fault, site: Site, seed: int | None) -> bool:
        return (
            fault.site is site
            and (fault.seed is None or fault.seed == seed)
            and (fault.nth is None or fault.nth == self._times[site, fault.seed])
            and (fault.p is None or self._random.random() < fault.p)
        )


def _do(fault: Fault) -> Action | None:
    match fault.action:
        case Action.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Action.HANG:
            time.sleep(_HANG_S)
        case Action.RAISE:
            raise Injected(f"injected at {fault.site}")
        case data:
            return data
    return None


# Into the rooms


def injected(rooms: Rooms, points: FaultPoints) -> Rooms:
    """The same rooms with the fault points around them."""
    return replace(
        rooms,
        runner=_Runner(rooms.runner, points),
        sampler=_Sampler(rooms.sampler, points),
        scheduler=cast("Scheduler", _Scheduler(rooms.scheduler, points)),
        admission=cast("Admission", _Admission(rooms.admission, points)),
    )


class FaultySocket:
    """A socket whose frames may not get out."""

    def __init__(self, socket: Any, points: FaultPoints) -> None:
        self._socket = socket
        self._points = points

    def send_multipart(self, frames: list[bytes]) -> None:
        self._points.reach(Site.SEND)
        self._socket.send_multipart(frames)
        self._points.reach(Site.SENT)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


class _Runner:
    """A runner whose steps may fail."""

    def __init__(self, runner: Runner, points: FaultPoints) -> None:
        self.info: ModelInfo = runner.info
        self._runner = runner
        self._points = points

    def run(self, batch: StepBatch) -> torch.Tensor:
        self._points.reach(Site.STEP)
        return self._runner.run(batch)

    def copy_page(self, source: int, target: int) -> None:
        self._runner.copy_page(source, target)


class _Sampler:
    """A sampler whose rows may be poisoned, and whose draws may fail."""

    def __init__(self, sampler: Sampler, points: FaultPoints) -> None:
        self._sampler = sampler
        self._points = points
        self._rows: Sequence[Row] = ()

    def measure(
        self, logits: torch.Tensor, rows: Sequence[Row], masks: NDArray[np.int32], names: Names = NO_NAMES
    ) -> None:
        self._rows = rows
        for index, row in enumerate(rows):
            action = self._points.reach(Site.LOGITS, row.rule.seed)
            if action is not None:
                logits[index, :: 2 if action is Action.NAN else 1] = float(action)
        self._sampler.measure(logits, rows, masks, names)

    def draw(self, index: int) -> Drawn | Rejected:
        seed = self._rows[index].rule.seed
        self._points.reach(Site.DRAW, seed)
        drawn = self._sampler.draw(index)
        self._points.reach(Site.DRAWN, seed)
        return drawn


class _Around:
    """Everything of what it stands around, but for what a subclass defines."""

    def __init__(self, inner: Any, points: FaultPoints) -> None:
        self._inner = inner
        self._points = points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Scheduler(_Around):
    def complete(self, part: Part, accepted: int) -> None:
        self._inner.complete(part, accepted)
        self._points.reach(Site.COUNTED)


class _Admission(_Around):
    def open(self, request: Generate, arrival: int, now: float) -> Generation:
        generation: Generation = self._inner.open(request, arrival, now)
        if generation.constraint is not None:
            generation.constraint.matcher = cast("Any", _Matcher(generation.constraint.matcher, self._points, request))
        if generation.embedder is not None:
            generation.embedder = cast("Any", _Embedder(generation.embedder, self._points, request))
        return generation


class _OfRequest(_Around):
    def __init__(self, inner: Any, points: FaultPoints, request: Generate) -> None:
        super().__init__(inner, points)
        self._seed = request.sampling.seed


class _Matcher(_OfRequest):
    def fill_mask(self, row: NDArray[np.int32], budget: int | None = None) -> bool:
        action = self._points.reach(Site.MASK, self._seed)
        limited: bool = self._inner.fill_mask(row, budget)
        if action is Action.EMPTY:
            row[:] = 0
        return limited

    def shared_mask(self, _budget: int | None = None) -> None:
        """None: a row that others share is not for spoiling."""

    def advance(self, token_id: int) -> bool:
        taken: bool = self._inner.advance(token_id)
        self._points.reach(Site.ADVANCED, self._seed)
        return taken


class _Embedder(_OfRequest):
    def marks(self, *arguments: Any) -> bool:
        self._points.reach(Site.MARK, self._seed)
        marked: bool = self._inner.marks(*arguments)
        return marked
