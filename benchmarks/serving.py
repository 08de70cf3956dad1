"""How fast does the service answer over HTTP? Free text and a JSON Schema, few clients and many, in one run.

    formwork bench serving --seconds 8
    formwork bench serving --url http://127.0.0.1:8000 --clients 1,16,64 --rate 2,5
    formwork bench serving --model random --clients 16,64 --max-tokens 128 --prompt-words 100 --core 1

Without --url a server is started on the bundled model (`--model random`: on the random 125M Llama) and stopped
afterwards. Closed loop: each client sends its next request when the last one has ended. Open loop (--rate): requests
arrive at random moments, so many a second on average, whatever the server does. Times are the client's but for
`queue`, which is read from the server's histogram; token counts are the server's `usage`. `tokens/CPU s` divides them
by the CPU time of a server started here, its children included: what else the machine does then counts less. The
client runs in this process and takes its share of the machine; `--core` pins both to one core. Chat templates tell the
model the schema, which makes its prompts longer than those of free text; with `--completions` none is applied, and both
are asked for alike. Every constrained
answer is parsed; `valid` counts those that are JSON objects with the schema's required keys. Free requests ignore the
end token. Below the table: the share of the device's memory bandwidth that decoding reached.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.random_llama import random_llama

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "status": {"enum": ["active", "inactive", "pending", "banned"]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
        "position": {
            "type": "object",
            "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
            "required": ["x", "y"],
            "additionalProperties": False,
        },
        "verified": {"type": "boolean"},
    },
    "required": ["name", "age", "status", "tags", "position", "verified"],
    "additionalProperties": False,
}
_TEXT = "the of and to in is for that with on as be by this from at or an are not it if but can has was all will we do"
_WORDS = _TEXT.split()
_SERVES = re.compile(r"on (http://127\.0\.0\.1:\d+);")


@dataclass(slots=True)
class Sample:
    """One request on the client's clock."""

    start: float
    end: float = 0.0
    stamps: list[float] = field(default_factory=list)  # of events with text
    tokens: int = 0
    text: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """One row of the table."""

    mode: str  # "free" or "schema"
    clients: int
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """Where it is, and which process, if it was started here."""

    url: str
    pid: int | None

    def cpu_s(self) -> float | None:
        """CPU time so far of the process and its living descendants; None where that cannot be known."""
        if self.pid is None or not Path("/proc/self/stat").exists():
            return None
        parents, ticks = dict[int, int](), dict[int, int]()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
                ticks[int(entry.name)] = int(fields[11]) + int(fields[12])
        family = {self.pid}
        while grown := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= grown
        return sum(ticks.get(pid, 0) for pid in family) / os.sysconf("SC_CLK_TCK")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 1 if a request failed or a constrained answer was not valid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="of a running server; absent: one is started")
    parser.add_argument(
        "--model", default="models/formwork-mini", help="for the server that is started; `random`: a 125M Llama"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of each row")
    parser.add_argument("--clients", default="1,16", help="closed loop: comma-separated numbers")
    parser.add_argument("--rate", default="", help="open loop: requests a second, comma-separated, behind --clients")
    parser.add_argument("--modes", default="free,schema", help="either or both")
    parser.add_argument("--core", type=int, help="client and server on this core alone, with one compute thread")
    parser.add_argument("--completions", action="store_true", help="/v1/completions: no chat template, equal prompts")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--prompt-words", type=int, default=40)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    with contextlib.ExitStack() as stack:
        server = (
            Server(options.url.rstrip("/"), None)
            if options.url
            else stack.enter_context(started(options.model, options.core))
        )
        return asyncio.run(_measure(server, options))


async def _measure(server: Server, options: argparse.Namespace) -> int:
    counts = [int(each) for each in options.clients.split(",") if each]
    rates = [float(each) for each in options.rate.split(",") if each]
    loads = [
        load
        for mode in options.modes.split(",")
        for load in [*(Load(mode, count) for count in counts), *(Load(mode, 0, rate) for rate in rates)]
    ]
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
    async with httpx.AsyncClient(base_url=server.url, timeout=300, limits=limits) as client:
        info = (await client.get("/info")).json()
        print(f"model {info['model_id']}, formwork {info['version']}, {platform.machine()}, {os.cpu_count()} cores,")
        print(f"python {platform.python_version()}, seed {options.seed}, {options.seconds:g} s a row, first 2 requests")
        print(f"of a row unmeasured, {options.max_tokens} tokens at most, temperature {options.temperature:g}\n")
        print(_row(*_HEADER))
        print(_row(*["---"] * len(_HEADER)))
        good = True
        for load in loads:
            ask = _asker(client, load, options)
            for index in range(2):
                await ask(-1 - index)
            before, queued = server.cpu_s(), await _queue(client)
            samples, wall_s = await (_open(ask, load, options) if load.rate else _closed(ask, load, options))
            used = None if before is None else (server.cpu_s() or before) - before
            queue = _waited(queued, await _queue(client))
            print(_told(load, samples, wall_s, used, queue), flush=True)
            good &= all(not sample.error and (load.mode == "free" or _is_valid(sample.text)) for sample in samples)
        print(f"\n{await _bandwidth(client)}")
    return 0 if good else 1


Histogram = dict[str, float]  # upper bound in seconds, or "sum" → number so far


async def _queue(client: httpx.AsyncClient) -> Histogram:
    """The server's histogram of seconds in the queue."""
    text = (await client.get("/metrics")).text
    name = r'tgi_request_queue_duration_(?:bucket\{le="(.+?)"\}|(sum)) (\S+)'
    return {bound or total: float(value) for bound, total, value in re.findall(name, text)}


def _waited(before: Histogram, after: Histogram) -> str:
    counts = {bound: after[bound] - before[bound] for bound in after}
    total = counts.get("+Inf", 0.0)
    if not total:
        return "–"
    p99 = next(bound for bound, count in counts.items() if bound != "sum" and count >= 0.99 * total)
    return f"{1e3 * counts['sum'] / total:.0f} / {'more' if p99 == '+Inf' else f'{1e3 * float(p99):.0f}'}"


async def _bandwidth(client: httpx.AsyncClient) -> str:
    text = (await client.get("/metrics")).text
    found = dict(re.findall(r"^(formwork_memory_bandwidth\w+) (\S+)$", text, re.MULTILINE))
    if len(found) < 2:
        return "no word on memory bandwidth"
    share, device = (float(found[f"formwork_memory_bandwidth_{name}"]) for name in ("share", "bytes"))
    return f"decoding read {share:.0%} of the {device / 1e9:.1f} GB/s that a plain sum reads"


Ask = Callable[[int], Awaitable[Sample]]


async def _closed(ask: Ask, load: Load, options: argparse.Namespace) -> tuple[list[Sample], float]:
    samples: list[Sample] = []
    start = time.perf_counter()
    numbers = iter(range(10**9))

    async def worker() -> None:
        while time.perf_counter() - start < options.seconds:
            samples.append(await ask(next(numbers)))

    await asyncio.gather(*(worker() for _ in range(load.clients)))
    return samples, time.perf_counter() - start


async def _open(ask: Ask, load: Load, options: argparse.Namespace) -> tuple[list[Sample], float]:
    assert load.rate is not None
    rng = random.Random(options.seed)
    start = time.perf_counter()
    tasks: list[asyncio.Task[Sample]] = []
    due = 0.0
    while due < options.seconds:
        await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
        tasks.append(asyncio.create_task(_awaited(ask(len(tasks)))))
        due += rng.expovariate(load.rate)
    samples = list(await asyncio.gather(*tasks))
    return samples, time.perf_counter() - start


async def _awaited(work: Awaitable[Sample]) -> Sample:
    return await work


def _asker(client: httpx.AsyncClient, load: Load, options: argparse.Namespace) -> Ask:
    async def ask(number: int) -> Sample:
        sample = Sample(time.perf_counter())
        try:
            await _stream(client, _body(load, options, number), sample)
        except (httpx.HTTPError, ValueError, RuntimeError) as error:
            sample.error = f"{type(error).__name__}: {error}"
        sample.end = time.perf_counter()
        return sample

    return ask


async def _stream(client: httpx.AsyncClient, body: dict[str, Any], sample: Sample) -> None:
    path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
    async with client.stream("POST", path, json=body) as response:
        if response.status_code != 200:
            raise RuntimeError(f"HTTP {response.status_code}: {(await response.aread())[:200]!r}")
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(event["error"]["message"])
            if event.get("usage"):
                sample.tokens = event["usage"]["completion_tokens"]
            for choice in event["choices"]:
                if piece := choice["text"] if "text" in choice else choice["delta"].get("content"):
                    sample.stamps.append(time.perf_counter())
                    sample.text += piece


def _body(load: Load, options: argparse.Namespace, number: int) -> dict[str, Any]:
    rng = random.Random(f"{options.seed}/{load.mode}/{load.clients}/{number}")
    words = " ".join(rng.choice(_WORDS) for _ in range(options.prompt_words))
    body: dict[str, Any] = {
        **({"prompt": words} if options.completions else {"messages": [{"role": "user", "content": words}]}),
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "seed": options.seed * 1_000_003 + number + 10,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if load.mode == "schema" and options.completions:
        body["structured_outputs"] = {"json": SCHEMA}
    elif load.mode == "schema":
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
    else:
        body["ignore_eos"] = True  # as many tokens for everyone
    return body


_TIMES = [f"{name} p50/p90/p99 ms" for name in ("TTFT", "gap", "latency")]
_HEADER = (
    "load",
    "ok",
    "failed",
    "valid",
    "requests/s",
    "tokens/s",
    "tokens/CPU s",
    *_TIMES,
    "queue mean / p99 at most, ms",
)


def _told(load: Load, samples: Sequence[Sample], wall_s: float, cpu_s: float | None, queue: str) -> str:
    ok = [sample for sample in samples if not sample.error]
    gaps = [b - a for sample in ok for a, b in zip(sample.stamps, sample.stamps[1:], strict=False)]
    name = f"{load.mode}, {f'{load.rate:g} requests/s' if load.rate else f'{load.clients} clients'}"
    for sample in samples:
        if sample.error:
            print(f"  first failure: {sample.error}", file=sys.stderr)
            break
    tokens = sum(sample.tokens for sample in ok)
    return _row(
        name,
        str(len(ok)),
        str(len(samples) - len(ok)),
        str(sum(_is_valid(sample.text) for sample in ok)) if load.mode == "schema" else "",
        f"{len(ok) / wall_s:.2f}",
        f"{tokens / wall_s:.0f}",
        f"{tokens / cpu_s:.0f}" if cpu_s else "",
        _quantiles([sample.stamps[0] - sample.start for sample in ok if sample.stamps]),
        _quantiles(gaps),
        _quantiles([sample.end - sample.start for sample in ok]),
        queue,
    )


def _is_valid(text: str) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict) and set(value) == set(SCHEMA["required"])


def _quantiles(values: Sequence[float]) -> str:
    if not values:
        return "–"
    ordered = sorted(values)
    picked = (ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.5, 0.9, 0.99))
    return " / ".join(f"{1e3 * value:.1f}" for value in picked)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


@contextlib.contextmanager
def started(model: str, core: int | None = None, *flags: str) -> Iterator[Server]:
    """A server of our own on a free port."""
    with tempfile.TemporaryDirectory() as folder:
        model = str(random_llama(Path(folder))) if model == "random" else model
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "service.cli", "serve", model, "--port", "0", "--log-level", "error", *flags]
        environment = dict(os.environ)
        if core is not None:
            command += ["--threads", "1"]
            environment["OMP_NUM_THREADS"] = "1"
        with log.open("wb") as sink:
            process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=environment)
        try:
            while (found := _SERVES.search(log.read_text("utf-8", "replace"))) is None:
                if process.poll() is not None:
                    raise RuntimeError(f"the server did not start:\n{log.read_text('utf-8', 'replace')}")
                time.sleep(0.2)
            yield Server(found[1], process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


if __name__ == "__main__":
    raise SystemExit(main())
