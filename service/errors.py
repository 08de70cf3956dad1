"""The one table of errors: class → status, code and type, for OpenAI's shape and TGI's, plain and streamed alike.

    ServiceError
    ├── InvalidBody           the body is not what the route takes; `field` says where
    │   ├── TemplateFailure   the chat template refuses these messages
    │   └── ConversationNotFound  the response to go on from is not kept
    ├── ModelNotFound         no such model here
    ├── Unauthorized          no or a wrong API key
    ├── Forbidden             the key may not do this, or the server's policy forbids it
    ├── NotFound, MethodNotAllowed, UnsupportedMediaType, BodyTooLarge, BodyTimeout
    ├── KeyLimited            this key has used up its own limit
    ├── Overloaded            too many requests in the house; nothing was done
    ├── StorageUnavailable    the disk took nothing more
    └── CompilerUnavailable   the compile workers are being restarted

Beside them stand `grammar.GrammarError` and `engine.EngineError` with their own trees. What may not enter: a status
anywhere else in the service.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from engine import (
    BudgetTooSmall,
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineDied,
    EngineError,
    EngineKilled,
    EngineOverloaded,
    EngineUnavailable,
    GrammarDeadEnd,
    InvalidRequest,
    NumericError,
)
from grammar.errors import GrammarError, GrammarTooLarge, UnsatisfiableConstraint, UnsupportedConstraint


class ServiceError(Exception):
    """Something the client is told; `param` names the request's field."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        facts: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.facts = dict(facts or {})
        self.retry_after_s = retry_after_s


class InvalidBody(ServiceError):
    """The body is not what the route takes; `out_of_range`: a number or a list is too small or too large."""

    out_of_range: Literal["below", "above"] | None = None


class TemplateFailure(InvalidBody):
    """The chat template refuses these messages, or cannot be rendered."""


class NotEnoughBudget(InvalidBody):
    """`max_tokens` cannot hold the shortest output; found before any work was done."""


class TooManyTokens(InvalidBody):
    """Prompt and output do not fit the context."""


def far_too_long(limit: int, param: str) -> TooManyTokens:
    """A prompt that nobody counted to its end."""
    return TooManyTokens(
        f"the prompt has more than {2 * limit} tokens; prompt and output together may have {limit}",
        param=param,
        facts={"limit": limit},
    )


class ConversationNotFound(InvalidBody):
    """The response that the conversation should go on from is not kept here, or no longer."""


class NoThreads(InvalidBody):
    """Anthropic's conversations that the server holds; its clients go on without when they are told so."""


class ModelNotFound(ServiceError):
    """No such model here."""


class Unauthorized(ServiceError):
    """No or a wrong API key."""


class Forbidden(ServiceError):
    """The server's policy forbids what was asked."""


class NotFound(ServiceError):
    """No such route or thing."""


class MethodNotAllowed(ServiceError):
    """The route exists for another method."""


class UnsupportedMediaType(ServiceError):
    """The body is not declared as JSON."""


class BodyTooLarge(ServiceError):
    """The body is over the limit."""


class BodyTimeout(ServiceError):
    """The body did not arrive in time."""


class KeyLimited(ServiceError):
    """This key has used up its own limit; others are served."""


class Overloaded(ServiceError):
    """Too many requests in the house; nothing was done."""


class StorageUnavailable(ServiceError):
    """What was to be kept could not be written: a full disk, a folder that went away."""


class CompilerUnavailable(ServiceError):
    """No compile worker could answer."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    status: int
    code: str | None
    type: str
    tgi_status: int
    tgi_type: str
    tgi_prefix: str = ""


_BAD = "invalid_request_error"
_VALIDATION = "Input validation error: "
_GENERATION = "Request failed during generation: "


def _bad(code: str, status: int = 400) -> Row:
    return Row(status, code, _BAD, 422, "validation", _VALIDATION)


def _failed(status: int, code: str) -> Row:
    return Row(status, code, "server_error", 424, "generation", _GENERATION)


def _busy(code: str) -> Row:
    return Row(503, code, "server_error", 429, "overloaded", "Model is overloaded: ")


TABLE: dict[type[Exception], Row] = {
    InvalidBody: _bad("invalid_value"),
    TemplateFailure: Row(400, "template_error", _BAD, 422, "template_error", "Template error: "),
    NotEnoughBudget: _bad("budget_too_small", 422),
    TooManyTokens: _bad("context_length_exceeded"),
    ConversationNotFound: _bad("previous_response_not_found"),
    GrammarError: _bad("invalid_constraint"),
    UnsupportedConstraint: _bad("unsupported_constraint"),
    UnsatisfiableConstraint: _bad("unsatisfiable_constraint"),
    GrammarTooLarge: _bad("constraint_too_large"),
    NoThreads: _bad("invalid_value"),
    ModelNotFound: Row(404, "model_not_found", _BAD, 404, "validation", _VALIDATION),
    Unauthorized: Row(401, "invalid_api_key", _BAD, 401, "unauthorized"),
    Forbidden: Row(403, "forbidden", _BAD, 403, "forbidden"),
    NotFound: Row(404, "not_found", _BAD, 404, "not_found"),
    MethodNotAllowed: Row(405, "method_not_allowed", _BAD, 405, "method_not_allowed"),
    UnsupportedMediaType: Row(415, "unsupported_media_type", _BAD, 415, "validation", _VALIDATION),
    BodyTooLarge: Row(413, "body_too_large", _BAD, 413, "validation", _VALIDATION),
    BodyTimeout: Row(408, "body_timeout", _BAD, 408, "validation", _VALIDATION),
    KeyLimited: Row(429, "rate_limit_exceeded", "rate_limit_error", 429, "overloaded", "Model is overloaded: "),
    Overloaded: _busy("overloaded"),
    StorageUnavailable: _busy("storage_unavailable"),
    CompilerUnavailable: _busy("compiler_unavailable"),
    EngineOverloaded: _busy("overloaded"),
    EngineUnavailable: _busy("unavailable"),
    BudgetTooSmall: _bad("budget_too_small", 422),
    ContextLengthExceeded: _bad("context_length_exceeded"),
    InvalidRequest: _bad("invalid_value"),
    GrammarDeadEnd: _failed(500, "grammar_dead_end"),
    NumericError: _failed(500, "numeric_error"),
    EngineDied: _failed(500, "engine_died"),
    EngineKilled: _failed(500, "engine_died"),  # that it is kept out for a while changes nothing for who sent it
    DeadlineExceeded: _failed(504, "deadline_exceeded"),
    EngineError: _failed(500, "internal_error"),
    Exception: Row(500, "internal_error", "server_error", 500, "incomplete_generation", "Incomplete generation: "),
}
_RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as one dialect tells it: what goes into a plain answer or a stream's last event."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def row_of(error: BaseException) -> Row:
    """The table's line for the error's own class or the nearest one above it."""
    return next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)


_TGI_WORDS = {"template_error": "template", "incomplete_generation": "incomplete"}


def tgi_word(error: BaseException) -> str:
    """The label under which TGI's dashboards count this failure."""
    kind = row_of(error).tgi_type
    return _TGI_WORDS.get(kind, kind if kind in {"validation", "overloaded", "generation"} else "validation")


class Family(StrEnum):
    """Whose routes: they differ in the shape of errors."""

    OPENAI = "openai"
    TGI = "tgi"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"
    GEMINI = "gemini"


def problem(error: BaseException, family: Family) -> Problem:
    """The error in the family's shape."""
    shapes = {
        Family.TGI: tgi_problem,
        Family.ANTHROPIC: anthropic_problem,
        Family.OLLAMA: ollama_problem,
        Family.GEMINI: gemini_problem,
    }
    return shapes.get(family, openai_problem)(error)


def openai_problem(error: BaseException) -> Problem:
    """The error in OpenAI's shape."""
    row = row_of(error)
    detail: dict[str, Any] = {"message": _message(error), "type": row.type, "param": _param(error), "code": row.code}
    if facts := _facts(error):
        detail["formwork"] = facts
    return Problem(row.status, {"error": detail}, _headers(error, row.status))


def tgi_problem(error: BaseException) -> Problem:
    """The error in TGI's shape."""
    row = row_of(error)
    body: dict[str, Any] = {"error": row.tgi_prefix + _tgi_message(error), "error_type": row.tgi_type}
    if facts := _facts(error):
        body["formwork"] = facts
    return Problem(row.tgi_status, body, _headers(error, row.tgi_status))


_BOTH_ENDS = {
    "parameters.frequency_penalty": "`frequency_penalty` must be >= -2.0 and <= 2.0",
    "parameters.top_p": "`top_p` must be > 0.0 and < 1.0",
    "parameters.typical_p": "`typical_p` must be > 0.0 and < 1.0",
    "parameters.top_n_tokens": "`top_n_tokens` must be >= 0 and <= 20",
}
_TGI_RANGES: Mapping[Literal["below", "above"] | None, Mapping[str, str]] = {
    "above": {"parameters.stop": "`stop` supports up to 16 stop sequences", **_BOTH_ENDS},
    "below": {
        "parameters.temperature": "`temperature` must be strictly positive",
        "parameters.repetition_penalty": "`repetition_penalty` must be strictly positive",
        "parameters.top_k": "`top_k` must be strictly positive",
        "parameters.max_new_tokens": "`max_new_tokens` must be strictly positive",
        "parameters.truncate": "`truncate` must be strictly positive",
        "parameters.best_of": "`best_of` must be > 0",
        **_BOTH_ENDS,
    },
}
"""TGI's sentences for values outside of their range, which its users' code may look for."""


def _tgi_message(error: BaseException) -> str:
    """In TGI's words: what a sentence in backticks names needs no other name."""
    param = _param(error)
    if isinstance(error, GrammarError):
        return f"grammar is not valid: {_message(error)}"
    if isinstance(error, InvalidBody) and (sentence := _TGI_RANGES.get(error.out_of_range, {}).get(param or "")):
        return sentence
    named = isinstance(error, ServiceError) and error.message.startswith(("`", "you must"))
    return error.message if named and isinstance(error, ServiceError) else _message(error)


_ANTHROPIC = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def anthropic_problem(error: BaseException) -> Problem:
    """The error in Anthropic's shape; its type follows from the status."""
    status = row_of(error).status
    kind = _ANTHROPIC.get(status, "invalid_request_error" if status < 500 else "api_error")
    detail: dict[str, Any] = {"type": kind, "message": _message(error)}
    if isinstance(error, NoThreads):
        detail["details"] = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    if facts := _facts(error):
        detail["formwork"] = facts
    return Problem(status, {"type": "error", "error": detail}, _headers(error, status))


def ollama_problem(error: BaseException) -> Problem:
    """The error in Ollama's shape: a sentence."""
    status = row_of(error).status
    return Problem(status, {"error": _message(error)}, _headers(error, status))


_GEMINI = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def gemini_problem(error: BaseException) -> Problem:
    """The error in Gemini's shape; its word follows from the status."""
    status = row_of(error).status
    word = _GEMINI.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
    detail: dict[str, Any] = {"code": status, "message": _message(error), "status": word}
    if (param := _param(error)) is not None:
        violation = {"field": param, "description": _message(error)}
        kind = "type.googleapis.com/google.rpc.BadRequest"
        detail["details"] = [{"@type": kind, "fieldViolations": [violation]}]
    if facts := _facts(error):
        detail["formwork"] = facts
    return Problem(status, {"error": detail}, _headers(error, status))


@contextmanager
def renaming(names: Mapping[str, str]) -> Iterator[None]:
    """Tells errors by the fields that the client sent, where a request was first put into another dialect's words.

    `*` in a name is an index in a list, which its other name has too.
    """
    try:
        yield
    except (ServiceError, GrammarError) as error:
        where = _param(error)
        renamed = (_renamed(where, name, told) for name, told in names.items() if where is not None)
        if (found := next(filter(None, renamed), None)) is not None:
            error.__dict__["param"] = found
        raise


def _renamed(where: str, name: str, told: str) -> str | None:
    """`where` by its other name, if `name` is it or stands above it."""
    match = re.match(re.escape(name).replace(r"\*", r"(\d+)") + r"(?=\.|$)", where)
    if match is None:
        return None
    return told.replace("*", "".join(match.groups())) + where[match.end() :]


def _message(error: BaseException) -> str:
    if isinstance(error, GrammarError):
        where = getattr(error, "param", None)
        return f"{where}: {error}" if where else str(error)
    if isinstance(error, ServiceError | EngineError):
        where = getattr(error, "param", None)
        return f"{where}: {error.message}" if where else error.message
    return "an internal error; the log has its traceback under this request's id"


def _param(error: BaseException) -> str | None:
    if isinstance(error, ServiceError):
        return error.param
    return getattr(error, "param", None) if isinstance(error, GrammarError) else None


def _facts(error: BaseException) -> dict[str, Any]:
    if isinstance(error, GrammarError):
        return {"pointer": error.pointer, "keyword": error.keyword, "reason": error.reason}
    return error.facts if isinstance(error, ServiceError) else {}


def _headers(error: BaseException, status: int) -> dict[str, str]:
    """Clients retry by themselves on 429 and 5xx; they are told when, and when not to."""
    if status in {429, 503}:
        wait_s = getattr(error, "retry_after_s", None) or _RETRY_AFTER_S
        return {"retry-after": str(max(1, math.ceil(wait_s))), "x-should-retry": "true"}
    if status >= 500:
        return {"x-should-retry": "false"}
    return {"www-authenticate": "Bearer"} if status == 401 else {}
