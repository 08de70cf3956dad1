"""Clients that go away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from engine.messages import Generate, Output, Plan
from service.streaming import ClientGone, EventStream, attended, event
from tests.engine.scripted import ScriptedEngine
from tests.service.houses import BYTES, info, served

pytestmark = pytest.mark.anyio


class Endless(ScriptedEngine):
    """Says one letter for ever, and notes what was closed."""

    async def generate(self, request: Generate, plan: Plan | None = None) -> AsyncGenerator[Output, None]:
        self.requests.append((request, plan))
        try:
            for first in range(10_000):
                yield Output(request_id=request.request_id, first=first, tokens=BYTES.tokens("a"))
                await asyncio.sleep(0.001)
        finally:
            self.closed_early.append(request.request_id)


async def exchange(app: Any, path: str, body: bytes, gone_after: int) -> list[Any]:
    """An ASGI exchange whose client disconnects after so many messages (0: at once)."""
    sent: list[Any] = []
    gone = asyncio.Event()
    if gone_after == 0:
        gone.set()
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if parts:
            return parts.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) >= gone_after:
            gone.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"content-type", b"application/json")],
        "client": None,
        "server": None,
        "app": app,
    }
    async with asyncio.timeout(10):
        await app(scope, receive, send)
    return sent


@pytest.mark.parametrize(
    ("path", "body", "gone_after"),
    [
        ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "x"}], "n": 2}', 0),
        ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "x"}], "stream": true, "n": 2}', 4),
        ("/generate", b'{"inputs": "x"}', 0),
        ("/generate_stream", b'{"inputs": "x"}', 4),
    ],
)
async def test_a_client_that_goes_away_ends_its_generations(
    tmp_path: Path, path: str, body: bytes, gone_after: int
) -> None:
    engine = Endless(lambda _request, _plan: [], info())
    async with served(tmp_path, engine) as (client, _):
        app = client._transport.app  # type: ignore[attr-defined]
        await exchange(app, path, body, gone_after)
        assert len(engine.closed_early) == len(engine.requests)
        assert app.state.house.gate.inside == 0


@pytest.mark.parametrize(
    ("path", "body", "beat", "end"),
    [
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "x"}], "stream": True},
            ": keep-alive\n\n",
            "data: [DONE]\n\n",
        ),
        (
            "/v1/messages",
            {"messages": [{"role": "user", "content": "x"}], "stream": True, "max_tokens": 9},
            'event: ping\ndata: {"type":"ping"}\n\n',
            'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        ),
        # Its own client takes a comment for a broken answer.
        (
            "/v1beta/models/tiny:streamGenerateContent?alt=sse",
            {"contents": [{"parts": [{"text": "x"}]}]},
            "\n",
            "}\n\n",
        ),
    ],
)
async def test_a_silent_stream_is_kept_alive(tmp_path: Path, path: str, body: Any, beat: str, end: str) -> None:
    class Slow(ScriptedEngine):
        async def generate(self, request: Generate, plan: Plan | None = None) -> AsyncGenerator[Output, None]:
            await asyncio.sleep(0.2)
            async for output in super().generate(request, plan):
                yield output

    engine = Slow(lambda _request, _plan: [BYTES.tokens("Hi")], info())
    async with served(tmp_path, engine, heartbeat_s=0.05) as (client, _):
        response = await client.post(path, json=body)
    assert response.text.startswith(beat)
    assert response.text.endswith(end)


async def test_a_stream_is_closed_and_told_of_however_it_ends() -> None:
    closed: list[str] = []

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            yield b"one"
            raise ValueError("broken")
        finally:
            closed.append("events")

    stream = EventStream(events(), lambda error: f"error {error}".encode(), lambda: closed.append("visit"))
    await stream.prime(1.0)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    await stream({}, receive, send)
    assert [message.get("body") for message in sent] == [None, b"one", b"error broken", b""]
    assert closed == ["events", "visit"]


async def test_work_is_cancelled_when_nobody_waits_for_it() -> None:
    cancelled = asyncio.Event()

    class Gone:
        async def receive(self) -> Any:
            return {"type": "http.disconnect"}

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(ClientGone):
        await attended(Gone(), work())  # type: ignore[arg-type]
    assert cancelled.is_set()


def test_no_event_holds_a_unicode_line_end() -> None:
    data = event({"text": "a\u2028b\u2029c\u0085d"})
    assert len(data.decode().splitlines()) == 2
    assert json.loads(data[6:]) == {"text": "a\u2028b\u2029c\u0085d"}
