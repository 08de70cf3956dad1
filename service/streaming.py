"""Server-sent events, and noticing that a client has gone.

What it is for: `EventStream` sends what a generator yields and closes it however the exchange ends; `attended` does the
same for answers that come in one piece. What may not enter: what is in the events.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.connections import abort_of

HEARTBEAT = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
# JSON may hold these unescaped, but clients that cut streams at every Unicode line end would cut there.
_LINE_ENDS = tuple((character.encode(), f"\\u{ord(character):04x}".encode()) for character in "\u0085\u2028\u2029")
_encode = msgspec.json.Encoder().encode

Result = TypeVar("Result")
_LOG = logging.getLogger(__name__)


class ClientGone(Exception):
    """Nobody is there to be answered."""


class ReaderStalled(ClientGone):
    """Somebody is there and does not read."""


def event(value: dict[str, Any], *, gap: bytes = b" ") -> bytes:
    """One event; TGI writes no blank after the colon."""
    data = _encode(value)
    for character, escape in _LINE_ENDS:
        if character in data:
            data = data.replace(character, escape)
    return b"data:" + gap + data + b"\n\n"


def line(value: dict[str, Any]) -> bytes:
    """One line of newline-delimited JSON."""
    return _encode(value) + b"\n"


class JsonReply(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return _encode(content)


class EventStream(Response):
    """Sends events until the generator or the client ends; then the generator is closed, and `finished` called.

    What the generator raises becomes a last event by `failed`: the status is gone by then. What it raises before its
    first event is raised by `prime`, so that it can still be told by status.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        failed: Callable[[Exception], bytes],
        finished: Callable[[], None],
        media_type: str = "text/event-stream",
        patience_s: float | None = None,
    ) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"}, media_type=media_type)
        del self.headers["content-length"]
        self._events = events
        self._failed = failed
        self._finished = finished
        self._patience_s = patience_s  # for one event to be taken
        self._first: asyncio.Task[bytes] | None = None

    async def prime(self, wait_s: float) -> None:
        """Begins the work; returns at the first event or after `wait_s`."""
        self._first = asyncio.create_task(self._next())
        try:
            await asyncio.wait({self._first}, timeout=wait_s)
            if self._first.done():
                self._first.result()
        except BaseException:
            await self._close()
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await _until_gone(self._send(send), receive)
        except ReaderStalled:
            _LOG.warning("a reader took nothing for %g s: its stream is cut", self._patience_s)
            if (abort := abort_of(scope)) is not None:
                abort()
                await asyncio.sleep(0)  # in which uvicorn learns of it
        except ClientGone:
            return
        finally:
            try:
                await self._close()
            finally:
                self._finished()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            while data := await (self._first or self._next()):
                self._first = None
                await self._put(send, data)
        except ReaderStalled:
            raise
        except Exception as error:  # the outermost guard of a stream: the client is told, and the log
            await self._put(send, self._failed(error))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _put(self, send: Send, data: bytes) -> None:
        """Sends; waits for the reader where what is unread has filled the connection's buffers."""
        try:
            async with asyncio.timeout(self._patience_s):
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except TimeoutError:
            raise ReaderStalled from None

    async def _next(self) -> bytes:
        """The next event; b"" at the end."""
        return await anext(self._events, b"")

    async def _close(self) -> None:
        if self._first is not None:
            self._first.cancel()
            await asyncio.gather(self._first, return_exceptions=True)
        await self._events.aclose()


async def attended(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The work's result; if the client goes away first, the work is cancelled and ClientGone raised."""
    return await _until_gone(work, request.receive)


async def _until_gone(work: Coroutine[Any, Any, Result], receive: Callable[[], Awaitable[Any]]) -> Result:
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnect(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnect(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
