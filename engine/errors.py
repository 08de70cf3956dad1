"""What can go wrong with a request in the engine, told by type.

    EngineError
    ├── GrammarDeadEnd        no token was legal and the text was not complete
    ├── BudgetTooSmall        max_tokens cannot hold the shortest text that the grammar accepts
    ├── ContextLengthExceeded prompt and output together do not fit the model or the cache
    ├── NumericError          NaN or infinity in this request's logits
    ├── EngineOverloaded      the waiting queue is full; nothing was done
    ├── UnknownGrammar        no plan was given for the grammar that the request names
    ├── InvalidRequest        a value that no engine can serve (a token id outside the vocabulary, an unknown key id)
    ├── DeadlineExceeded      the deadline that the caller set has passed
    ├── InternalError         a defect of ours, confined to this request
    ├── EngineDied            the process died more often than a request is resumed
    │   └── EngineKilled      and this request alone can have killed it: what it asks for is refused for a while
    └── EngineUnavailable     not started, draining, closed, or given up after a crash loop

Ignorant of HTTP: `service/errors.py` maps these classes to statuses.
"""

from __future__ import annotations

from engine.messages import ErrorCode


class EngineError(Exception):
    """One request failed; `code` is the wire's name for the class."""

    code: ErrorCode = ErrorCode.INTERNAL

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class GrammarDeadEnd(EngineError):
    """No token was legal and the text was not complete."""

    code = ErrorCode.GRAMMAR_DEAD_END


class BudgetTooSmall(EngineError):
    """`max_tokens` cannot hold the shortest text that the grammar accepts."""

    code = ErrorCode.BUDGET_TOO_SMALL


class ContextLengthExceeded(EngineError):
    """Prompt and output together do not fit the model or the cache."""

    code = ErrorCode.CONTEXT_LENGTH


class NumericError(EngineError):
    """NaN or infinity in this request's logits."""

    code = ErrorCode.NUMERIC


class EngineOverloaded(EngineError):
    """The waiting queue is full; nothing was done."""

    code = ErrorCode.OVERLOADED


class UnknownGrammar(EngineError):
    """No plan was given for the grammar that the request names."""

    code = ErrorCode.UNKNOWN_GRAMMAR


class InvalidRequest(EngineError):
    """A value that no engine can serve."""

    code = ErrorCode.BAD_REQUEST


class DeadlineExceeded(EngineError):
    """The deadline that the caller set has passed."""

    code = ErrorCode.DEADLINE


class InternalError(EngineError):
    """A defect of ours, confined to this request."""

    code = ErrorCode.INTERNAL


class EngineDied(EngineError):
    """The engine process died more often than a request is resumed."""

    code = ErrorCode.ENGINE_DIED


class EngineKilled(EngineDied):
    """The process died under this request each time, and others that were in it went on without it."""

    code = ErrorCode.ENGINE_KILLED


class EngineUnavailable(EngineError):
    """Not started, draining, closed, or given up after a crash loop."""

    code = ErrorCode.UNAVAILABLE


_BY_CODE: dict[ErrorCode, type[EngineError]] = {
    kind.code: kind
    for kind in (
        GrammarDeadEnd,
        BudgetTooSmall,
        ContextLengthExceeded,
        NumericError,
        EngineOverloaded,
        UnknownGrammar,
        InvalidRequest,
        DeadlineExceeded,
        InternalError,
        EngineDied,
        EngineKilled,
        EngineUnavailable,
    )
}


def error_of(code: ErrorCode, message: str) -> EngineError:
    """The exception for a code that came over the wire."""
    return _BY_CODE[code](message)
