"""Tool calls that cannot break: the model speaks freely until it opens a call; from there only a valid call is legal.

What it is for: a `Toolbox` (which tools, must one be called, how the model's template spells a call) and the run of one
choice that may call them. What may not enter: OpenAI's shapes.

The idea: a choice is a chain of engine requests, each going on where the last one ended (pages are shared, so nothing
is computed twice): free text that stops at the opening of a call; a call under the grammar of all tools' schemas; then,
under a grammar of two words, another call or the end. Names always exist and arguments always validate.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from engine import Engine
from engine.messages import Finish, FinishReason, Generate, MarkReport, Output, Sampling, Token
from engine.stops import StopScanner
from engine.tokenizer import Tokenizer
from grammar.errors import GrammarError
from schemas.base import FormworkRequest, JsonSchema
from schemas.chat import AllowedToolsChoice, ChatRequest, NamedToolChoice, Tool
from service import constraints
from service.compiling import CompiledConstraint
from service.constraints import Constraint
from service.errors import InvalidBody
from service.text import CallPiece, Piece, TextStream

OPENING, CLOSING = "<tool_call>", "</tool_call>"
_MOST_CALLS = 32
_HEAD = re.compile(r'\{"name": "([^"]*)", "arguments": ')
_PHASE_SEED = 0xD1B54A32D192ED03


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools of a request and how they are called."""

    tools: tuple[Tool, ...]
    call: Constraint  # one call, as JSON
    more: Constraint  # after a call: another one's opening, or nothing
    must: bool
    parallel: bool
    opening: str  # what stands before a call's JSON
    closing: str


@dataclass(frozen=True, slots=True)
class CompiledToolbox:
    box: Toolbox
    call: CompiledConstraint
    more: CompiledConstraint


def toolbox_of(body: ChatRequest, template: str) -> Toolbox | None:
    """The tools that this request may call; None if it may call none."""
    if body.tool_choice not in {None, "none"} and not body.tools:
        raise InvalidBody("tool_choice needs tools", param="tool_choice")
    if not body.tools or body.tool_choice == "none":
        return None
    names = [tool.function.name for tool in body.tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidBody(f"two tools are named {twice!r}", param="tools")
    tools, must, one = _chosen(body)
    hermes = OPENING in template
    if not must and not hermes:
        raise InvalidBody(
            "this model's chat template has no form for tool calls that begin by themselves; use tool_choice: required",
            param="tool_choice",
        )
    opening, closing = (f"{OPENING}\n", f"\n{CLOSING}") if hermes else ("", "")
    return Toolbox(
        tools=tools,
        call=constraints.json_schema(call_schema(tools), FormworkRequest(), "tools"),
        more=constraints.regex(rf"(\n{OPENING})?", "tools"),
        must=must,
        parallel=hermes and not one and body.parallel_tool_calls is not False,
        opening=opening,
        closing=closing,
    )


def call_schema(tools: Sequence[Tool]) -> JsonSchema:
    """The JSON of one call: an existing name, and arguments that satisfy that tool's parameters."""
    base = "" if len(tools) == 1 else "/anyOf/{}"
    forms: list[JsonSchema] = []
    for index, tool in enumerate(tools):
        own = tool.function.parameters
        parameters = {"type": "object", "additionalProperties": False} if own is None else own
        forms.append(
            {
                "type": "object",
                "properties": {
                    "name": {"const": tool.function.name},
                    "arguments": _moved(parameters, f"{base.format(index)}/properties/arguments"),
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return forms[0] if len(forms) == 1 else {"anyOf": forms}


def named(error: GrammarError, box: Toolbox) -> GrammarError:
    """The error with the place of the tool that caused it."""
    found = re.match(r"#?(?:/anyOf/(\d+))?/properties/arguments(.*)", error.pointer)
    if found is None:
        return error
    tool = box.tools[int(found[1] or 0)].function
    message = f"tool {tool.name!r}: {error.message}"
    told = type(error)(message, pointer=found[2], keyword=error.keyword, reason=error.reason)
    told.__dict__["param"] = f"tools.{int(found[1] or 0)}.function.parameters"
    return told


def _chosen(body: ChatRequest) -> tuple[tuple[Tool, ...], bool, bool]:
    """The tools that may be called, whether one must be, and whether it is one only."""
    tools, choice = tuple(body.tools or ()), body.tool_choice
    if choice is None or choice == "auto":
        return tools, False, False
    if choice == "required":
        return tools, True, False
    if isinstance(choice, AllowedToolsChoice):
        wanted = [each.function.name for each in choice.allowed_tools.tools]
        picked = tuple(_tool(tools, name) for name in wanted)
        return picked, choice.allowed_tools.mode == "required", False
    name = choice.function.name if isinstance(choice, NamedToolChoice) else choice
    return (_tool(tools, name),), True, True


def _tool(tools: Sequence[Tool], name: str) -> Tool:
    for tool in tools:
        if tool.function.name == name:
            return tool
    known = ", ".join(tool.function.name for tool in tools)
    raise InvalidBody(f"no tool is named {name[:64]!r}; tools: {known}", param="tool_choice")


def _moved(schema: Any, base: str) -> Any:
    """The schema as part of another one: its local references point to where it now stands."""
    if isinstance(schema, dict):
        moved = {key: _moved(value, base) for key, value in schema.items()}
        reference = schema.get("$ref")
        if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
            moved["$ref"] = f"#{base}{reference[1:]}"
        return moved
    return [_moved(item, base) for item in schema] if isinstance(schema, list) else schema


# One choice


@dataclass(slots=True)
class CallRun:
    """The state of one choice between its engine requests."""

    engine: Engine
    tokenizer: Tokenizer
    request: Generate  # the choice as a request for free text
    tools: CompiledToolbox
    index: int
    budget: int
    prompt: list[int] = field(default_factory=list)
    phases: int = 0
    calls: int = 0
    ends: list[Finish] = field(default_factory=list)

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """All pieces of the choice; the last one carries the finish of the whole."""
        box = self.tools.box
        self.prompt = list(self.request.prompt)
        if not box.must:
            async with aclosing(self._talk()) as talk:
                async for piece in talk:
                    yield piece
            if not self._called():
                yield Piece(self.index, "", finish=self._finish(self.ends[-1].reason))
                return
        else:
            self._append(box.opening)
        while True:
            async with aclosing(self._call()) as call:
                async for piece in call:
                    yield piece
            self.calls += 1
            if not await self._goes_on():
                break
        yield Piece(self.index, "", finish=self._finish(FinishReason.EOS))

    async def _talk(self) -> AsyncGenerator[Piece, None]:
        """Free text up to the opening of a call, or to its end."""
        stops = (*self.request.sampling.stop, OPENING.encode())
        stream = TextStream(self.index, self.tokenizer.token_bytes, StopScanner(stops))
        emitted: list[Token] = []
        async with aclosing(self._run(self._free_sampling(stops), None)) as outputs:
            async for output in outputs:
                emitted += output.tokens
                piece = stream.feed(output)
                yield _unended(piece)
        if self._called():
            hit = stream.stops.hit
            assert hit is not None
            self._keep(emitted, hit.start)
            self._append(self.tools.box.opening)

    async def _call(self) -> AsyncGenerator[Piece, None]:
        """One call under the grammar of calls, as its arguments become known."""
        parser = CallText(self.calls)
        stream = TextStream(self.index, self.tokenizer.token_bytes, StopScanner(()), keep_stop=True)
        sampling = self._sampling(self.budget)
        emitted: list[Token] = []
        async with aclosing(self._run(sampling, self.tools.call)) as outputs:
            async for output in outputs:
                emitted += output.tokens
                piece = stream.feed(output)
                for call in parser.feed(piece.text, last=output.finish is not None):
                    yield Piece(self.index, "", call=call)
                yield Piece(self.index, "", tokens=piece.tokens)
        self.prompt += [token.token_id for token in emitted if token.token_id not in self.tokenizer.eos_token_ids]

    async def _goes_on(self) -> bool:
        """After a call: whether the model opens another one."""
        box = self.tools.box
        if not box.parallel or self.calls >= _MOST_CALLS:
            return False
        self._append(box.closing)
        opening = self.tokenizer.encode(f"\n{box.opening}", special=True)
        if self.budget < len(opening) + self.tools.more.least_budget + self.tools.call.least_budget:
            return False
        text = b""
        async with aclosing(self._run(self._sampling(len(opening) + 4), self.tools.more)) as outputs:
            async for output in outputs:
                text += b"".join(self.tokenizer.token_bytes(token.token_id) for token in output.tokens)
        if not text:
            return False
        self._append(f"\n{box.opening}")
        return True

    async def _run(self, sampling: Sampling, compiled: CompiledConstraint | None) -> AsyncGenerator[Output, None]:
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

    def _sampling(self, budget: int) -> Sampling:
        """The request's sampling for the next phase, without what is meant for free text only."""
        seed = (self.request.sampling.seed + self.phases * _PHASE_SEED) % 2**64
        return msgspec.structs.replace(
            self.request.sampling, seed=seed, max_tokens=budget, stop=(), stop_token_ids=(), min_tokens=0
        )

    def _free_sampling(self, stops: tuple[bytes, ...]) -> Sampling:
        return msgspec.structs.replace(self.request.sampling, stop=stops, max_tokens=self.budget)

    def _called(self) -> bool:
        """Whether the free text opened a call that the budget can hold."""
        opened = self.ends[-1].stop == OPENING.encode()
        return opened and self.budget >= self.tools.call.least_budget

    def _keep(self, emitted: Sequence[Token], end: int) -> None:
        """Adds the tokens before byte `end` to the prompt; a token that reaches over it is spelled anew."""
        data = b""
        for token in emitted:
            spelled = self.tokenizer.token_bytes(token.token_id)
            if len(data) + len(spelled) > end:
                self._append((data + spelled)[len(data) : end].decode(errors="replace"))
                return
            data += spelled
            self.prompt.append(token.token_id)

    def _append(self, text: str) -> None:
        if text:
            self.prompt += self.tokenizer.encode(text, special=True)

    def _finish(self, reason: FinishReason) -> Finish:
        """The whole choice's end from its parts'."""
        if any(end.reason is FinishReason.ABORTED for end in self.ends):
            reason = FinishReason.ABORTED
        if self.ends[-1].stop == OPENING.encode():  # opened a call, but the budget could not hold one
            reason = FinishReason.LENGTH
        marks = [end.mark for end in self.ends]
        best = next((mark for mark in marks if mark.applied), marks[0])
        return Finish(
            reason=reason,
            stop=self.ends[-1].stop if reason is FinishReason.STOP else None,
            closed_by_budget=any(end.closed_by_budget for end in self.ends),
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
        )


class CallText:
    """A call's JSON as it grows: the name first, then the arguments piece by piece.

    The grammar's whitespace is ours, so the head is known to the byte, and the last character closes the outer object.
    """

    def __init__(self, index: int) -> None:
        self._index = index
        self._id = f"call_{secrets.token_hex(12)}"
        self._text = ""
        self._told: int | None = None  # where the untold arguments begin

    def feed(self, text: str, *, last: bool) -> list[CallPiece]:
        self._text += text
        out: list[CallPiece] = []
        if self._told is None:
            head = _HEAD.match(self._text)
            if head is None:
                return out
            self._told = head.end()
            out.append(CallPiece(self._index, self._id, head[1], ""))
        end = len(self._text) - 1  # the outer object's brace is no argument
        if end > self._told and (last or end - self._told > 0):
            out.append(CallPiece(self._index, self._id, None, self._text[self._told : end]))
            self._told = end
        return out


def _unended(piece: Piece) -> Piece:
    """The piece without its phase's finish: the choice goes on or ends by itself."""
    return Piece(piece.index, piece.text, piece.shown, piece.tokens, piece.prompt)
