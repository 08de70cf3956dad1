"""One choice as a chain of engine requests, each going on where the last one ended.

What it is for: reasoning before an answer, free text before a call, one call after another: parts under different rules
in one output. What may not enter: which parts there are (service.reasoning, service.calling).

The idea: pages are shared, so going on costs no prefill. What the service writes between the parts (`append`) counts
against the token budget as if the model had written it, so that prompt and output always fit the context.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import msgspec

from engine import Engine
from engine.messages import Finish, FinishReason, Generate, Guessed, MarkReport, Output, Sampling, Token
from engine.stops import StopScanner
from engine.tokenizer import Tokenizer
from service.compiling import CompiledConstraint
from service.text import Piece, TextStream

_PHASE_SEED = 0xD1B54A32D192ED03


@dataclass(frozen=True, slots=True)
class Mark:
    """A spelling that ends a part of free text: by its bytes, or by its id where it is one special token."""

    text: str
    token_id: int | None

    def is_stop(self, stop: bytes | int | None) -> bool:
        return stop is not None and stop in {self.text.encode(), self.token_id}


@dataclass(slots=True)
class Chain:
    """What is known between two parts; `request` is the choice as a request for free text."""

    engine: Engine
    tokenizer: Tokenizer
    request: Generate
    index: int
    budget: int
    prompt: list[int] = field(default_factory=list)
    phases: int = 0
    ends: list[Finish] = field(default_factory=list)
    cut: bool = False  # the service ended a part because the rest would not have fitted

    @classmethod
    def begin(cls, engine: Engine, tokenizer: Tokenizer, request: Generate, index: int) -> Chain:
        return cls(engine, tokenizer, request, index, request.sampling.max_tokens, list(request.prompt))

    def mark(self, text: str) -> Mark:
        """How this tokenizer says `text`."""
        return mark_of(self.tokenizer, text)

    def size(self, text: str) -> int:
        """How many tokens of the budget `append(text)` would take."""
        return len(self.tokenizer.encode(text, special=True)) if text else 0

    def append(self, text: str) -> None:
        """Writes a part of the format, whose special spellings are special tokens."""
        if text:
            tokens = self.tokenizer.encode(text, special=True)
            self.prompt += tokens
            self.budget -= len(tokens)

    async def free(self, end: Mark | None, limit: int) -> AsyncGenerator[Piece, None]:
        """Free text until `end`, the request's own stops or `limit` tokens; then part of the prompt."""
        own = self.request.sampling
        by_bytes = end is not None and end.token_id is None
        stops = (*own.stop, end.text.encode()) if end is not None and by_bytes else own.stop
        ids = (
            (*own.stop_token_ids, end.token_id) if end is not None and end.token_id is not None else own.stop_token_ids
        )
        stream = TextStream(self.index, self.tokenizer.token_bytes, StopScanner(stops))
        sampling = msgspec.structs.replace(
            self._sampling(limit), stop=stops, stop_token_ids=ids, min_tokens=own.min_tokens
        )
        emitted: list[Token] = []
        async with aclosing(self.run(sampling, None)) as outputs:
            async for output in outputs:
                emitted += output.tokens
                yield unended(stream.feed(output))
        self._keep(emitted, stream.stops.hit.start if stream.stops.hit is not None else None)

    async def constrained(self, compiled: CompiledConstraint, limit: int | None = None) -> AsyncGenerator[Piece, None]:
        """Text under a grammar, which fits the budget (or `limit`); then part of the prompt."""
        stream = TextStream(self.index, self.tokenizer.token_bytes, StopScanner(()), keep_stop=True)
        emitted: list[Token] = []
        async with aclosing(self.run(self._sampling(self.budget if limit is None else limit), compiled)) as outputs:
            async for output in outputs:
                emitted += output.tokens
                yield unended(stream.feed(output))
        self._keep(emitted, None)

    async def run(self, sampling: Sampling, compiled: CompiledConstraint | None) -> AsyncGenerator[Output, None]:
        """One engine request at the end of what stands so far."""
        self.phases += 1
        request = msgspec.structs.replace(
            self.request,
            request_id=f"{self.request.request_id}-{self.phases}",
            prompt=list(self.prompt),
            sampling=sampling,
            grammar=compiled.plan.fingerprint if compiled else None,
        )
        async with aclosing(self.engine.generate(request, compiled.plan if compiled else None)) as outputs:
            async for output in outputs:
                self.budget -= len(output.tokens)
                if output.finish is not None:
                    self.ends.append(output.finish)
                yield output

    @property
    def last_stop(self) -> bytes | int | None:
        return self.ends[-1].stop if self.ends else None

    def finish(self, reason: FinishReason) -> Finish:
        """The whole choice's end, from its parts'."""
        if any(end.reason is FinishReason.ABORTED for end in self.ends):
            reason = FinishReason.ABORTED
        marks = [end.mark for end in self.ends]
        best = next((mark for mark in marks if mark.applied), marks[0])
        return Finish(
            reason=reason,
            stop=self.ends[-1].stop if reason is FinishReason.STOP else None,
            closed_by_budget=self.cut or any(end.closed_by_budget for end in self.ends),
            mark=MarkReport(
                applied=best.applied,
                scheme=best.scheme,
                key_id=best.key_id,
                eligible=sum(mark.eligible for mark in marks),
                reason=best.reason,
                expected_p=best.expected_p,
            ),
            forced_tokens=sum(end.forced_tokens for end in self.ends),
            queue_s=sum(end.queue_s for end in self.ends),
            prefill_s=sum(end.prefill_s for end in self.ends),
            decode_s=sum(end.decode_s for end in self.ends),
            cached_tokens=self.ends[0].cached_tokens,
            passes=sum(end.passes for end in self.ends),
            jumped_tokens=sum(end.jumped_tokens for end in self.ends),
            guessed=_together([each for end in self.ends for each in end.guessed]),
        )

    def _sampling(self, limit: int) -> Sampling:
        """The request's sampling for the next part, without what is meant for free text only."""
        seed = (self.request.sampling.seed + self.phases * _PHASE_SEED) % 2**64
        return msgspec.structs.replace(
            self.request.sampling, seed=seed, max_tokens=limit, stop=(), stop_token_ids=(), min_tokens=0
        )

    def _keep(self, emitted: Sequence[Token], end: int | None) -> None:
        """Adds what was said before byte `end` to the prompt; a token that reaches over it is spelled anew."""
        data = b""
        for token in emitted:
            spelled = self.tokenizer.token_bytes(token.token_id)
            if end is not None and len(data) + len(spelled) > end:
                rest = (data + spelled)[len(data) : end].decode(errors="replace")
                self.prompt += self.tokenizer.encode(rest, special=False) if rest else []
                return
            data += spelled
            if spelled or token.token_id not in self._ends():
                self.prompt.append(token.token_id)

    def _ends(self) -> set[int]:
        """End tokens, and the special token that ended the part: both are spelled again where they are wanted."""
        stop = self.last_stop
        return {*self.tokenizer.eos_token_ids, *((stop,) if isinstance(stop, int) else ())}


def mark_of(tokenizer: Tokenizer, text: str) -> Mark:
    """How this tokenizer says `text`."""
    tokens = tokenizer.encode(text, special=True)
    special = len(tokens) == 1 and tokens[0] in tokenizer.special_ids
    return Mark(text, tokens[0] if special else None)


def unended(piece: Piece) -> Piece:
    """The piece without its part's finish: the choice goes on or ends by itself."""
    return replace(piece, finish=None)


def _together(parts: Sequence[Guessed]) -> list[Guessed]:
    """One line a proposer."""
    return [
        Guessed(
            name,
            sum(each.proposed for each in parts if each.proposer == name),
            sum(each.accepted for each in parts if each.proposer == name),
        )
        for name in dict.fromkeys(each.proposer for each in parts)
    ]
