"""Log lines for people, or JSON objects for machines; each says for which request it was written.

What it is for: `set_up(level, form)`, called once by the server process, and `of_request`, called once a request. What
may not enter: what is logged. Prompts, outputs, schemas, headers and keys are never logged, whatever the level.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from engine import logs

# A logger is called from everywhere; handing the id down to each of its calls would put it into every signature.
_REQUEST: ContextVar[str | None] = ContextVar("request", default=None)


@contextmanager
def of_request(request_id: str) -> Iterator[None]:
    """What is logged inside is of this request."""
    token = _REQUEST.set(request_id)
    try:
        yield
    finally:
        _REQUEST.reset(token)


def set_up(level: str, form: Literal["text", "json"]) -> None:
    """Every logger of this process writes to stderr in this form."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else TextLines("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class TextLines(logging.Formatter):
    """One line a record, for people; control characters in it are escaped, so nobody writes a second line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (the base class's name)
        request_id = _REQUEST.get()
        text = _one_line(super().formatMessage(record))
        return text if request_id is None else f"{text} [{request_id}]"


class JsonLines(logs.JsonLines):
    """The form of all processes, with the request's id."""

    def facts(self, record: logging.LogRecord) -> dict[str, Any]:
        request_id = _REQUEST.get()
        return super().facts(record) | ({} if request_id is None else {"request_id": request_id})


def _one_line(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
