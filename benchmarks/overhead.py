"""What the service adds to each streamed token, beyond the engine's own time.

The server is a process of its own around an engine that does nothing but emit one token per stream and tick; so all
CPU time of that process is the service's, the event loop's and this engine's. The engine's share is measured alone in
the same run and taken off. Delays are from the emission of a token to its arrival at the client, on one clock.

The first row is a peer: the same engine behind the same HTTP server, but each token is sent as one constant event, by
ten lines in place of the service. What it takes is the machine's and the server's; the service adds the difference.
Other work on the cores lengthens both, so rounds are repeated and the least of each figure is told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from engine import Continuity, EngineConfig, EngineState
from engine.messages import Finish, FinishReason, Generate, ModelInfo, Output, Plan, Stats, Token
from engine.tokenizer import Tokenizer
from service.app import create_app
from service.settings import Settings

_MODEL = "models/formwork-mini"
_SCHEMA = {"type": "object", "properties": {"items": {"type": "array", "items": {"type": "object"}}}}
_PEER, _CHAT = "/peer", "/v1/chat/completions"
_EVENT = b'data: {"token_id": 1}\n\n'
_BAR_US, _BAR_P99_MS, _BAR_FIRST_MS = 150, 4, 10


def spoken(tokenizer: Tokenizer, tokens: int) -> list[int]:
    """The tokens of a JSON text, about so many and whole."""
    item = '{"name": "Maria", "age": 34}'
    count = max(1, tokens // len(tokenizer.encode(f"{item}, ")))
    return tokenizer.encode(f'{{"items": [{", ".join([item] * count)}]}}')


class Metronome:
    """An engine that emits the tokens of a JSON text, one a tick."""

    def __init__(self, tick_s: float, tokens: int) -> None:
        tokenizer = Tokenizer.load(_MODEL)
        self._ids = spoken(tokenizer, tokens)
        self._tick_s = tick_s
        self.emitted = array("d")
        self.stats = Stats(pages_total=1024)
        self.state = EngineState.READY
        self.continuity = Continuity()
        self.info = ModelInfo(
            model_type="metronome",
            vocab_size=tokenizer.size,
            max_positions=8192,
            eos_token_ids=list(tokenizer.eos_token_ids),
            dtype="float32",
            device="cpu",
            page_size=16,
            pages=1024,
            parameters=0,
        )

    async def generate(self, request: Generate, plan: Plan | None = None) -> AsyncGenerator[Output, None]:  # noqa: ARG002
        start = time.monotonic()
        for first, token_id in enumerate(self._ids):
            await asyncio.sleep(max(0.0, start + (first + 1) * self._tick_s - time.monotonic()))
            self.emitted.append(time.monotonic())
            yield Output(request_id=request.request_id, first=first, tokens=[Token(token_id, -0.5, -0.25, 0.75)])
        yield Output(request_id=request.request_id, first=len(self._ids), finish=Finish(reason=FinishReason.EOS))

    async def close(self, drain_s: float = 0.0) -> None:  # noqa: ARG002
        self.state = EngineState.CLOSED


def main(arguments: Sequence[str]) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="formwork bench overhead", description=__doc__)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--tick-ms", type=float, default=25.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.server:
        return _serve(options)
    rows = asyncio.run(_measure(options))
    streams = f"{options.streams} streams of about {options.tokens} tokens, one each {options.tick_ms:g} ms"
    print(f"{streams}; {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}; the least of {options.rounds} rounds")
    print(f"{'':30}{'CPU µs a token':>16}{'delay p50 ms':>14}{'p99 ms':>9}{'first token p50 ms':>20}")
    peer = rows[0][1]
    for name, row in rows:
        print(f"{name:30}{row[0]:16.0f}{row[1]:14.2f}{row[2]:9.2f}{row[3]:20.2f}")
    for name, row in rows[1:]:
        more = [value - base for value, base in zip(row, peer, strict=True)]
        print(f"{name + ', beyond it':30}{'':16}{more[1]:14.2f}{more[2]:9.2f}{more[3]:20.2f}")
    print(f"{'bar':30}{_BAR_US:16}{'':14}{_BAR_P99_MS:9}{_BAR_FIRST_MS:20}")
    return 0


def _serve(options: argparse.Namespace) -> int:
    engine = Metronome(options.tick_ms / 1e3, options.tokens)

    async def start(_config: EngineConfig) -> Metronome:
        return engine

    app = create_app(Settings(model=_MODEL, log_level="error"), start)

    async def measured(scope: Any, receive: Any, send: Any) -> None:
        """The application, and beside it what this process has used, and the engine's own share."""
        if scope["type"] == "http" and scope["path"] == "/used":
            alone = await _alone(engine, options) if scope["query_string"] else 0.0
            told = {"cpu_s": time.process_time(), "alone_s": alone, "emitted": engine.emitted.tolist()}
            engine.emitted = array("d")
            body = json.dumps(told).encode()
            size = (b"content-length", str(len(body)).encode())  # or it would come in chunks
            await send({"type": "http.response.start", "status": 200, "headers": [size]})
            await send({"type": "http.response.body", "body": body})
            return
        if scope["type"] == "http" and scope["path"] == _PEER:
            await _constant(engine, receive, send)
            return
        await app(scope, receive, send)

    uvicorn.run(measured, uds=options.server, log_level="error", lifespan="on")
    return 0


async def _constant(engine: Metronome, receive: Any, send: Any) -> None:
    """The peer: an event a token, always the same one."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    request: Any = argparse.Namespace(request_id="peer")
    async for output in engine.generate(request):
        if output.tokens:
            await send({"type": "http.response.body", "body": _EVENT, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _alone(engine: Metronome, options: argparse.Namespace) -> float:
    """CPU seconds of the engine's ticks with nobody around them."""

    async def run(index: int) -> None:
        request: Any = argparse.Namespace(request_id=str(index))
        async for _ in engine.generate(request):
            pass

    before = time.process_time()
    await asyncio.gather(*(run(index) for index in range(options.streams)))
    return time.process_time() - before


async def _measure(options: argparse.Namespace) -> list[tuple[str, tuple[float, ...]]]:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "socket")
        flags = ["--streams", str(options.streams), "--tokens", str(options.tokens), "--tick-ms", str(options.tick_ms)]
        command = ["-m", "benchmarks.overhead", "--server", path, *flags]
        process = await asyncio.create_subprocess_exec(sys.executable, *command)
        try:
            await _ready(path, process)
            found: dict[str, list[tuple[float, ...]]] = {}
            for turn in range(options.rounds + 1):  # the first one warms
                for name, where, body in _cases():
                    row = await _round(path, where, body, options)
                    found.setdefault(name, []).extend([row] if turn else [])
            return [(name, tuple(map(min, zip(*rows, strict=True)))) for name, rows in found.items()]
        finally:
            process.terminate()
            await process.wait()


def _cases() -> list[tuple[str, str, dict[str, Any]]]:
    chat: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "stream": True, "max_tokens": 4000}
    format_ = {"type": "json_schema", "json_schema": {"name": "t", "schema": _SCHEMA}}
    return [
        ("peer: constant events", _PEER, {}),
        ("chat", _CHAT, chat),
        ("chat, no log-probs", _CHAT, {**chat, "logprobs": False}),
        ("chat, schema and fields", _CHAT, {**chat, "response_format": format_, "formwork": {"events": "fields"}}),
    ]


async def _round(path: str, where: str, body: dict[str, Any], options: argparse.Namespace) -> tuple[float, ...]:
    used = await _used(path)
    streams = await asyncio.gather(*(_stream(path, where, body) for _ in range(options.streams)))
    after = await _used(path)
    alone_s = (await _used(path, alone=True))["alone_s"]
    tokens = len(arrived := sorted(moment for moments in streams for moment in moments))
    cpu_us = 1e6 * (after["cpu_s"] - used["cpu_s"] - alone_s) / tokens
    # Emissions and arrivals in the order of time: the k-th arrival is never before the k-th emission.
    delays = [1e3 * (late - early) for early, late in zip(after["emitted"], arrived, strict=False)]
    first = [1e3 * (moments[0] - early) for moments, early in zip(streams, after["emitted"], strict=False)]
    p99 = statistics.quantiles(delays, n=100)[98]
    return cpu_us, statistics.median(delays), p99, statistics.median(first)


async def _stream(path: str, where: str, body: dict[str, Any]) -> list[float]:
    """When each token's event arrived."""
    reader, writer = await _post(path, where, body)
    moments = []
    async for line in reader:
        if line.startswith(b"data: ") and b'"token_id"' in line:
            moments.append(time.monotonic())
    writer.close()
    return moments


async def _used(path: str, *, alone: bool = False) -> dict[str, Any]:
    reader, writer = await _post(path, "/used?alone" if alone else "/used", None)
    data = await reader.read()
    writer.close()
    told: dict[str, Any] = json.loads(data.partition(b"\r\n\r\n")[2])
    return told


async def _post(path: str, where: str, body: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 24)
    data = json.dumps(body).encode()
    head = f"POST {where} HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    await writer.drain()
    return reader, writer


async def _ready(path: str, process: asyncio.subprocess.Process) -> None:
    while process.returncode is None:
        try:
            await _used(path)
        except OSError:
            await asyncio.sleep(0.2)
        else:
            return
    raise RuntimeError("the server did not start")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
