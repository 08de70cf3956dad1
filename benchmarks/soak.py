"""Does anything get lost or leak under mixed load, hostile requests and kills?

    formwork bench soak --minutes 5
    formwork bench soak --minutes 720 --kill-every 300

Starts a server on the bundled model. Honest clients stream free text, schemas, tools and several choices; each request
is one of a fixed set with fixed seeds, whose answers were recorded before anything was broken, so that a lost, repeated
or wrong token shows. Hostile clients send what must be refused, leave in mid-stream, and never read. Meanwhile the
engine process and the compile worker are killed (`kill -9`) by turns. A refusal for overload (429, 503) is no loss: the
client comes again. Prints a line a minute, then what was sent, what survived a kill, what was lost (0) and what leaked:
requests and pages still held (0), descriptors (0), and growth of the API process's memory between the first third and
the end. Status 1 if anything was lost, a hostile request was not refused, or something leaked.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serving import SCHEMA, started

_MESSAGES = [{"role": "user", "content": "Maria Silva is 34 years old, active, and lives in Porto."}]
_SMALL = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["age"]}
_TOOL = {"type": "function", "function": {"name": "note", "parameters": {**_SMALL, "additionalProperties": False}}}
_KINDS: list[dict[str, Any]] = [
    {"max_tokens": 80, "ignore_eos": True},
    {"max_tokens": 96, "response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA}}},
    {"max_tokens": 120, "tools": [_TOOL], "tool_choice": "required"},
    {"max_tokens": 40, "n": 3},
    {"max_tokens": 200, "guided_regex": "[a-z ]{60,120}\\.", "frequency_penalty": 0.3},
]
_HOSTILE: list[dict[str, Any]] = [
    {"guided_regex": "(" * 5000}, {"guided_json": {"$ref": "http://169.254.169.254/"}}, {"n": 10**6},
    {"temperature": -1},
    {"guided_json": False}, {"guided_regex": "(a)\\1"}, {"messages": []}, {"stop": ["x"] * 99}, {"nothing": 1},
    {"messages": [{"role": "user", "content": "word " * 200_000}]}, {"guided_regex": "x{2147483647}"},
    {"guided_json": {"type": "array", "minItems": 10**9}},
]  # fmt: skip
_HONEST, _HOSTILE_CLIENTS, _LEAVERS = 8, 2, 2
_BUSY = frozenset({429, 503})
_GROWTH = 64 << 20  # bytes of the API process that are no leak: caches filling up
_CACHE_TOKENS = 65_536  # soon all touched: what the engine's memory grows by after that is no page
_DESCRIPTORS = 8  # idle connections that come and go


class Lost(Exception):
    """An honest request did not get what it should."""


@dataclass
class Tally:
    """What has happened so far."""

    counts: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)  # of the API process, a minute


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the account; 0 iff nothing was lost and nothing leaked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--kill-every", type=float, default=45.0, help="seconds between kills")
    parser.add_argument("--model", default="models/formwork-mini")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    print(f"formwork on {platform.machine()}, {os.cpu_count()} cores, {options.minutes:g} minutes, seed {options.seed}")
    flags = ("--max-concurrent-requests", "32", "--send-timeout-s", "5", "--cache-tokens", str(_CACHE_TOKENS))
    with started(options.model, None, *flags) as server:
        assert server.pid is not None
        return asyncio.run(_soak(server.url, server.pid, options))


async def _soak(url: str, pid: int, options: argparse.Namespace) -> int:
    tally = Tally()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=16)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        expected = [await _answer(client, kind, seed) for seed, kind in enumerate(_KINDS)]
        held = len(_descriptors(pid))
        end = time.monotonic() + 60 * options.minutes
        chance = random.Random(options.seed)
        work = [
            *(_honest(client, tally, expected, end, random.Random(f"{options.seed}/{i}")) for i in range(_HONEST)),
            *(_hostile(client, tally, end, random.Random(f"h{options.seed}/{i}")) for i in range(_HOSTILE_CLIENTS)),
            *(_leaver(client, tally, end, random.Random(f"l{options.seed}/{i}")) for i in range(_LEAVERS)),
            _killer(client, pid, tally, end, options.kill_every, chance),
            _reporter(pid, tally, end),
        ]
        await asyncio.gather(*work)
        await _settled(client)
        told = await _metrics(client)
        return _account(tally, told, len(_descriptors(pid)) - held)


# Clients


async def _honest(
    client: httpx.AsyncClient, tally: Tally, expected: list[list[str]], end: float, chance: random.Random
) -> None:
    while time.monotonic() < end:
        number = chance.randrange(len(_KINDS))
        began = time.monotonic()
        tally.counts["sent"] += 1
        try:
            got = await _patiently(client, tally, number)
        except (Lost, httpx.HTTPError, ValueError) as error:
            tally.losses.append(f"request of kind {number}: {type(error).__name__}: {error}")
            continue
        if got != expected[number]:
            tally.losses.append(f"request of kind {number}: {got!r} in place of {expected[number]!r}")
            continue
        tally.counts["whole"] += 1
        tally.counts["survived a kill"] += any(began < kill < time.monotonic() for kill in tally.kills)


async def _patiently(client: httpx.AsyncClient, tally: Tally, number: int) -> list[str]:
    """The answer, however often the server says that it is busy."""
    while True:
        try:
            return await _answer(client, _KINDS[number], number)
        except _Busy as busy:
            tally.counts["told to come again"] += 1
            await asyncio.sleep(busy.after_s)


class _Busy(Exception):
    def __init__(self, after_s: float) -> None:
        super().__init__()
        self.after_s = after_s


async def _answer(client: httpx.AsyncClient, kind: dict[str, Any], seed: int) -> list[str]:
    """What each choice says, tool calls included. Raises Lost for a stream that does not end as it should."""
    body = {"messages": _MESSAGES, "temperature": 1.0, "seed": seed, "logprobs": False, "stream": True, **kind}
    said = [""] * kind.get("n", 1)
    ended = False
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code in _BUSY:
            raise _Busy(float(response.headers["retry-after"]))
        if response.status_code != 200:
            raise Lost(f"HTTP {response.status_code}: {(await response.aread())[:200]!r}")
        async for line in response.aiter_lines():
            ended = ended or line == "data: [DONE]"
            if line.startswith("data: {"):
                event = json.loads(line[6:])
                if "error" in event:
                    raise Lost(event["error"]["message"])
                for choice in event["choices"]:
                    said[choice["index"]] += _spoken(choice["delta"])
    if not ended:
        raise Lost("the stream ended without [DONE]")
    return said


def _spoken(delta: dict[str, Any]) -> str:
    calls = (call["function"] for call in delta.get("tool_calls") or ())
    return (delta.get("content") or "") + "".join(f"{call.get('name') or ''}{call['arguments']}" for call in calls)


async def _hostile(client: httpx.AsyncClient, tally: Tally, end: float, chance: random.Random) -> None:
    while time.monotonic() < end:
        fields = chance.choice(_HOSTILE)
        response = await client.post("/v1/chat/completions", json={"messages": _MESSAGES, **fields})
        tally.counts["hostile"] += 1
        if response.status_code in _BUSY:
            await asyncio.sleep(1)
        elif not 400 <= response.status_code < 500:
            tally.losses.append(f"hostile {str(fields)[:60]}: HTTP {response.status_code}")
        await asyncio.sleep(chance.random() / 4)


async def _leaver(client: httpx.AsyncClient, tally: Tally, end: float, chance: random.Random) -> None:
    """Leaves in mid-stream, or stays a while without reading."""
    while time.monotonic() < end:
        body = {"messages": _MESSAGES, "max_tokens": 1500, "ignore_eos": True, "stream": True, "n": 2}
        with contextlib.suppress(httpx.HTTPError):
            async with client.stream("POST", "/v1/chat/completions", json=body):
                await asyncio.sleep(chance.choice([0.0, 0.1, 1.0]))
        tally.counts["left"] += 1
        await asyncio.sleep(chance.random())


async def _killer(
    client: httpx.AsyncClient, pid: int, tally: Tally, end: float, every_s: float, chance: random.Random
) -> None:
    """Kills the engine twice for each compile worker; counts from when the server is ready again.

    A request is resumed twice at most: on a machine where a start takes longer than the time between two kills, more
    would be lost by what is promised.
    """
    while time.monotonic() + every_s < end:
        while (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.2)
        await asyncio.sleep(every_s * (0.75 + chance.random() / 2))
        module = chance.choice(["engine", "engine", "service.compile_worker"])
        for child in _children(pid, module)[:1]:
            os.kill(child, signal.SIGKILL)
            tally.counts[f"kills of {module}"] += 1
            if module == "engine":
                tally.kills.append(time.monotonic())


# The account


async def _reporter(pid: int, tally: Tally, end: float) -> None:
    began = time.monotonic()
    while time.monotonic() < end:
        await asyncio.sleep(min(60.0, max(0.1, end - time.monotonic())))
        tally.memory.append(_memory(pid))
        minutes = (time.monotonic() - began) / 60
        told = ", ".join(f"{name} {count}" for name, count in sorted(tally.counts.items()))
        print(f"{minutes:5.1f} min: {told}, lost {len(tally.losses)}; {_held(pid)}", flush=True)


def _held(pid: int) -> str:
    """What processes hold at the moment; the engine's memory begins anew with each of its lives."""
    engine = "".join(f", engine {_memory(child) >> 20} MiB" for child in _children(pid, "engine"))
    threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
    return f"API {_memory(pid) >> 20} MiB, {threads} threads, {len(_descriptors(pid))} descriptors{engine}"


def _account(tally: Tally, told: dict[str, float], descriptors: int) -> int:
    early = tally.memory[len(tally.memory) // 3] if tally.memory else 0
    growth = tally.memory[-1] - early if tally.memory else 0
    leaks = {
        "requests": told["formwork_requests_inside"],
        "pages": told["formwork_pages_used"],
        "descriptors": max(0, descriptors - _DESCRIPTORS),
        "memory": max(0, growth - _GROWTH),
    }
    restarts, resumed, lost = (
        told[f"formwork_{name}_total"] for name in ("engine_restarts", "resumptions", "requests_lost")
    )
    print(f"\nsent {tally.counts['sent']}, whole and as recorded {tally.counts['whole']}, lost {len(tally.losses)}")
    print(f"survived a kill of the engine {tally.counts['survived a kill']}")
    print(f"engine restarts {restarts:g}, resumptions {resumed:g}, given up {lost:g}")
    print(f"hostile {tally.counts['hostile']}, left in mid-stream {tally.counts['left']}")
    print(
        f"leaked: {', '.join(f'{name} {amount:g}' for name, amount in leaks.items())} (memory grew {growth >> 20} MiB)"
    )
    for loss in tally.losses[:10]:
        print(f"  {loss[:300]}")
    return int(bool(tally.losses) or any(leaks.values()))


async def _metrics(client: httpx.AsyncClient) -> dict[str, float]:
    lines = (await client.get("/metrics")).text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}


async def _settled(client: httpx.AsyncClient) -> None:
    """Until everyone has left, for half a minute at most."""
    for _ in range(60):
        told = await _metrics(client)
        if not (told["formwork_requests_inside"] or told["formwork_pages_used"]):
            return
        await asyncio.sleep(0.5)


def _children(pid: int, module: str) -> list[int]:
    found = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in listed.read_text().split():
            with contextlib.suppress(OSError):
                if module.encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                    found.append(int(child))
    return found


def _descriptors(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/fd").iterdir())


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    raise SystemExit(main())
