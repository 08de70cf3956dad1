"""Reasoning before an answer: free text between two marks, told apart from the answer.

What it is for: whether a request reasons, and that part of its choices. What may not enter: how a family marks it
(service.families), what comes after it.

The idea: constraints begin after the reasoning, never in it, and the reasoning leaves of the budget what the rest needs
at least; if it would not end by itself, the service ends it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from engine.messages import FinishReason
from engine.tokenizer import Tokenizer
from schemas.chat import ChatRequest
from service.chain import Chain
from service.families import ThoughtForm
from service.text import Piece

_SWITCHES = ("enable_thinking", "thinking")  # what chat templates call the wish not to reason
_TAIL = 24  # tokens of the prompt in which the template may have opened or closed the reasoning


@dataclass(frozen=True, slots=True)
class Thought:
    """How this request reasons; `opened`: the template has written the opening already."""

    form: ThoughtForm
    opened: bool
    limit: int | None = None


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
    off = body.reasoning_effort == "none" or any(switches.get(name) is False for name in _SWITCHES)
    if off and form.name != "openai":  # whose answers need their channel in any case
        return None
    return Thought(form, tail.endswith(form.opening), 0 if off else body.thinking_token_budget)


async def reason(chain: Chain, thought: Thought, reserve: int) -> AsyncGenerator[Piece, None]:
    """The reasoning; afterwards the chain stands where the answer begins, with at least `reserve` tokens left.

    The last piece carries a finish if the choice ended in the reasoning: at its budget (free text only) or at a stop.
    """
    form = thought.form
    if not thought.opened:
        chain.append(form.opening)
    kept = reserve + chain.size(form.closing) + chain.size(form.after)
    limit = chain.budget - kept
    if thought.limit is not None:
        limit = min(limit, thought.limit)
    if not reserve:  # free text: reasoning may use it all
        limit = max(limit, min(1, chain.budget))
    mark = chain.mark(form.closing)
    if limit > 0:
        async with aclosing(chain.free(mark, limit)) as parts:
            async for piece in parts:
                yield replace(piece, text="", shown=(), reasoning=piece.text)
        last = chain.ends[-1]
        if last.reason is FinishReason.ABORTED or (last.reason is FinishReason.STOP and not mark.is_stop(last.stop)):
            yield Piece(chain.index, "", finish=chain.finish(last.reason))
            return
        if not reserve and chain.budget <= kept:
            yield Piece(chain.index, "", finish=chain.finish(FinishReason.LENGTH))
            return
        chain.cut = last.reason is FinishReason.LENGTH
    chain.append(form.closing)
    chain.append(form.after)
