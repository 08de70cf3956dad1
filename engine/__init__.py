"""engine: scheduling, cache pages, model execution and sampling, behind a process boundary."""

from engine.config import EngineConfig
from engine.errors import (
    BudgetTooSmall,
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineDied,
    EngineError,
    EngineKilled,
    EngineOverloaded,
    EngineUnavailable,
    GrammarDeadEnd,
    InternalError,
    InvalidRequest,
    NumericError,
    UnknownGrammar,
)
from engine.interface import Continuity, Engine, EngineState

__all__ = [
    "BudgetTooSmall",
    "ContextLengthExceeded",
    "Continuity",
    "DeadlineExceeded",
    "Engine",
    "EngineConfig",
    "EngineDied",
    "EngineError",
    "EngineKilled",
    "EngineOverloaded",
    "EngineState",
    "EngineUnavailable",
    "GrammarDeadEnd",
    "InternalError",
    "InvalidRequest",
    "NumericError",
    "UnknownGrammar",
]
