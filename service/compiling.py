"""Constraints to plans: a pool of killable workers, a cache by content, one compilation per constraint at a time.

What it is for: `Compiler.compile(constraint)` and `.replay(...)`. What may not enter: grammars themselves (the
API process only carries their bytes), HTTP.

The idea: a job has a wall-clock limit here and CPU and memory limits in the worker; one that breaks any of them costs a
worker, which is replaced, and is a refusal that is remembered like any other. A worker that dies of something else is
replaced too, and its job is given to the next one, once. Tenants take turns, and a job that has not begun when the last
who waits for it leaves is forgotten: so there are never more than requests inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.messages import Plan
from grammar.errors import GrammarError, GrammarTooLarge, UnsatisfiableConstraint, UnsupportedConstraint
from service.compile_protocol import (
    LENGTH,
    Answer,
    Compile,
    Compiled,
    Job,
    Listed,
    ListWords,
    Refused,
    Replay,
    Replayed,
    Setup,
    Warm,
    decode_answer,
    frame,
)
from service.constraints import Constraint
from service.errors import CompilerUnavailable, InvalidBody
from service.turns import Turns

_ERRORS: dict[str, type[GrammarError]] = {
    kind.__name__: kind for kind in (GrammarError, UnsupportedConstraint, UnsatisfiableConstraint, GrammarTooLarge)
}
_START_S = 600.0  # a first start compiles every kernel, and the machine may be busy
_ANSWER_LIMIT = 1 << 30
_PATIENCE = 6  # times the limit of one compilation: so long a job waits for a worker


class WorkerDied(Exception):
    """The worker ended, was killed, or broke the protocol; `spent`: it had used up its CPU time."""

    def __init__(self, message: str, *, spent: bool = False) -> None:
        super().__init__(message)
        self.spent = spent


@dataclass(frozen=True, slots=True)
class CompileLimits:
    workers: int
    timeout_s: float
    memory_bytes: int
    cache_bytes: int
    source_bytes: int


@dataclass(frozen=True, slots=True)
class CompiledConstraint:
    """A plan with what the service must know of it; `cached` says whether this request found it ready."""

    constraint: Constraint
    plan: Plan
    least_budget: int
    compile_s: float
    explanation: Any
    cached: bool = False

    @property
    def nbytes(self) -> int:
        return len(self.plan.data)


@dataclass(slots=True)
class CompileCounters:
    hits: int = 0
    misses: int = 0
    refused: int = 0
    timeouts: int = 0
    worker_deaths: int = 0
    compile_s: float = 0.0


class Asked(Protocol):
    """What the pool needs of a worker."""

    async def ask(self, job: Job) -> Answer: ...

    async def close(self) -> None: ...


class Worker:
    """One process; a job that fails ends it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, setup: Setup) -> Worker:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "service.compile_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        worker = cls(process)
        try:
            async with asyncio.timeout(_START_S):
                if not isinstance(await worker._exchange(setup), Warm):
                    raise WorkerDied("the worker did not say that it is ready")
        except BaseException:
            await worker.close()
            raise
        return worker

    async def ask(self, job: Job) -> Answer:
        answer = await self._exchange(job)
        if isinstance(answer, Warm):
            raise WorkerDied("an answer was expected")
        return answer

    async def close(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()

    async def _exchange(self, message: Setup | Job) -> Warm | Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(frame(message))
            await self._process.stdin.drain()
            (length,) = LENGTH.unpack(await self._process.stdout.readexactly(LENGTH.size))
            if length > _ANSWER_LIMIT:
                raise WorkerDied("the answer is too large")
            answer: Warm | Answer = decode_answer(await self._process.stdout.readexactly(length))
            return answer
        except (OSError, EOFError, ValueError, RuntimeError) as error:  # the last is uvloop's, of a closed pipe
            await self.close()
            spent = self._process.returncode == -signal.SIGXCPU
            raise WorkerDied(f"the compile worker ended ({error})", spent=spent) from error


def _nothing() -> None:
    """Nobody wants to know when a job begins."""


@dataclass(slots=True, eq=False)
class _Order:
    """A compilation and those who wait for it; `begun`: a worker has it."""

    task: asyncio.Task[CompiledConstraint]
    waiting: int = 0
    begun: bool = False

    async def result(self) -> CompiledConstraint:
        """Who leaves does not take it from the others, and what has begun goes on: the next request will want it."""
        self.waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self.waiting -= 1
            if not self.waiting and not self.begun:
                self.task.cancel()


class Compiler:
    """Owns the workers and the cache."""

    def __init__(
        self,
        tokens: Sequence[bytes],
        eos_token_ids: Sequence[int],
        limits: CompileLimits,
        special_tokens: Mapping[str, int] | None = None,
    ) -> None:
        self._setup = Setup(
            tokens=list(tokens),
            eos_token_ids=list(eos_token_ids),
            special_tokens=dict(special_tokens or {}),
            memory_bytes=limits.memory_bytes,
            cpu_s=limits.timeout_s,
        )
        self._limits = limits
        self._turns: Turns[Asked] = Turns()
        self._workers: set[Asked] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._orders: dict[str, _Order] = {}
        self._cache = ByteCache(limits.cache_bytes)
        self._closed = False
        self.counters = CompileCounters()

    @property
    def ready(self) -> bool:
        """Whether some worker is there, busy or idle."""
        return bool(self._workers)

    @property
    def cached_bytes(self) -> int:
        return self._cache.nbytes

    async def start(self) -> None:
        """Returns when all workers are warm."""
        await asyncio.gather(*(self._add_worker() for _ in range(self._limits.workers)))

    async def close(self) -> None:
        self._closed = True
        tasks = [*self._starting, *(order.task for order in self._orders.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(worker.close() for worker in self._workers))
        self._workers.clear()

    async def compile(self, constraint: Constraint, tenant: str = "") -> CompiledConstraint:
        """The plan, from the cache if it is there; raises GrammarError or CompilerUnavailable."""
        check_size(constraint, self._limits.source_bytes)
        found = self._cache.get(constraint.key)
        if found is not None:
            self.counters.hits += 1
            return _again(found, constraint)
        order = self._orders.get(constraint.key)
        if order is None or order.task.cancelling():
            self.counters.misses += 1
            order = self._ordered(constraint, tenant)
        return await order.result()

    def _ordered(self, constraint: Constraint, tenant: str) -> _Order:
        def begin() -> None:
            order.begun = True

        order = _Order(asyncio.create_task(self._compile(constraint, tenant, begin)))
        self._orders[constraint.key] = order
        order.task.add_done_callback(lambda _: self._forget(constraint.key, order))
        return order

    async def replay(
        self, compiled: CompiledConstraint | None, tokens: list[int], context: int, tenant: str = ""
    ) -> Replayed:
        """Which tokens were free choices; see `engine.marking`. InvalidBody if it takes a compilation's limits."""
        plan = compiled.plan.data if compiled else None
        try:
            answer = await self._ask_twice(Replay(plan=plan, tokens=tokens, context=context), tenant)
        except TimeoutError:
            self.counters.timeouts += 1
            taken = f"these {len(tokens)} tokens could not be read within {self._limits.timeout_s:g} s"
            raise InvalidBody(f"{taken}: send a part of them") from None
        except WorkerDied:
            taken = f"reading these {len(tokens)} tokens broke its limit of time or memory"
            raise InvalidBody(f"{taken}: send a part of them") from None
        if isinstance(answer, Refused):
            raise _error(answer, None)
        assert isinstance(answer, Replayed)
        return answer

    async def list_words(self, regex: str, most: int, param: str, tenant: str = "") -> list[str]:
        """The texts that a regular expression matches; GrammarError if they are more than `most`."""
        if len(regex) > self._limits.source_bytes:
            raise InvalidBody(f"at most {self._limits.source_bytes} characters are accepted", param=param)
        answer = await self._bounded(ListWords(regex=regex, most=most), tenant)
        if isinstance(answer, Refused):
            raise _error(answer, param)
        assert isinstance(answer, Listed)
        return answer.words

    async def _compile(self, constraint: Constraint, tenant: str, begin: Callable[[], None]) -> CompiledConstraint:
        try:
            compiled = await self._compile_now(constraint, tenant, begin)
        except GrammarError as error:
            self.counters.refused += 1
            self._cache.put(constraint.key, error, 1024 + len(constraint.source))
            raise
        self.counters.compile_s += compiled.compile_s
        self._cache.put(constraint.key, compiled, compiled.nbytes + len(constraint.source))
        return compiled

    async def _compile_now(self, constraint: Constraint, tenant: str, begin: Callable[[], None]) -> CompiledConstraint:
        job = Compile(kind=constraint.kind, source=constraint.source, options=constraint.options)
        answer = await self._bounded(job, tenant, begin)
        if isinstance(answer, Refused):
            raise _error(answer, constraint.param)
        assert isinstance(answer, Compiled)
        plan = Plan(answer.fingerprint, answer.data)
        return CompiledConstraint(constraint, plan, answer.least_budget, answer.compile_s, answer.explanation)

    async def _bounded(self, job: Job, tenant: str, begin: Callable[[], None] = _nothing) -> Answer:
        """The answer; breaking a limit is a refusal."""
        try:
            return await self._ask_twice(job, tenant, begin)
        except TimeoutError:
            self.counters.timeouts += 1
            raise GrammarTooLarge(f"compiling took longer than {self._limits.timeout_s:g} s") from None
        except WorkerDied:
            raise GrammarTooLarge("compiling broke its limit of time or memory") from None

    async def _ask_twice(self, job: Job, tenant: str, begin: Callable[[], None] = _nothing) -> Answer:
        """A worker may have been somebody else's victim; a constraint that two have died of is to blame itself."""
        try:
            return await self._ask(job, tenant, begin)
        except WorkerDied as death:
            if death.spent:
                raise
            return await self._ask(job, tenant, begin)

    async def _ask(self, job: Job, tenant: str, begin: Callable[[], None] = _nothing) -> Answer:
        worker = await self._worker(tenant)
        begin()
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                answer = await worker.ask(job)
        except BaseException:
            self._workers.discard(worker)
            self.counters.worker_deaths += 1
            self._replace()
            await worker.close()
            raise
        self._turns.give(worker)
        return answer

    async def _worker(self, tenant: str) -> Asked:
        """One that is idle, when it is this tenant's turn. Raises CompilerUnavailable where none comes."""
        if self._closed or not (self._workers or self._starting):
            raise CompilerUnavailable("the constraint compiler is not running")
        patience_s = _PATIENCE * self._limits.timeout_s
        try:
            async with asyncio.timeout(patience_s):
                return await self._turns.take(tenant)
        except TimeoutError:
            busy = f"{self._turns.waiting} constraints wait to be compiled, and no turn came within {patience_s:g} s"
            raise CompilerUnavailable(busy) from None

    def _replace(self) -> None:
        if self._closed:
            return
        task = asyncio.create_task(self._add_worker())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _add_worker(self) -> None:
        worker = await self._start_worker(self._setup)
        self._workers.add(worker)
        self._turns.give(worker)

    async def _start_worker(self, setup: Setup) -> Asked:
        return await Worker.start(setup)

    def _forget(self, key: str, order: _Order) -> None:
        if self._orders.get(key) is order:
            del self._orders[key]
        if not order.task.cancelled():
            order.task.exception()  # a refusal nobody waited for is not an unhandled error


@dataclass(slots=True)
class ByteCache:
    """Least recently used out first, by bytes. Refusals are kept beside plans: asking again costs nothing."""

    limit: int
    nbytes: int = 0
    _entries: OrderedDict[str, tuple[CompiledConstraint | GrammarError, int]] = field(default_factory=OrderedDict)

    def get(self, key: str) -> CompiledConstraint | GrammarError | None:
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, key: str, value: CompiledConstraint | GrammarError, nbytes: int) -> None:
        if nbytes > self.limit:
            return
        self._entries[key] = (value, nbytes)
        self.nbytes += nbytes
        while self.nbytes > self.limit:
            _, (_, freed) = self._entries.popitem(last=False)
            self.nbytes -= freed


def _again(found: CompiledConstraint | GrammarError, constraint: Constraint) -> CompiledConstraint:
    if isinstance(found, GrammarError):
        # A new exception for each request: a raised one collects its tracebacks.
        raise _named(
            type(found)(found.message, pointer=found.pointer, keyword=found.keyword, reason=found.reason),
            constraint.param,
        )
    return CompiledConstraint(
        constraint, found.plan, found.least_budget, found.compile_s, found.explanation, cached=True
    )


def _error(refused: Refused, param: str | None) -> Exception:
    kind = _ERRORS.get(refused.error)
    if kind is None:
        return RuntimeError(f"in the compile worker: {refused.message}")
    error = kind(refused.message, pointer=refused.pointer, keyword=refused.keyword, reason=refused.reason)
    return _named(error, param)


def _named(error: GrammarError, param: str | None) -> GrammarError:
    """Notes in which field of the request the constraint stood."""
    error.__dict__["param"] = param
    return error


def check_size(constraint: Constraint, limit: int) -> None:
    """Raises InvalidBody for a constraint that is too long to be looked at."""
    size = len(constraint.source)
    if size > limit:
        raise InvalidBody(f"the constraint has {size} characters; at most {limit} are accepted", param=constraint.param)


def explanation_text(explanation: Any) -> str:
    """An explanation for people."""
    return explanation if isinstance(explanation, str) else json.dumps(explanation, indent=2, ensure_ascii=False)
