"""What is left of a server's throughput when ten times as much is asked of it as it can do?

    formwork bench overload --minutes 3
    formwork bench overload --times 10 --tokens 128 --deadline 20

Starts a server on the bundled model, on its own core with one compute thread where there are two; clients are on
another. First the peak: a closed loop with more and more clients, each as soon as it has its answer asking again; the
best of these is the capacity. Then arrivals at `--times` that many requests a second, whatever becomes of them, each on
a connection of its own. Half of the clients are patient: told to come again they do, when they were told to, until
their deadline is over; the others give up at once. Half of each kind tell the server their deadline. At last the peak
again: the machine may have become slower meanwhile.

Goodput: tokens of answers that came whole, by the second and by the server's second of CPU, which others on the machine
do not change; of each phase the first seconds, in which answers have begun and not ended, are left out. Prints it
beside the peak, what was refused, how long that took (on the client's clock, connection included, with the client's own
lateness beside it; and as the server tells it), how near answers came to their deadline, and `/livez`. Status 1
if goodput is below 90 % of the peak in both measures, an answer is older than the deadline that the server was told, a
refusal lacks Retry-After, or anything else went wrong.
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
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from benchmarks.serving import Server, started

_TEXT = "Maria Silva is 34 years old, active, and lives in Porto with two cats and a parrot called Ulysses."
_RAMP = 0.2  # of a phase, at its beginning
_GRACE_S = 1.0  # beyond a deadline, for the answer to be on its way
_LEAST = 0.9
_TOKENS = re.compile(rb'"completion_tokens":(\d+)')
_SPENT = re.compile(rb"\r\nopenai-processing-ms: (\d+)", re.IGNORECASE)
_AFTER = re.compile(rb"\r\nretry-after: (\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt, on the client's clock."""

    status: int
    seconds: float  # to the end of the answer
    tokens: int = 0
    retry_after_s: int | None = None
    code: str = ""  # of an error
    bound_s: float | None = None  # the deadline that the server was told
    spent_s: float | None = None  # until its answer began, as the server says

    @property
    def is_refusal(self) -> bool:
        return self.status in {429, 503}


@dataclass(slots=True)
class Tally:
    """Of one phase."""

    seconds: float = 0.0
    whole: list[Answer] = field(default_factory=list)
    refused: list[Answer] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    late: int = 0  # told that their deadline is over
    gave_up: int = 0
    lags: list[float] = field(default_factory=list)  # of /livez
    own_lags: list[float] = field(default_factory=list)  # of this process
    cpu_s: float = 0.0  # of the server
    measured: slice = field(default_factory=lambda: slice(None))  # of `whole`

    @property
    def tokens(self) -> int:
        return sum(answer.tokens for answer in self.whole[self.measured])

    @property
    def goodput(self) -> float:
        return self.tokens / self.seconds

    @property
    def goodput_by_cpu(self) -> float:
        return self.tokens / self.cpu_s if self.cpu_s else 0.0

    async def clock(self, server: Server, seconds: float) -> None:
        """Measures what ends after the ramp of a phase of so many seconds, and before its end."""
        await asyncio.sleep(_RAMP * seconds)
        began, used, before = time.perf_counter(), server.cpu_s() or 0.0, len(self.whole)
        await asyncio.sleep((1 - _RAMP) * seconds)
        self.seconds, self.cpu_s = time.perf_counter() - began, (server.cpu_s() or 0.0) - used
        self.measured = slice(before, len(self.whole))

    def note(self, answer: Answer) -> None:
        if answer.status == 200 and not answer.code:
            self.whole.append(answer)
        elif answer.is_refusal:
            self.refused.append(answer)
        elif answer.code == "deadline_exceeded":
            self.late += 1
        else:
            self.failed[f"{answer.status} {answer.code}"] += 1


class Client:
    """Speaks HTTP/1.1 by hand: at ten times the load a client library would be what is measured."""

    def __init__(self, server: Server, tokens: int) -> None:
        where, self.server = urlsplit(server.url), server
        self._host, self._port, self._tokens = where.hostname or "", where.port or 80, tokens

    async def ask(self, seed: int, deadline_s: float | None = None) -> Answer:
        """One streamed chat completion of a fixed number of tokens."""
        body = {
            "messages": [{"role": "user", "content": f"{seed}: {_TEXT}"}],
            "max_tokens": self._tokens,
            "ignore_eos": True,
            "temperature": 1.0,
            "seed": seed,
            "logprobs": False,
            "stream": True,
            "stream_options": {"include_usage": True},
            **({} if deadline_s is None else {"formwork": {"deadline_s": deadline_s}}),
        }
        content = json.dumps(body).encode()
        head = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
        )
        began = time.perf_counter()
        try:
            told = await self._exchange(head + b"content-length: %d\r\n\r\n" % len(content) + content)
        except OSError as error:
            return Answer(0, time.perf_counter() - began, code=type(error).__name__)
        return replace(_answer(told, time.perf_counter() - began), bound_s=deadline_s)

    async def lag(self) -> float:
        """Seconds until `/livez` has answered."""
        began = time.perf_counter()
        await self._exchange(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return time.perf_counter() - began

    async def _exchange(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(request)
            return await reader.read()
        finally:
            writer.close()


def _answer(told: bytes, seconds: float) -> Answer:
    status = int(told[9:12]) if told[:5] == b"HTTP/" else 0
    after, tokens, code = _AFTER.search(told), _TOKENS.search(told), re.search(rb'"code":"(\w+)"', told)
    problem = code[1].decode() if code else "" if status != 200 or b"data: [DONE]" in told else "cut off"
    spent = _SPENT.search(told)
    return Answer(
        status,
        seconds,
        int(tokens[1]) if tokens else 0,
        int(after[1]) if after else None,
        problem,
        spent_s=int(spent[1]) / 1e3 if spent else None,
    )


async def _closed(client: Client, clients: int, seconds: float, seeds: random.Random) -> Tally:
    """So many clients, each asking again as soon as it has its answer."""
    tally, end = Tally(), time.perf_counter() + seconds

    async def work() -> None:
        while time.perf_counter() < end:
            tally.note(await client.ask(seeds.getrandbits(31)))

    await asyncio.gather(tally.clock(client.server, seconds), *(work() for _ in range(clients)))
    return tally


async def _flood(client: Client, rate: float, seconds: float, deadline_s: float, seeds: random.Random) -> Tally:
    """Poisson arrivals; afterwards those inside are awaited."""
    tally, tasks = Tally(), set[asyncio.Task[None]]()
    began, due = time.perf_counter(), 0.0
    watching = [asyncio.create_task(work) for work in (_watch(client, tally), tally.clock(client.server, seconds))]
    while due < seconds:
        await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
        tally.own_lags.append(time.perf_counter() - began - due)
        kind = seeds.getrandbits(2)
        work = _visitor(client, tally, seeds.getrandbits(31), deadline_s, patient=bool(kind & 1), tells=kind > 1)
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        due += seeds.expovariate(rate)
    await watching[1]
    watching[0].cancel()
    await asyncio.gather(*tasks, *watching, return_exceptions=True)
    return tally


async def _visitor(client: Client, tally: Tally, seed: int, deadline_s: float, *, patient: bool, tells: bool) -> None:
    end = time.perf_counter() + deadline_s
    while (left := end - time.perf_counter()) > 0:
        answer = await client.ask(seed, left if tells else None)
        tally.note(answer)
        if not answer.is_refusal:
            return
        if not patient:
            break
        await asyncio.sleep(answer.retry_after_s or 1)
    tally.gave_up += 1


async def _watch(client: Client, tally: Tally) -> None:
    while True:
        with contextlib.suppress(OSError):
            tally.lags.append(await client.lag())
        await asyncio.sleep(0.05)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the account; 0 iff what is promised held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0, help="of overload")
    parser.add_argument("--times", type=float, default=10.0, help="arrivals, in capacities")
    parser.add_argument("--tokens", type=int, default=128, help="of each answer")
    parser.add_argument("--deadline", type=float, default=20.0, help="seconds a client waits in all")
    parser.add_argument("--clients", default="16,32,64", help="for the peak")
    parser.add_argument("--peak-seconds", type=float, default=20.0, help="of each")
    parser.add_argument("--inside", type=int, default=64, help="the server's max-concurrent-requests")
    parser.add_argument("--model", default="models/formwork-mini")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    cores = sorted(os.sched_getaffinity(0))
    apart = len(cores) > 1
    flags = ["--max-concurrent-requests", str(options.inside), "--max-sequences", "32"]
    if apart:
        os.sched_setaffinity(0, {cores[0]})
        flags += ["--threads", "1"]
    with started(options.model, None, *flags) as server:
        if apart:
            os.sched_setaffinity(0, {cores[-1]})
        where = "server and clients on a core each" if apart else "server and clients on one core"
        print(f"formwork on {platform.machine()}, {where}, {options.tokens} tokens an answer, seed {options.seed}")
        return asyncio.run(_measure(Client(server, options.tokens), options))


async def _measure(client: Client, options: argparse.Namespace) -> int:
    seeds = random.Random(options.seed)
    await _closed(client, 4, 3.0, seeds)  # warm
    peaks: dict[int, Tally] = {}
    for clients in (int(each) for each in options.clients.split(",")):
        peaks[clients] = await _closed(client, clients, options.peak_seconds, seeds)
        print(f"{clients:3d} clients: {_told(peaks[clients])}", flush=True)
    clients, best = max(peaks.items(), key=lambda each: each[1].goodput)
    rate = options.times * best.goodput / options.tokens
    print(f"{options.times:g} times that: {rate:.1f} requests/s for {options.minutes:g} minutes", flush=True)
    flood = await _flood(client, rate, 60 * options.minutes, options.deadline, seeds)
    print(f"overload:    {_told(flood)}")
    after = await _closed(client, clients, options.peak_seconds, seeds)
    print(f"{clients:3d} clients: {_told(after)} (again)")
    return _judge(flood, best, after, options.deadline)


def _told(tally: Tally) -> str:
    by_cpu = f" ({tally.goodput_by_cpu:.0f} by CPU)" if tally.cpu_s else ""
    return f"{tally.goodput:.0f} tokens/s{by_cpu} in {len(tally.whole)} whole answers"


def _judge(flood: Tally, before: Tally, after: Tally, deadline_s: float) -> int:
    share = 2 * flood.goodput / (before.goodput + after.goodput)
    by_cpu = 2 * flood.goodput_by_cpu / max(1e-9, before.goodput_by_cpu + after.goodput_by_cpu)
    bound = [answer.seconds - answer.bound_s for answer in flood.whole if answer.bound_s is not None]
    unsaid = sum(answer.retry_after_s is None for answer in flood.refused)
    print(f"\ngoodput {share:.1%} of the peaks before and behind it, {by_cpu:.1%} by the server's CPU time")
    print(f"refused {len(flood.refused)} ({unsaid} without Retry-After), in ms p50/p99/max: {_ms(flood.refused)}")
    spent = [answer.spent_s for answer in flood.refused if answer.spent_s is not None]
    print(f"as the server tells it: {_spread(spent)}")
    print(f"the client itself was late by ms p50/p99/max: {_spread(flood.own_lags)}")
    print(f"given up {flood.gave_up}, past their deadline {flood.late}, failed otherwise {dict(flood.failed) or 0}")
    print(f"answers in ms p50/p99/max: {_ms(flood.whole)}; nearest to its deadline of {deadline_s:g} s at most:")
    print(f"{-max(bound, default=0.0):.1f} s before it; /livez in ms p50/p99/max: {_spread(flood.lags)}")
    in_time = max(bound, default=0.0) <= _GRACE_S
    return 0 if max(share, by_cpu) >= _LEAST and not unsaid and not flood.failed and in_time else 1


def _ms(answers: Sequence[Answer]) -> str:
    return _spread([answer.seconds for answer in answers])


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    ordered = sorted(values)
    return " / ".join(f"{1e3 * ordered[min(len(ordered) - 1, int(q * len(ordered)))]:.1f}" for q in (0.5, 0.99, 1.0))


if __name__ == "__main__":
    raise SystemExit(main())
