"""What a client may do before there is a request: how many connections, how large a head, how long it may take.

What it is for: `bounded(limits)` is uvicorn's HTTP protocol with limits that it lacks. What may not enter: bodies
(service.body), routes.

The idea: uvicorn's fast parser buffers a head of any size and waits for it for ever. Here the bytes of an unfinished
head are counted, a clock runs while one is awaited, and what is over a limit is answered once (431, 408, 503) and cut
off. Behind a chunked body the parser takes fields too, for as long as they come, and puts them among the head's: they
are counted as well and dropped, since nobody may say who he is after he was let in (RFC 9110, 6.5.1). Between requests
uvicorn's own keep-alive clock runs; where there are too many connections, the one that has waited for a head the
longest makes room, so that idle ones keep nobody out. A handler can cut the connection by `abort_of(scope)`: closing it
would wait for what the client does not read.

A `Front` may answer a request by its head alone: under overload most of what a server does is to refuse, and to make a
request, a task and a response for each costs three times what must be done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_ABORT = "formwork.abort"
_MOST_HEADERS = 200


Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole one; `status` with its reason."""

    status: bytes
    headers: Headers
    body: bytes


Front = Callable[[bytes, bytes, Headers], Answer | None]
"""Method, target and headers as they were sent → what is answered at once; None: this is a request like any other."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    connections: int
    head_bytes: int
    head_s: float
    front: Front | None = None


def bounded(limits: ConnectionLimits) -> type[HttpToolsProtocol]:
    """The protocol class to hand to uvicorn."""
    return type("BoundedHttp", (_Bounded,), {"limits": limits, "waiting": {}})


def abort_of(scope: Scope) -> Callable[[], None] | None:
    """Cuts the connection of this request without waiting for its reader; None where there is no connection."""
    found: Callable[[], None] | None = (scope.get("extensions") or {}).get(_ABORT)
    return found


class _Bounded(HttpToolsProtocol):
    limits: ClassVar[ConnectionLimits]
    waiting: ClassVar[dict[_Bounded, None]]  # for a head, or the rest of one; the longest first
    _head_bytes = 0
    _in_head = True
    _frame_bytes = 0  # of chunk sizes, extensions and trailers since the last byte of a body
    _refused = False
    _turned_away = False  # the request whose body arrives was answered by `front`
    _in_body = False
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections and not self._make_room():
            self._refuse(b"503 Service Unavailable", b"retry-after: 1\r\n")
            return
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def _make_room(self) -> bool:
        """Ends the connection that has been waiting for a head the longest; False where all are being worked for."""
        oldest = next((each for each in self.waiting if each._is_answered), None)
        if oldest is None:
            return False
        if oldest._in_head and oldest._head_bytes:
            oldest._refuse(b"408 Request Timeout")
        else:  # nothing was asked, so nothing is answered
            oldest._refused = True
            oldest._stop_clock()
            oldest.transport.close()
        return True

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._in_head:
            self._head_bytes += len(data)
        else:
            self._frame_bytes += len(data)  # until a byte of the body shows up among them
        super().data_received(data)
        unframed = self._head_bytes if self._in_head else self._frame_bytes
        if not self._refused and unframed > self.limits.head_bytes:
            self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_ABORT: self.transport.abort}  # type: ignore[dict-item]  # ours
        if not self._in_head:  # a later request of this connection
            self._in_head, self._head_bytes = True, 0
            self._wait_for_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._frame_bytes = False, 0
        self._stop_clock()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.limits.head_bytes or len(self.headers) > _MOST_HEADERS:
            self._refuse(b"431 Request Header Fields Too Large")
            return
        self._in_body = True
        front = self.limits.front
        if front is not None and self._is_answered:  # else it has to wait its turn
            answer = front(self.parser.get_method(), self.url, self.headers)
            if answer is not None:
                self._turn_away(answer)
                return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._frame_bytes = 0
        if not self._refused and not self._turned_away:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._frame_bytes = 0
        if not self._refused and not self._turned_away:
            super().on_message_complete()
        self._in_body = self._turned_away = False
        if self._clock is not None and not self._refused:  # it was for the rest of this body
            self._stop_clock()
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            self.waiting[self] = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_answered or self.transport.is_closing():
            return
        if self._in_body:
            # What is left of the body unsets uvicorn's clock for idle connections with each byte.
            self._stop_clock()
            self._clock = self.loop.call_later(self.limits.head_s, self.transport.close)
        else:
            self.waiting[self] = None

    @property
    def _is_answered(self) -> bool:
        """Whether nothing of this connection is being worked on."""
        return self.cycle is None or self.cycle.response_complete

    def _turn_away(self, answer: Answer) -> None:
        """Answers by the head; the body is read and dropped, or the connection ends.

        Who waits for leave to send the body may send it or not: what comes next could be either.
        """
        stays = (
            self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive() and not self.expect_100_continue
        )
        lines = [b"HTTP/1.1 " + answer.status]
        for name, value in (*self.server_state.default_headers, *answer.headers):
            lines.append(name + b": " + value)
        lines.append(b"content-length: %d" % len(answer.body))
        if not stays:
            lines.append(b"connection: close")
        self.transport.write(b"\r\n".join([*lines, b"", answer.body]))
        self._turned_away = True
        if stays:
            self.on_response_complete()
        else:
            self._refused = True
            self.transport.close()

    def _wait_for_head(self) -> None:
        self._stop_clock()
        self._clock = self.loop.call_later(self.limits.head_s, self._refuse, b"408 Request Timeout")
        self.waiting[self] = None

    def _stop_clock(self) -> None:
        self.waiting.pop(self, None)
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _refuse(self, status: bytes, header: bytes = b"") -> None:
        """Answers what is no request yet, and ends the connection."""
        self._refused = True
        self._stop_clock()
        if self.transport.is_closing():
            return
        answering = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if not answering:  # else it would stand in the middle of an answer
            end = b"content-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(b"HTTP/1.1 " + status + b"\r\n" + header + end)
        self.transport.close()
