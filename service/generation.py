"""From a dialect's wish to pieces of text: the one path that every generating route takes.

What it is for: `prepare` checks a wish against model, budget and policy before any work is done; `Generation` runs its
choices and yields pieces. What may not enter: a dialect's words or shapes.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import msgspec

from engine import EngineUnavailable
from engine.messages import AdapterRef, Finish, FinishReason, Generate, Mark, MarkReport, Output, Sampling
from engine.stops import StopScanner
from grammar.errors import GrammarError
from schemas.base import FormworkRequest
from service.calling import CallRun, least_call
from service.chain import Chain, unended
from service.compiling import CompiledConstraint
from service.constraints import Constraint
from service.errors import InvalidBody, NotEnoughBudget, TooManyTokens
from service.house import House
from service.reasoning import Thought, reason
from service.refusals import PREFIX, RefusalReader
from service.text import Piece, TextStream
from service.tools import CompiledToolbox, Toolbox, named

_QUEUED_PIECES = 256  # a slow reader holds so many, then its pump waits


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What one prompt is to become, in our words. `sampling.max_tokens` is 0 where the client gave none."""

    prompt: Sequence[int]
    sampling: Sampling
    constraint: Constraint | None = None
    n: int = 1
    watermark: bool | None = None
    options: FormworkRequest = field(default_factory=FormworkRequest)
    tenant: str = ""
    keep_stop: bool = False
    budget_param: str = "max_tokens"
    toolbox: Toolbox | None = None
    thought: Thought | None = None
    adapter: AdapterRef | None = None


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
    tools: CompiledToolbox | None = None
    reserve: int = 0  # what the answer needs of the budget after the reasoning

    @property
    def seed(self) -> int:
        return self.sampling.seed


async def prepare(house: House, wish: Wish, prefix: str) -> Prepared:
    """Compiles the constraint and checks budget, context and policy; raises what the client is told."""
    arrived = time.monotonic()
    _check_size(house, wish)
    if wish.options.jump and wish.constraint is None and wish.toolbox is None:
        raise InvalidBody("nothing is forced without a constraint", param="formwork.jump")
    mark, unmarked = house.marker.mark(
        wish.watermark, greedy=wish.sampling.temperature == 0, tenant=wish.tenant or None
    )
    compiled = await _compiled(house, wish.constraint) if wish.constraint else None
    tools = await _compiled_tools(house, wish.toolbox) if wish.toolbox else None
    least = _least(house, wish, compiled, tools)
    sampling = _budgeted(house, wish, least)
    house.metrics.validation.observe(time.monotonic() - arrived)
    return Prepared(
        id=f"{prefix}{secrets.token_hex(12)}",
        wish=wish,
        sampling=sampling,
        compiled=compiled,
        mark=mark,
        unmarked=unmarked,
        arrived=arrived,
        tools=tools,
        reserve=_reserve(house, compiled, tools),
    )


async def _compiled(house: House, constraint: Constraint) -> CompiledConstraint:
    try:
        return await house.compiler.compile(constraint)
    except GrammarError as error:
        if not constraint.refusal:
            raise
        pointer = error.pointer.removeprefix("#").removeprefix(PREFIX)
        told = type(error)(error.message, pointer=pointer, keyword=error.keyword, reason=error.reason)
        told.__dict__["param"] = constraint.param
        raise told from None


async def _compiled_tools(house: House, box: Toolbox) -> CompiledToolbox:
    async def compiled(constraint: Constraint | None) -> CompiledConstraint | None:
        return await house.compiler.compile(constraint) if constraint is not None else None

    try:
        call = await compiled(box.call)
        arguments = tuple([await house.compiler.compile(each) for each in box.arguments])
    except GrammarError as error:
        raise named(error, box) from None
    word, more, answer = [await compiled(each) for each in (box.word, box.more, box.answer)]
    return CompiledToolbox(box, call, word, arguments, more, answer)


def _reserve(house: House, compiled: CompiledConstraint | None, tools: CompiledToolbox | None) -> int:
    """The tokens that the answer cannot do without; 0 for free text."""
    if tools is not None:
        if tools.box.must or tools.answer is not None:
            return least_call(tools, house.tokenizer) + (tools.answer.least_budget if tools.answer else 0)
        return 0
    return compiled.least_budget if compiled else 0


def _least(house: House, wish: Wish, compiled: CompiledConstraint | None, tools: CompiledToolbox | None) -> int:
    """The smallest budget that can be served, with the marks around the reasoning."""
    least = _reserve(house, compiled, tools)
    if wish.thought is None or not least:
        return least
    form = wish.thought.form
    around = (form.opening, form.closing, form.after, form.answer)
    return least + sum(len(house.tokenizer.encode(text, special=True)) for text in around if text)


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
    if settings.max_input_tokens and len(wish.prompt) > settings.max_input_tokens:
        raise TooManyTokens(
            f"`inputs` must have at most {settings.max_input_tokens} tokens. Given: {len(wish.prompt)}",
            param="messages" if wish.budget_param != "parameters.max_new_tokens" else "inputs",
            facts={"prompt_tokens": len(wish.prompt), "limit": settings.max_input_tokens},
        )
    if wish.n > house.settings.max_n:
        raise InvalidBody(f"at most {house.settings.max_n} choices are served at once, not {wish.n}", param="n")
    width = house.engine.info.vocab_size
    if bad := next((token for token in wish.prompt if token >= width), None):
        raise InvalidBody(f"token id {bad} is outside the vocabulary of {width}", param="prompt")
    if bad := next((token for token in wish.sampling.logit_bias if not 0 <= token < width), None):
        raise InvalidBody(f"token id {bad} is outside the vocabulary of {width}", param="logit_bias")


def _budgeted(house: House, wish: Wish, least: int) -> Sampling:
    """Sampling with a budget that fits the context and holds the shortest output."""
    limit = house.context_length
    room = limit - len(wish.prompt)
    asked = wish.sampling.max_tokens
    if room < 1:
        raise TooManyTokens(
            f"the prompt has {len(wish.prompt)} tokens; prompt and output together may have {limit}",
            param="messages" if wish.budget_param != "parameters.max_new_tokens" else "inputs",
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
        raise TooManyTokens(
            f"`inputs` tokens + `{wish.budget_param.rsplit('.', 1)[-1]}` must be <= {limit}. "
            f"Given: {len(wish.prompt)} `inputs` tokens and {asked}",
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

    def add(self, piece: Piece, arrived: float) -> None:
        self.completion_tokens += len(piece.tokens)
        if piece.reasoning is not None:
            self.reasoning_tokens += len(piece.tokens)
        if piece.tokens and self.first_token_s is None:
            self.first_token_s = time.monotonic() - arrived
        if piece.finish is not None:
            self.finishes[piece.index] = piece.finish
            self.cached_tokens = max(self.cached_tokens, piece.finish.cached_tokens)


class Generation:
    """The running choices of one prepared wish; an async context whose exit aborts what still runs."""

    def __init__(self, house: House, prepared: Prepared) -> None:
        self.prepared = prepared
        self.summary = Summary(prompt_tokens=len(prepared.wish.prompt))
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
        if item.finish is not None:
            self._left -= 1
        return item

    async def _pump(self, index: int) -> None:
        try:
            constraint = self.prepared.wish.constraint
            reader = RefusalReader() if constraint is not None and constraint.refusal else None
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


async def choice(house: House, prepared: Prepared, index: int) -> AsyncGenerator[Piece, None]:
    """The pieces of one choice."""
    wish, compiled = prepared.wish, prepared.compiled
    sampling = msgspec.structs.replace(prepared.sampling, seed=seed_of(prepared.seed, index))
    request = Generate(
        request_id=f"{prepared.id}-{index}",
        prompt=list(wish.prompt),
        sampling=sampling,
        grammar=compiled.plan.fingerprint if compiled else None,
        mark=prepared.mark,
        tenant=wish.tenant,
        priority=wish.options.priority,
        deadline_s=wish.options.deadline_s,
        adapter=wish.adapter,
        jump=wish.options.jump,
    )
    if prepared.tools is not None or wish.thought is not None:
        parts = _in_parts(prepared, Chain.begin(house.engine, house.tokenizer, request, index))
        async with aclosing(parts):
            async for piece in parts:
                yield piece
        return
    keep_stop = wish.keep_stop or compiled is not None
    text = TextStream(index, house.tokenizer.token_bytes, StopScanner(sampling.stop), keep_stop=keep_stop)
    outputs = house.engine.generate(request, compiled.plan if compiled else None)
    async with aclosing(outputs):
        async for output in outputs:
            yield text.feed(_honest(output, prepared))


async def _in_parts(prepared: Prepared, chain: Chain) -> AsyncGenerator[Piece, None]:
    """A choice that reasons, or may call tools: one part after the other."""
    thought = prepared.wish.thought
    if thought is not None:
        async with aclosing(reason(chain, thought, prepared.reserve)) as parts:
            async for piece in parts:
                yield _honest_piece(piece, prepared)
                if piece.finish is not None:
                    return
    answer = CallRun(chain, prepared.tools).pieces() if prepared.tools is not None else _answer(prepared, chain)
    async with aclosing(answer):
        async for piece in answer:
            yield _honest_piece(piece, prepared)


async def _answer(prepared: Prepared, chain: Chain) -> AsyncGenerator[Piece, None]:
    """The answer after the reasoning."""
    thought, compiled = prepared.wish.thought, prepared.compiled
    assert thought is not None
    chain.append(thought.form.answer)
    parts = chain.constrained(compiled) if compiled is not None else chain.free(None, chain.budget)
    async with aclosing(parts):
        async for piece in parts:
            yield unended(piece)
    yield Piece(chain.index, "", finish=chain.finish(chain.ends[-1].reason))


def _honest_piece(piece: Piece, prepared: Prepared) -> Piece:
    if piece.finish is None or prepared.unmarked is None:
        return piece
    report = MarkReport(applied=False, reason=prepared.unmarked)
    return replace(piece, finish=msgspec.structs.replace(piece.finish, mark=report))


def _honest(output: Output, prepared: Prepared) -> Output:
    """The finish with the service's own reason where no mark was asked for."""
    finish = output.finish
    if finish is None or prepared.unmarked is None:
        return output
    report = MarkReport(applied=False, reason=prepared.unmarked)
    return msgspec.structs.replace(output, finish=msgspec.structs.replace(finish, mark=report))


@dataclass(slots=True)
class Told:
    """A whole choice, for answers that are not streamed."""

    text: str = ""
    pieces: list[Piece] = field(default_factory=list)

    @property
    def finish(self) -> Finish:
        finish = self.pieces[-1].finish
        assert finish is not None
        return finish


async def gather(generation: Generation) -> list[Told]:
    """All choices, complete."""
    told = [Told() for _ in range(generation.prepared.wish.n)]
    async with generation:
        while (piece := await generation.next()) is not None:
            told[piece.index].pieces.append(piece)
            if piece.finish is not None and piece.finish.reason is FinishReason.ABORTED:
                raise aborted()
    for each in told:
        each.text = "".join(piece.text for piece in each.pieces)
    return told


def aborted() -> EngineUnavailable:
    """What a client is told whose request the closing server ended."""
    return EngineUnavailable("the server closed before this request was finished")


def count(house: House, generation: Generation) -> None:
    """Tells the metrics about a finished request."""
    summary, metrics, prepared = generation.summary, house.metrics, generation.prepared
    metrics.successes.add()
    metrics.input_length.observe(summary.prompt_tokens)
    metrics.generated.observe(summary.completion_tokens)
    metrics.max_new_tokens.observe(prepared.sampling.max_tokens)
    if summary.first_token_s is not None:
        metrics.first_token.observe(summary.first_token_s)
    for finish in summary.finishes.values():
        metrics.queue.observe(finish.queue_s)
        metrics.inference.observe(finish.prefill_s + finish.decode_s)
        metrics.forced.add(finish.forced_tokens)
        metrics.skipped.observe(sum(each.accepted for each in finish.guessed))
        for each in finish.guessed:
            metrics.guesses.add(each.proposed, proposer=each.proposer)
            metrics.accepted.add(each.accepted, proposer=each.proposer)
        metrics.closed.add(finish.closed_by_budget)
        metrics.marked.add(finish.mark.eligible if finish.mark.applied else 0)
        metrics.constrained.add(prepared.compiled is not None)
    house.tracing.generated(
        {
            "gen_ai.response.id": prepared.id,
            "gen_ai.usage.input_tokens": summary.prompt_tokens,
            "gen_ai.usage.output_tokens": summary.completion_tokens,
            "formwork.constrained": prepared.compiled is not None,
        },
        [(finish.queue_s, finish.prefill_s, finish.decode_s) for finish in summary.finishes.values()],
    )
    decode_s = max((finish.decode_s for finish in summary.finishes.values()), default=0.0)
    if summary.completion_tokens:
        metrics.per_token.observe(decode_s / summary.completion_tokens)


def watermark_block(finishes: Sequence[Finish]) -> dict[str, Any]:
    """The watermark over all choices; the first one's words where they agree on nothing more."""
    reports = [finish.mark for finish in finishes]
    first = next((report for report in reports if report.applied), reports[0])
    return {
        "applied": first.applied,
        "scheme": first.scheme,
        "key_id": first.key_id,
        "eligible": sum(report.eligible for report in reports),
        "reason": first.reason,
        "expected_p": first.expected_p,
    }
