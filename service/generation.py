"""From a dialect's wish to pieces of text: the one path that every generating route takes.

What it is for: `prepare` checks a wish against model, budget and policy before any work is done; `Generation` runs its
choices and yields pieces. What may not enter: a dialect's words or shapes.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from types import TracebackType

import msgspec

from engine import EngineUnavailable
from engine.messages import AdapterRef, Finish, Generate, Mark, MarkReport, Output, Sampling
from engine.stops import StopScanner
from grammar.errors import GrammarError
from schemas.base import FormworkRequest
from service.calling import MessageForm, MessageReader
from service.compiling import CompiledConstraint
from service.constraints import Constraint, ConstraintKind
from service.errors import InvalidBody, NotEnoughBudget, Overloaded, TooManyTokens
from service.evidence import Texts
from service.house import House
from service.reasoning import LimitedThought, Thought
from service.refusals import PREFIX, RefusalReader
from service.text import Piece, TextStream
from service.tools import Toolbox, named

_QUEUED_PIECES = 256  # a slow reader holds so many, then its pump waits


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What one prompt is to become, in our words. `sampling.max_tokens` is 0 where the client gave none.

    `constraint` is what all of the output is under; `answer` what its text is, where that is only a part of it.
    """

    prompt: Sequence[int]
    sampling: Sampling
    constraint: Constraint | None = None
    n: int = 1
    watermark: bool | None = None
    options: FormworkRequest = field(default_factory=FormworkRequest)
    tenant: str = ""
    keep_stop: bool = False
    prompt_param: str = "messages"
    budget_param: str = "max_tokens"
    answer: Constraint | None = None
    form: MessageForm | None = None  # the output is a message with parts
    texts: Texts | None = None  # what a value may be quoted from
    characters: int = 0  # of what was sent, as TGI counts
    toolbox: Toolbox | None = None
    adapter: AdapterRef | None = None
    limited: Thought | None = None  # reasoning with a limit of its own, before all of that

    @property
    def said(self) -> Constraint | None:
        """What the text is under."""
        return self.constraint if self.form is None else self.answer

    @property
    def says_json(self) -> bool:
        return self.said is not None and self.said.kind is ConstraintKind.JSON_SCHEMA


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A wish that can be served."""

    id: str
    wish: Wish
    sampling: Sampling
    compiled: CompiledConstraint | None
    mark: Mark | None
    unmarked: str | None
    arrived: float
    ready: float = 0.0  # when all was checked and compiled

    @property
    def least(self) -> int:
        """The tokens that the answer cannot do without; 0 for free text."""
        return self.compiled.least_budget if self.compiled else 0

    @property
    def seed(self) -> int:
        return self.sampling.seed


async def prepare(house: House, wish: Wish, prefix: str) -> Prepared:
    """Compiles the constraint and checks budget, context and policy; raises what the client is told."""
    arrived = time.monotonic()
    _check_size(house, wish)
    _check_time(house, wish)
    if wish.options.jump and wish.constraint is None and wish.toolbox is None:
        raise InvalidBody("nothing is forced without a constraint", param="formwork.jump")
    mark, unmarked = house.marker.mark(
        wish.watermark, greedy=wish.sampling.temperature == 0, tenant=wish.tenant or None
    )
    compiled = await _compiled(house, wish, wish.constraint) if wish.constraint else None
    sampling = _budgeted(house, wish, _least(house, wish, compiled))
    house.metrics.validation.observe(time.monotonic() - arrived)
    return Prepared(
        id=f"{prefix}{secrets.token_hex(12)}",
        wish=wish,
        sampling=sampling,
        compiled=compiled,
        mark=mark,
        unmarked=unmarked,
        arrived=arrived,
        ready=time.monotonic(),
    )


async def _compiled(house: House, wish: Wish, constraint: Constraint) -> CompiledConstraint:
    try:
        return await house.compiler.compile(constraint, wish.tenant)
    except GrammarError as error:
        told = named(error, wish.toolbox, wish.answer) if wish.form is not None else error
        said = wish.said
        if said is None or not said.refusal or told.__dict__.get("param") != said.param:
            raise told from None
        pointer = told.pointer.removeprefix("#").removeprefix(PREFIX)
        inner = type(told)(told.message, pointer=pointer, keyword=told.keyword, reason=told.reason)
        inner.__dict__["param"] = said.param
        raise inner from None


def _least(house: House, wish: Wish, compiled: CompiledConstraint | None) -> int:
    """The smallest budget that can be served, with what is written around limited reasoning."""
    least = compiled.least_budget if compiled else 0
    if wish.limited is None or not least:
        return least
    return least + sum(len(tokens) for tokens in wish.limited.frame(house.tokenizer))


def fresh_seed() -> int:
    """A seed for a request that names none; it is told in the response, and a double in JSON holds it exactly."""
    return secrets.randbits(53)


def _check_size(house: House, wish: Wish) -> None:
    if not wish.prompt:
        raise InvalidBody("the prompt is empty", param="prompt")
    settings, sampling = house.settings, wish.sampling
    if len(sampling.stop) > settings.max_stop_sequences:
        most = settings.max_stop_sequences
        raise InvalidBody(f"`stop` supports up to {most} stop sequences. Given: {len(sampling.stop)}", param="stop")
    if sampling.top_logprobs > settings.max_top_n_tokens:
        raise InvalidBody(f"at most {settings.max_top_n_tokens} alternatives are told", param="top_logprobs")
    if (sampling.prompt_logprobs or 0) > settings.max_top_n_tokens:
        raise InvalidBody(f"at most {settings.max_top_n_tokens} alternatives are told", param="prompt_logprobs")
    if settings.max_input_tokens and len(wish.prompt) > settings.max_input_tokens:
        raise TooManyTokens(
            f"`inputs` must have less than {settings.max_input_tokens + 1} tokens. Given: {len(wish.prompt)}",
            param=wish.prompt_param,
            facts={"prompt_tokens": len(wish.prompt), "limit": settings.max_input_tokens},
        )
    if wish.n > house.settings.max_n:
        raise InvalidBody(f"at most {house.settings.max_n} choices are served at once, not {wish.n}", param="n")
    width = house.engine.info.vocab_size
    if bad := next((token for token in wish.prompt if token >= width), None):
        raise InvalidBody(f"token id {bad} is outside the vocabulary of {width}", param=wish.prompt_param)
    if bad := next((token for token in wish.sampling.logit_bias if not 0 <= token < width), None):
        raise InvalidBody(f"token id {bad} is outside the vocabulary of {width}", param="logit_bias")


def _check_time(house: House, wish: Wish) -> None:
    """Refuses what cannot end before its deadline: it would take another's place and be thrown away."""
    if (deadline_s := wish.options.deadline_s) is None:
        return
    stats = house.engine.stats
    budget = wish.sampling.max_tokens or house.context_length
    needed_s = house.pace.expected_s(budget, stats.queue_s_p50, stats.waiting)
    if needed_s > deadline_s:
        house.gate.refuse()
        told = f"this would take about {needed_s:.0f} s now, and its deadline is {deadline_s:g} s"
        raise Overloaded(told, retry_after_s=house.retry_after_s())


def _budgeted(house: House, wish: Wish, least: int) -> Sampling:
    """Sampling with a budget that fits the context and holds the shortest output."""
    limit = house.context_length
    room = limit - len(wish.prompt)
    asked = wish.sampling.max_tokens
    if room < 1:
        raise TooManyTokens(
            f"the prompt has {len(wish.prompt)} tokens; prompt and output together may have {limit}",
            param=wish.prompt_param,
            facts={"prompt_tokens": len(wish.prompt), "limit": limit},
        )
    budget = asked or room
    if min(budget, room) < least:
        raise NotEnoughBudget(
            f"{min(budget, room)} tokens cannot hold any output that satisfies the constraint; "
            f"the least budget is {least}",
            param=wish.budget_param,
            facts={"least_budget": least, "budget": min(budget, room)},
        )
    if asked > room:
        budget_name = wish.budget_param.rsplit(".", 1)[-1]
        raise TooManyTokens(
            f"`inputs` tokens + `{budget_name}` must be <= {limit}. "
            f"Given: {len(wish.prompt)} `inputs` tokens and {asked} `{budget_name}`",
            param=wish.budget_param,
            facts={"prompt_tokens": len(wish.prompt), "limit": limit},
        )
    return msgspec.structs.replace(wish.sampling, max_tokens=budget)


def seed_of(seed: int, index: int) -> int:
    """Choices of one request differ; the first repeats a request for one."""
    return (seed + index * 0x9E3779B97F4A7C15) % 2**64


@dataclass(slots=True)
class Summary:
    """What a finished request is told about, and the metrics count."""

    prompt_tokens: int
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    finishes: dict[int, Finish] = field(default_factory=dict)
    first_token_s: float | None = None
    pieces: dict[int, list[Piece]] | None = None  # each choice's, where their values are told at the end

    def add(self, piece: Piece, arrived: float) -> None:
        self.completion_tokens += len(piece.tokens)
        if piece.reasoning is not None:
            self.reasoning_tokens += len(piece.tokens)
        if piece.tokens and self.first_token_s is None:
            self.first_token_s = time.monotonic() - arrived
        if self.pieces is not None:
            self.pieces.setdefault(piece.index, []).append(piece)
        if piece.finish is not None:
            self.finishes[piece.index] = piece.finish
            self.cached_tokens = max(self.cached_tokens, piece.finish.cached_tokens)


class Generation:
    """The running choices of one prepared wish; an async context whose exit aborts what still runs."""

    def __init__(self, house: House, prepared: Prepared) -> None:
        self.prepared = prepared
        wish = prepared.wish
        has_values = wish.says_json or wish.toolbox is not None
        self.summary = Summary(prompt_tokens=len(wish.prompt), pieces={} if has_values else None)
        self._house = house
        self._queue: asyncio.Queue[Piece | Exception] = asyncio.Queue(_QUEUED_PIECES)
        self._pumps: list[asyncio.Task[None]] = []
        self._left = prepared.wish.n

    async def __aenter__(self) -> Generation:
        self._pumps = [asyncio.create_task(self._pump(index)) for index in range(self.prepared.wish.n)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def next(self, timeout_s: float | None = None) -> Piece | None:
        """The next piece of any choice; None when all have ended. Raises TimeoutError, or what a choice failed with."""
        if self._left == 0:
            return None
        async with asyncio.timeout(timeout_s):
            item = await self._queue.get()
        if isinstance(item, Exception):
            raise item
        self.summary.add(item, self.prepared.arrived)
        if self.prepared.compiled is not None:
            for token in item.tokens:
                self._house.metrics.legal_mass.observe(token.legal_mass)
        if item.finish is not None:
            self._left -= 1
        return item

    async def _pump(self, index: int) -> None:
        try:
            said = self.prepared.wish.said
            reader = RefusalReader() if said is not None and said.refusal else None
            async with aclosing(choice(self._house, self.prepared, index)) as pieces:
                async for piece in pieces:
                    for each in reader.feed(piece) if reader is not None else (piece,):
                        await self._queue.put(each)
        except Exception as error:  # handed to the reader, which tells the client
            await self._queue.put(error)


async def beats(generation: Generation, quiet_s: float) -> AsyncGenerator[Piece | None, None]:
    """The pieces as they come; None whenever nothing came for `quiet_s`."""
    while True:
        try:
            piece = await generation.next(quiet_s)
        except TimeoutError:
            yield None
            continue
        if piece is None:
            return
        yield piece


async def in_turn(generations: Sequence[Generation], quiet_s: float) -> AsyncGenerator[tuple[int, Piece] | None, None]:
    """The pieces of several generations as they come, each with its generation's place; None as `beats` has it."""
    awaited = {asyncio.create_task(each.next()): place for place, each in enumerate(generations)}
    try:
        while awaited:
            done, _ = await asyncio.wait(awaited, timeout=quiet_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                yield None
            for task in done:
                place = awaited.pop(task)
                piece = task.result()
                if piece is not None:
                    awaited[asyncio.create_task(generations[place].next())] = place
                    yield place, piece
    finally:
        for task in awaited:
            task.cancel()
        await asyncio.gather(*awaited, return_exceptions=True)


async def choice(house: House, prepared: Prepared, index: int) -> AsyncGenerator[Piece, None]:
    """The pieces of one choice."""
    wish, compiled = prepared.wish, prepared.compiled
    request = Generate(
        request_id=f"{prepared.id}-{index}",
        prompt=list(wish.prompt),
        sampling=msgspec.structs.replace(prepared.sampling, seed=seed_of(prepared.seed, index)),
        grammar=compiled.plan.fingerprint if compiled else None,
        mark=prepared.mark,
        tenant=wish.tenant,
        priority=wish.options.priority,
        deadline_s=wish.options.deadline_s,
        adapter=wish.adapter,
        jump=wish.options.jump,
    )
    if wish.limited is None:
        parts = _answer(house, prepared, request, index)
    else:
        thought = LimitedThought(house.engine, house.tokenizer, request, wish.limited, max(1, prepared.least))
        parts = _after_thought(house, prepared, thought, index)
    async with aclosing(parts):
        async for piece in parts:
            yield _honest(piece, prepared)


async def _answer(house: House, prepared: Prepared, request: Generate, index: int) -> AsyncGenerator[Piece, None]:
    """The pieces of one engine request."""
    compiled = prepared.compiled
    read = _reader(house, prepared, index)
    outputs = house.engine.generate(request, compiled.plan if compiled else None)
    async with aclosing(outputs):
        async for output in outputs:
            for piece in read(output):
                yield piece


def _reader(house: House, prepared: Prepared, index: int) -> Callable[[Output], Sequence[Piece]]:
    """What turns the choice's outputs into pieces."""
    wish, stops = prepared.wish, prepared.sampling.stop
    if wish.form is not None:
        return MessageReader(index, wish.form, house.tokenizer, () if wish.keep_stop else stops).feed
    keep_stop = wish.keep_stop or prepared.compiled is not None
    stream = TextStream(index, house.tokenizer.token_bytes, StopScanner(stops), keep_stop=keep_stop)
    return lambda output: (stream.feed(output),)


async def _after_thought(
    house: House, prepared: Prepared, thought: LimitedThought, index: int
) -> AsyncGenerator[Piece, None]:
    """Limited reasoning, and the answer behind it."""
    async with aclosing(thought.pieces(index)) as parts:
        async for piece in parts:
            yield piece
    if thought.answer is None:
        return
    async with aclosing(_answer(house, prepared, thought.answer, index)) as parts:
        async for piece in parts:
            yield replace(piece, finish=thought.joined(piece.finish)) if piece.finish is not None else piece


def _honest(piece: Piece, prepared: Prepared) -> Piece:
    """The finish with the service's own reason where no mark was asked for."""
    if piece.finish is None or prepared.unmarked is None:
        return piece
    report = MarkReport(applied=False, reason=prepared.unmarked)
    return replace(piece, finish=msgspec.structs.replace(piece.finish, mark=report))


def aborted() -> EngineUnavailable:
    """What a client is told whose request the closing server ended."""
    return EngineUnavailable("the server closed before this request was finished")
