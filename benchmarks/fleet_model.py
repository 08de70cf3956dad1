"""A fleet without its machines: replicas as rates, requests as lengths; what `benchmarks/fleet.py` replays traces on.

What it is for: `Replica`, a fluid model of one engine (continuous batching with chunked prefill, a prefix cache, pages,
grammar tables), `Machine`, its figures, and `trace`, the requests. What may not enter: who is sent where, and how many
replicas there are: those decisions are the server's own code.

The model: a step takes `step_s` for the weights, `row_s` more for each decoding sequence, `token_s` for each prompt
token in it. Between two events all rates are constant, so time advances from event to event; a decoding sequence ends
when the replica's count of steps has grown by its length. Figures of a machine come from its data sheet (bandwidth,
FLOPs) as in docs/scaling.md; what this leaves out, and what it cannot show, is said there.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from engine.fleet.routing import Load, Wanted


@dataclass(frozen=True, slots=True)
class Machine:
    """Seconds a step, a row, a prompt token; tokens that the cache holds."""

    name: str = "8B in bf16 on one H100"
    step_s: float = 4.5e-3  # 15 GB of weights at 3.35 TB/s
    row_s: float = 4.0e-5  # 131 MB of keys and values (1,000 tokens)
    token_s: float = 3.2e-5  # 16 GFLOP at half of 989 TFLOPS
    chunk: int = 512  # prompt tokens in a step
    cache_tokens: int = 300_000
    most_rows: int = 256
    grammar_s: float = 0.02  # the first masks under a grammar that is new there
    grammars: int = 256  # whose tables are kept
    start_s: float = 60.0  # until a new replica serves


@dataclass(frozen=True, slots=True)
class Request:
    """`blocks` name the prompt's beginning as the router sees it; `after` those with the answer, for the next turn."""

    name: int
    at: float
    blocks: tuple[int, ...]
    prompt: int
    output: int
    grammar: str | None

    def wanted(self) -> Wanted:
        return Wanted(self.blocks, self.prompt, self.grammar, _mixed(self.name, 0))


@dataclass(slots=True)
class Tally:
    """What became of the requests."""

    first_token_s: list[float] = field(default_factory=list)
    per_token_s: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    new_grammars: int = 0
    grammars: int = 0


class Replica:
    """`advance` to a time, then `put` or `next_event`."""

    def __init__(self, name: str, machine: Machine, block: int, tally: Tally, now: float = 0.0) -> None:
        self.name = name
        self.version = 0  # of the event that is scheduled for it
        self._machine, self._block, self._tally = machine, block, tally
        self._now = now
        self._steps = 0.0
        self._queue: deque[Request] = deque()
        self._left = 0.0  # prompt tokens of the head of the queue
        self._begun = False
        self._decoding: list[tuple[float, int, Request, float]] = []  # steps at its end, name, request, first token at
        self._held = 0  # tokens of running sequences
        self._cache: OrderedDict[int, None] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()
        self.busy_s = 0.0
        self.computed = 0.0  # prompt tokens

    @property
    def is_idle(self) -> bool:
        return not self._queue and not self._decoding

    @property
    def sequences(self) -> int:
        return len(self._queue) + len(self._decoding)

    def load(self) -> Load:
        waiting = sum(request.prompt for request in self._queue)
        share = self._held / self._machine.cache_tokens
        return Load(waiting, self.sequences, share, self._machine.cache_tokens)

    def queue_s(self) -> float:
        """How long the head of the queue has waited."""
        return self._now - self._queue[0].at if self._queue else 0.0

    def put(self, request: Request) -> None:
        self._queue.append(request)
        self._begin()

    def advance(self, now: float) -> None:
        """To `now`, at constant rates; no event lies between."""
        passed = now - self._now
        if passed > 0 and not self.is_idle:
            steps = passed / self._step_s()
            self._steps += steps
            self.busy_s += passed
            if self._begun:
                computed = steps * self._chunk()
                self._left -= computed
                self.computed += computed
        self._now = now

    def next_event(self) -> float | None:
        """When a prompt is done or a sequence ends; None if nothing runs."""
        if not self._begun and not self._decoding:
            return None
        steps = float("inf")
        if self._begun:
            steps = max(0.0, self._left / self._chunk())
        if self._decoding:
            steps = min(steps, max(0.0, self._decoding[0][0] - self._steps))
        return self._now + steps * self._step_s()

    def settle(self) -> list[tuple[Request, bool]]:
        """What is due now: prompts that are done decode, sequences at their end go. Each with whether it has ended."""
        due: list[tuple[Request, bool]] = []
        tally, epsilon = self._tally, 1e-6
        while self._decoding and self._decoding[0][0] <= self._steps + epsilon:
            _, _, request, first = heapq.heappop(self._decoding)
            self._held -= request.prompt + request.output
            due.append((request, True))
            tally.per_token_s.append((self._now - first) / max(1, request.output - 1))
        if self._begun and self._left <= epsilon * self._machine.chunk:
            request = self._queue.popleft()
            self._begun = False
            due.append((request, False))
            late = self._meet(request.grammar)
            tally.first_token_s.append(self._now + late - request.at)
            heapq.heappush(self._decoding, (self._steps + request.output, request.name, request, self._now))
        self._begin()
        return due

    def _begin(self) -> None:
        """Starts the prompt at the head of the queue, if there are pages and a row for it."""
        if self._begun or not self._queue or len(self._decoding) >= self._machine.most_rows:
            return
        request = self._queue[0]
        needed = request.prompt + request.output
        if self._decoding and self._held + needed > self._machine.cache_tokens:
            return
        cached = min(self._match(request) * self._block, request.prompt - 1)
        self._tally.prompt_tokens += request.prompt
        self._tally.cached_tokens += cached
        self._left, self._begun = float(request.prompt - cached), True
        self._held += needed

    def _match(self, request: Request) -> int:
        """Blocks of the prompt that are cached; all of them are, afterwards."""
        cache, found, whole = self._cache, 0, True
        for block in request.blocks:
            whole = whole and block in cache
            found += whole
            cache[block] = None
            cache.move_to_end(block)
        while len(cache) * self._block > self._machine.cache_tokens:
            cache.popitem(last=False)
        return found

    def _meet(self, grammar: str | None) -> float:
        """Seconds that the first masks cost."""
        if grammar is None:
            return 0.0
        self._tally.grammars += 1
        new = grammar not in self._known
        self._known[grammar] = None
        self._known.move_to_end(grammar)
        if len(self._known) > self._machine.grammars:
            self._known.popitem(last=False)
        self._tally.new_grammars += new
        return self._machine.grammar_s if new else 0.0

    def _chunk(self) -> float:
        return min(float(self._machine.chunk), max(self._left, 1.0))

    def _step_s(self) -> float:
        machine = self._machine
        prompt = self._chunk() if self._begun else 0.0
        return machine.step_s + machine.row_s * len(self._decoding) + machine.token_s * prompt


@dataclass(frozen=True, slots=True)
class Traffic:
    """Applications with a system prompt and schemas of their own, used by conversations of several turns."""

    apps: int = 2000
    rate: float = 1000.0  # requests a second
    seconds: float = 60.0
    system_tokens: float = 900.0  # medians of log-normal lengths
    turn_tokens: float = 180.0
    output_tokens: float = 150.0
    spread: float = 0.8
    schemas: int = 3  # of each application
    turns: float = 3.0  # mean, of a conversation
    think_s: float = 8.0  # between two turns
    popularity: float = 1.1  # exponent of Zipf's law over applications


_WARM_S = 60.0


def trace(traffic: Traffic, seed: int, block: int, swing: float = 0.0, period_s: float = 3600.0) -> Iterator[Request]:
    """Requests in order of time. `swing`: how far the rate falls below its mean and rises above it in `period_s`."""
    noise = random.Random(seed)
    weights = [1 / (rank + 1) ** traffic.popularity for rank in range(traffic.apps)]
    systems = [_length(noise, traffic.system_tokens, traffic.spread) for _ in range(traffic.apps)]
    apps = noise.choices(range(traffic.apps), weights, k=1 << 16)
    pending: list[tuple[float, int, int, int, int, int]] = []  # time, number, app, conversation, context, turns left
    now, count, conversations = -_WARM_S, 0, 0  # conversations are under way when it begins
    peak = traffic.rate * (1 + swing) / traffic.turns
    while True:
        now += noise.expovariate(peak)
        level = 1 - swing * _wave(now / period_s)
        if noise.random() < level * traffic.rate / traffic.turns / peak:
            app = apps[noise.randrange(len(apps))]
            left = 1 + int(noise.expovariate(1 / (traffic.turns - 1))) if traffic.turns > 1 else 1
            heapq.heappush(pending, (now, count, app, conversations, systems[app], left))
            conversations += 1
            count += 1
        while pending and pending[0][0] <= now:
            at, _, app, conversation, context, left = heapq.heappop(pending)
            if at >= traffic.seconds:
                return
            turn, output = (
                _length(noise, each, traffic.spread) for each in (traffic.turn_tokens, traffic.output_tokens)
            )
            prompt = min(context + turn, 30_000)
            grammar = f"{app}/{noise.randrange(traffic.schemas)}" if noise.random() < 0.7 else None
            if at >= 0:
                blocks = _blocks(app, systems[app], conversation, prompt, block)
                yield Request(count, at, blocks, prompt, output, grammar)
            count += 1
            if left > 1:
                again = at + noise.expovariate(1 / traffic.think_s)
                heapq.heappush(pending, (again, count, app, conversation, prompt + output, left - 1))
        if now >= traffic.seconds:
            return


def _wave(turns: float) -> float:
    """From 1 (trough) to -1 (peak) and back in one turn, without a jump; straight lines suffice."""
    place = turns % 1.0
    return 1 - 4 * place if place < 0.5 else 4 * place - 3


def _length(noise: random.Random, median: float, spread: float) -> int:
    return max(1, int(noise.lognormvariate(0.0, spread) * median))


def _blocks(app: int, system: int, conversation: int, prompt: int, block: int) -> tuple[int, ...]:
    """Names of the prompt's blocks: the application's while the system prompt lasts, then the conversation's."""
    shared = system // block
    own = range(shared, prompt // block)
    return (
        *(_mixed(app, index) for index in range(min(shared, prompt // block))),
        *(_mixed(~conversation, index) for index in own),
    )


def _mixed(one: int, other: int) -> int:
    return int.from_bytes(blake2b(b"%d %d" % (one, other), digest_size=8).digest(), "little")
