"""What the service needs of an engine: one small protocol.

What it is for: the service depends on `Engine` alone, so that a scripted engine of forty lines tests every route, and
a remote or replicated engine can take the process's place. What may not enter: torch, ZeroMQ, HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from enum import StrEnum
from typing import Protocol

import msgspec

from engine.messages import Generate, ModelInfo, Output, Plan, Stats


class EngineState(StrEnum):
    """Where the engine process is in its life, as the client sees it."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"  # died or hung; live requests wait and will be resumed
    BROKEN = "broken"  # the crash-loop breaker is open: every request fails at once
    DRAINING = "draining"  # finishes what it has, refuses what is new
    CLOSED = "closed"


class Continuity(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor has had to do since start; the service shows these as metrics."""

    restarts: int = 0
    resumptions: int = 0
    lost: int = 0  # requests that ended with EngineDied
    quarantined: int = 0  # refused with it at once: they had killed the process before


class Engine(Protocol):
    """Generates tokens for requests."""

    @property
    def info(self) -> ModelInfo:
        """The model as loaded; known once started, kept through restarts."""
        ...

    @property
    def stats(self) -> Stats:
        """The latest counters."""
        ...

    @property
    def state(self) -> EngineState: ...

    @property
    def continuity(self) -> Continuity: ...

    def generate(self, request: Generate, plan: Plan | None = None) -> AsyncGenerator[Output, None]:
        """Outputs in order, without gap or repeat; the last one carries `finish`.

        `plan` is needed iff `request.grammar` names one, and is sent to the engine only when it has not got it yet.
        Raises an EngineError subclass. Closing the generator (`aclose`, or the task's cancellation) aborts the request.
        """
        ...

    async def close(self, drain_s: float = 0.0) -> None:
        """Refuses what is new at once; lets what runs finish for `drain_s`, then aborts it; ends the process."""
        ...
