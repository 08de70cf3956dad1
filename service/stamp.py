"""What is the same for every request: an id, its time, a line in the log, and whose shape its errors have.

What it is for: `Stamp`, the outermost of our own layers around the routes. What may not enter: bodies, what routes do.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs
from service.errors import Family
from service.house import House

_ACCESS = logging.getLogger("formwork.access")
_TGI_PATHS = frozenset({"/", "/generate", "/generate_stream", "/info", "/chat_tokenize", "/invocations", "/vertex"})


def family_of(path: str) -> Family:
    """Whose shape an error on this path has."""
    if path.startswith("/v1/messages"):
        return Family.ANTHROPIC
    if path.startswith("/api/"):
        return Family.OLLAMA
    if path.startswith("/v1beta/") or path.endswith((":generateContent", ":streamGenerateContent", ":countTokens")):
        return Family.GEMINI
    return Family.TGI if path in _TGI_PATHS or path.startswith("/v2") else Family.OPENAI


class Stamp:
    """Gives each request an id, which its log lines carry too, and tells how long its answer took to begin.

    `root_path`: a prefix that a proxy strips, for links; a path that has it still is found too.
    """

    def __init__(self, app: ASGIApp, access_log: bool = False, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrived = time.monotonic()
        if self._root_path:
            scope["root_path"] = self._root_path
        request_id = new_id()
        status = 499  # of one who went away before the answer began

        answered: Callable[[int], None]

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answered(status)
                spent = f"{1e3 * (time.monotonic() - arrived):.0f}".encode()
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                    (b"openai-processing-ms", spent),
                ]
            await send(message)

        house: House = scope["app"].state.house
        path = scope["path"][:200]
        traced = house.tracing.request(scope["method"], path, Headers(scope=scope), request_id)
        with logs.of_request(request_id), traced as answered:
            try:
                await self._app(scope, receive, stamped)
            finally:
                if self._access_log:
                    note_access(scope["method"], scope["path"], status, time.monotonic() - arrived)


def new_id() -> str:
    """Of a request; never the client's: two clients could choose the same."""
    return secrets.token_hex(12)


def note_access(method: str, path: str, status: int, seconds: float) -> None:
    """One line a request: no query, no body, no header, for a key may stand in any of them."""
    told = {"method": method, "path": path[:200], "status": status, "seconds": round(seconds, 4)}
    _ACCESS.info("%(method)s %(path)r %(status)d %(seconds).3f s", told, extra={"facts": told})
