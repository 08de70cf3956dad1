"""Reasoning before an answer: whether a request's choices begin with it, and ending it at a limit of its own.

What it is for: `thought_of`, and `limited`, the reasoning of a request that bounds it. What may not enter: how a family
marks it (service.families), what comes after it.

The idea: reasoning is a part of the message that one grammar holds (service.tools) or that the model writes by itself.
Only a limit (`thinking_token_budget`) needs more: nothing in a grammar counts tokens, so the reasoning is then drawn by
a request of its own, ended by the service if it does not end, and the answer goes on behind it. Pages are shared, so
that costs no prefill; what the service writes counts against the budget as if the model had written it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import msgspec

from engine import Engine
from engine.finishes import joined
from engine.messages import Finish, FinishReason, Generate, Token
from engine.stops import StopScanner
from engine.tokenizer import Tokenizer
from grammar.rules.families import Reasoning
from schemas.chat import ChatRequest
from service.families import ThoughtForm
from service.text import Piece, TextStream

_SWITCHES = ("enable_thinking", "thinking")  # what chat templates call the wish not to reason
_TAIL = 24  # tokens of the prompt in which the template may have opened or closed the reasoning
_ANSWER_SEED = 0xD1B54A32D192ED03


@dataclass(frozen=True, slots=True)
class Thought:
    """How this request reasons; `opened`: the template has written the opening already."""

    form: ThoughtForm
    opened: bool
    limit: int | None = None

    @property
    def reasoning(self) -> Reasoning:
        """As the grammar of a message knows it."""
        return Reasoning("" if self.opened else self.form.opening, self.form.closing, self.form.gap)

    def frame(self, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
        """The tokens that the service writes before and after limited reasoning."""
        opening = "" if self.opened else self.form.opening
        return (
            tokenizer.encode(opening, special=True) if opening else [],
            tokenizer.encode(self.form.closing + self.form.gap, special=True),
        )


def thought_of(
    form: ThoughtForm | None, body: ChatRequest, prompt: Sequence[int], tokenizer: Tokenizer
) -> Thought | None:
    """Whether the choices begin with reasoning."""
    if form is None:
        return None
    tail = "".join(tokenizer.token_text(token) for token in prompt[-_TAIL:]).rstrip()
    if form.closing in tail and form.name != "openai":  # the template says that there is none
        return None
    switches = body.chat_template_kwargs or {}
    if body.reasoning_effort == "none" or any(switches.get(name) is False for name in _SWITCHES):
        return None
    return Thought(form, tail.endswith(form.opening), body.thinking_token_budget)


@dataclass(slots=True)
class LimitedThought:
    """Reasoning under a limit: `pieces` tells it; then `answer` is the request that goes on behind it, if any does."""

    engine: Engine
    tokenizer: Tokenizer
    request: Generate
    thought: Thought
    reserve: int  # tokens that the answer cannot do without
    answer: Generate | None = None
    finish: Finish | None = None
    cut: bool = False  # the service ended the reasoning

    async def pieces(self, index: int) -> AsyncGenerator[Piece, None]:
        """The reasoning; a piece has a finish only if the choice ended in it, at a stop string."""
        opening, closing = self.thought.frame(self.tokenizer)
        sampling, prompt = self.request.sampling, [*self.request.prompt, *opening]
        room = sampling.max_tokens - len(opening) - len(closing) - self.reserve
        limit = min(room, self.thought.limit if self.thought.limit is not None else room)
        emitted: list[Token] = []
        if limit > 0:
            async with aclosing(self._think(index, prompt, limit, emitted)) as parts:
                async for piece in parts:
                    yield piece
                    if piece.finish is not None:
                        return
        spent = len(opening) + len(emitted) + len(closing)
        self.answer = msgspec.structs.replace(
            self.request,
            request_id=f"{self.request.request_id}-a",
            prompt=[*prompt, *self._said(emitted), *closing],
            sampling=msgspec.structs.replace(
                sampling, max_tokens=max(1, sampling.max_tokens - spent), seed=(sampling.seed + _ANSWER_SEED) % 2**64
            ),
        )

    async def _think(
        self, index: int, prompt: list[int], limit: int, emitted: list[Token]
    ) -> AsyncGenerator[Piece, None]:
        end = self.thought.form.closing
        first = self.tokenizer.encode(end, special=True)[0]
        special = first in self.tokenizer.special_ids
        own = self.request.sampling
        sampling = msgspec.structs.replace(
            own,
            max_tokens=limit,
            stop=own.stop if special else (*own.stop, end.encode()),
            stop_token_ids=(*own.stop_token_ids, first) if special else own.stop_token_ids,
        )
        request = msgspec.structs.replace(self.request, prompt=prompt, sampling=sampling, grammar=None)
        stream = TextStream(index, self.tokenizer.token_bytes, StopScanner(sampling.stop))
        async with aclosing(self.engine.generate(request, None)) as outputs:
            async for output in outputs:
                emitted += output.tokens
                piece = stream.feed(output)
                self.finish = output.finish or self.finish
                over = self._is_over(output.finish, end.encode() if not special else first)
                yield replace(piece, text="", shown=(), reasoning=piece.text, finish=output.finish if over else None)

    def _is_over(self, finish: Finish | None, closing: bytes | int) -> bool:
        """Whether the whole choice ended in its reasoning."""
        if finish is None:
            return False
        self.cut = finish.reason is FinishReason.LENGTH
        return finish.reason is FinishReason.ABORTED or (finish.reason is FinishReason.STOP and finish.stop != closing)

    def _said(self, emitted: Sequence[Token]) -> list[int]:
        """What was thought, without what ended it, which is written anew."""
        ends = {*self.tokenizer.eos_token_ids, self.finish.stop if self.finish else None}
        tokens = [token.token_id for token in emitted if token.token_id not in ends]
        stop = self.finish.stop if self.finish is not None else None
        if not isinstance(stop, bytes):
            return tokens
        data = b"".join(self.tokenizer.token_bytes(token) for token in tokens)
        kept, size = data[: data.rfind(stop)], 0
        for place, token in enumerate(tokens):
            size += len(self.tokenizer.token_bytes(token))
            if size > len(kept):  # this token reaches over the mark: what it said before that is spelled anew
                start = size - len(self.tokenizer.token_bytes(token))
                return [*tokens[:place], *self.tokenizer.encode(kept[start:].decode(errors="replace"), special=False)]
        return tokens

    def joined(self, finish: Finish) -> Finish:
        """The whole choice's end, from its two parts'."""
        first = self.finish
        if first is None:
            return msgspec.structs.replace(finish, closed_by_budget=True)
        mark = finish.mark if finish.mark.applied or not first.mark.applied else first.mark
        return msgspec.structs.replace(
            joined(first, finish),
            closed_by_budget=self.cut or finish.closed_by_budget,
            mark=msgspec.structs.replace(mark, eligible=finish.mark.eligible + first.mark.eligible),
            cached_tokens=first.cached_tokens,
        )
