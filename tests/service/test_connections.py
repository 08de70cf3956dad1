"""Limits that hold before there is a request: over real sockets, with a server that runs in this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from service.connections import Answer, ConnectionLimits, bounded
from service.streaming import EventStream

pytestmark = pytest.mark.anyio

HELLO = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def _hello(request: Request) -> Response:
    length = len(await request.body())
    return PlainTextResponse(f"hi {length} {request.headers.getlist('authorization')}")


class Held:
    """A stream of more than any buffer holds; tells how it ended."""

    def __init__(self) -> None:
        self.sent = 0
        self.closed = asyncio.Event()

    async def stream(self, _request: Request) -> Response:
        async def events() -> AsyncGenerator[bytes, None]:
            for _ in range(2000):
                self.sent += 1
                yield b"x" * 65536

        return EventStream(events(), lambda _: b"", self.closed.set, patience_s=0.5)


@asynccontextmanager
async def listening(held: Held | None = None, **changes: Any) -> AsyncGenerator[int, None]:
    """The port of a server with small limits."""
    limits = ConnectionLimits(**{"connections": 50, "head_bytes": 4096, "head_s": 0.5, **changes})
    routes = [Route("/", _hello, methods=["GET", "POST"]), Route("/stream", (held or Held()).stream)]
    async with listening_to(Starlette(routes=routes), limits) as port:
        yield port


@asynccontextmanager
async def listening_to(app: ASGIApp, limits: ConnectionLimits) -> AsyncGenerator[int, None]:
    """The port of a server of this application."""
    config = uvicorn.Config(
        app, port=0, http=bounded(limits), lifespan="off", log_config=None, access_log=False, server_header=False
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    running = asyncio.create_task(server.main_loop())
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await running
        await server.shutdown()


async def said(port: int, *pieces: bytes, pause_s: float = 0.0, wait_s: float = 5.0) -> bytes:
    """All that the server answers to these bytes until it closes, or until nothing more comes for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        async with asyncio.timeout(wait_s):
            while data := await reader.read(65536):
                answer += data
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return answer


async def test_an_ordinary_request_passes_and_so_does_the_next_on_the_connection() -> None:
    async with listening() as port:
        post = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n" + b"b" * 5000
        answer = await said(port, HELLO, post, HELLO, pause_s=0.1, wait_s=1.0)
    assert answer.count(b"200 OK") == 3
    assert b"hi 5000" in answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nx: " + b"a" * 1_000_000,
        b"GET / HTTP/1.1\r\nx: " + b"a" * 5000 + b"\r\n\r\n",
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 300 + b"\r\n",
    ],
)
async def test_a_head_that_is_too_large_is_refused(head: bytes) -> None:
    async with listening() as port:
        assert b" 431 " in await said(port, head)
        assert b"200 OK" in await said(port, HELLO, wait_s=0.5)


@pytest.mark.parametrize("fronted", [False, True])
async def test_the_rest_of_a_body_that_was_answered_already_is_not_awaited_for_ever(fronted: bool) -> None:
    """By the head alone, or by a route that reads no body: uvicorn would wait as long as a byte comes now and then."""
    refusal = Answer(b"503 Service Unavailable", [], b"")
    front = (lambda method, _target, _headers: refusal if method == b"PUT" else None) if fronted else None
    head = b"PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n"
    async with listening(front=front) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        answer = b""
        async with asyncio.timeout(5.0):
            with suppress(ConnectionError):
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.1):
                            if not (data := await reader.read(4096)):
                                break
                            answer += data
        writer.close()
        assert answer.count(b"HTTP/1.1 ") == 1
        whole = b"PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n"
        both = await said(port, whole, b"abc", whole, b"abc" + HELLO, pause_s=0.1, wait_s=1.0)
    assert (both.count(b"HTTP/1.1 "), both.count(b"200 OK")) == (3, 1)


CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


async def test_what_is_said_behind_a_body_is_no_part_of_its_head() -> None:
    """Not even what comes in one piece with the head: a proxy has looked at that one only."""
    async with listening() as port:
        answer = await said(port, CHUNKED + b"2\r\nok\r\n0\r\nauthorization: Bearer x\r\n\r\n", wait_s=0.5)
        small = await said(port, CHUNKED + b"1\r\nb\r\n" * 5000 + b"0\r\n\r\n", wait_s=1.0)
    assert b"hi 2 []" in answer
    assert b"hi 5000 []" in small


@pytest.mark.parametrize("endless", [b"x-t: " + b"y" * 100 + b"\r\n", b"y"], ids=["fields", "one field"])
async def test_what_does_not_end_behind_a_body_is_cut_off(endless: bytes) -> None:
    """It was kept for as long as a body may take to arrive, however much it was."""
    begun = b"" if endless.endswith(b"\n") else b"x-t: "
    async with listening() as port:
        answer = await said(
            port, CHUNKED + b"2\r\nok\r\n0\r\n" + begun, *[endless * (3000 // len(endless))] * 2, pause_s=0.05
        )
        extended = await said(port, CHUNKED + b"2;", *[b"e" * 3000] * 2, pause_s=0.05)
        assert b"200 OK" in await said(port, HELLO, wait_s=0.5)
    assert b" 431 " in answer
    assert b" 431 " in extended


async def test_a_head_that_does_not_come_is_not_awaited() -> None:
    """Nothing at all, a byte now and then, and a second request that never ends."""
    async with listening() as port:
        answers = await asyncio.gather(
            said(port),
            said(port, *(bytes([byte]) for byte in HELLO[:4]), pause_s=0.1),
            said(port, HELLO, b"GET", pause_s=0.2),
        )
    assert [answer.count(b" 408 ") for answer in answers] == [1, 1, 1]
    assert answers[2].count(b"200 OK") == 1


async def test_connections_are_counted_and_those_that_are_worked_for_stay() -> None:
    stream = b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n"
    async with listening(connections=3, head_s=30.0) as port:
        held = [await asyncio.open_connection("127.0.0.1", port, limit=1024) for _ in range(3)]
        for _, writer in held:
            writer.write(stream + b"GET / HT")  # the head of a second request does not make it an idle one
        await asyncio.sleep(0.1)
        refused = await said(port, HELLO)
        begun = [await reader.read(12) for reader, _ in held]
        for _, writer in held:
            writer.transport.abort()
        await asyncio.sleep(0.3)
        served = await said(port, HELLO, wait_s=0.5)
    assert b" 503 " in refused
    assert b"retry-after" in refused
    assert begun == [b"HTTP/1.1 200"] * 3
    assert b"200 OK" in served


async def test_connections_that_wait_for_a_head_make_room_the_longest_first() -> None:
    """However many are held open idle, in half of a head or after an answer, the next request is served."""
    async with listening(connections=3, head_s=30.0) as port:
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        (first, _), (second, half), (third, kept) = pairs
        half.write(b"GET / HT")
        kept.write(HELLO)
        assert b"200 OK" in await third.readuntil(b"[]")
        answers = [await said(port, HELLO, wait_s=0.3) for _ in range(5)]
        assert all(b"200 OK" in answer for answer in answers)
        others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        async with asyncio.timeout(5):
            ends = [await reader.read() for reader in (first, second, third)]
        assert [b" 408 " in end for end in ends] == [False, True, False]
        for _, writer in (*pairs, *others):
            writer.close()


async def test_a_stream_that_nobody_reads_is_cut_and_its_work_ended(caplog: pytest.LogCaptureFixture) -> None:
    held = Held()
    async with listening(held) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(10):
            await held.closed.wait()
        assert held.sent < 2000
        with suppress(ConnectionError):
            async with asyncio.timeout(5):  # the connection is gone: nobody waits for what is unread
                while await reader.read(1 << 20):
                    pass
        writer.close()
    complaints = [record.name for record in caplog.records if record.levelno >= logging.WARNING]
    assert complaints == ["service.streaming"]  # uvicorn has none
