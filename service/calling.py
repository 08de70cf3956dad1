"""Tool calls that cannot break: the model speaks freely until it opens a call; from there only a valid call is legal.

What it is for: the parts of a choice that may call tools, and reading calls as they grow. What may not enter: OpenAI's
shapes; which tools there are (service.tools).

The idea: a call's name is drawn under a grammar of the existing names and its arguments under its tool's schema (or
both at once, where the family writes one JSON object), so names always exist and arguments always validate.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from engine.messages import FinishReason
from engine.tokenizer import Tokenizer
from service.chain import Chain, unended
from service.chat import CUSTOM_INPUT
from service.compiling import CompiledConstraint
from service.json_text import MemberText
from service.text import CallPiece, Piece
from service.tools import CompiledToolbox

_MOST_CALLS = 32


def least_call(tools: CompiledToolbox, tokenizer: Tokenizer, *, opened: bool = False) -> int:
    """What a call takes of the budget at least, whichever tool it is of, with what is written around it."""
    form = tools.box.form
    written = "" if opened else form.opening
    if form.split is not None:
        written += form.split if tools.word is not None else form.prefix + tools.box.tools[0].name + form.split
    return tools.least + (len(tokenizer.encode(written, special=True)) + 2 if written else 0)


@dataclass(slots=True)
class CallRun:
    """The state of a choice that may call tools."""

    chain: Chain
    tools: CompiledToolbox
    calls: int = 0

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """All pieces; the last one carries the finish of the whole choice."""
        form = self.tools.box.form
        if self.tools.box.must or form.talk:
            parts = self._calls()
        else:
            parts = self._talk() if self.tools.answer is None else self._choose(self.tools.answer)
        async with aclosing(parts):
            async for piece in parts:
                yield piece

    async def _talk(self) -> AsyncGenerator[Piece, None]:
        """Free text, and what follows if it opens a call."""
        form, chain = self.tools.box.form, self.chain
        assert form.trigger is not None
        mark = chain.mark(form.trigger)
        async with aclosing(chain.free(mark, chain.budget)) as talk:
            async for piece in talk:
                yield piece
        if not mark.is_stop(chain.last_stop):
            yield self._end(chain.ends[-1].reason)
        elif chain.budget < least_call(self.tools, chain.tokenizer):  # it opened a call that the budget cannot hold
            yield self._end(FinishReason.LENGTH)
        else:
            async with aclosing(self._calls()) as calls:
                async for piece in calls:
                    yield piece

    async def _choose(self, answer: CompiledConstraint) -> AsyncGenerator[Piece, None]:
        """A whole answer under its constraint, or the trigger of a call; the first byte says which."""
        form, chain = self.tools.box.form, self.chain
        assert form.trigger is not None
        before, text = list(chain.prompt), ""
        share = least_call(self.tools, chain.tokenizer)
        async with aclosing(chain.constrained(answer, chain.budget - share)) as pieces:
            async for piece in pieces:
                text += piece.text
                calling = text[:1] == form.trigger[0]
                yield Piece(chain.index, "", tokens=piece.tokens) if calling else piece
        if text != form.trigger:
            yield self._end(chain.ends[-1].reason)
            return
        chain.prompt = before
        async with aclosing(self._calls()) as calls:
            async for piece in calls:
                yield piece

    async def _calls(self) -> AsyncGenerator[Piece, None]:
        """One call after another."""
        self.chain.append(self.tools.box.form.opening)
        while True:
            one = self._object() if self.tools.call is not None else self._split()
            async with aclosing(one):
                async for piece in one:
                    yield piece
                    if piece.finish is not None:  # it chose to speak
                        return
            self.calls += 1
            if not await self._goes_on():
                break
        yield self._end(FinishReason.EOS)

    async def _object(self) -> AsyncGenerator[Piece, None]:
        """A call that is one JSON object."""
        assert self.tools.call is not None
        box = self.tools.box
        parser = CallText(self.calls, custom=box.custom, arguments_key=box.form.arguments_key)
        async with aclosing(self._read(self.tools.call, parser)) as pieces:
            async for piece in pieces:
                yield piece

    async def _split(self) -> AsyncGenerator[Piece, None]:
        """A bare name, then its arguments."""
        form, box = self.tools.box.form, self.tools.box
        assert form.split is not None
        word = form.prefix + box.tools[0].name
        if self.tools.word is None:
            self.chain.append(word)
        else:
            word = ""
            share = self._inner - self.tools.word.least_budget  # what any arguments need at least
            async with aclosing(self.chain.constrained(self.tools.word, self.chain.budget - share)) as pieces:
                async for piece in pieces:
                    word += piece.text
                    yield Piece(self.chain.index, "", tokens=piece.tokens)
        if form.talk is not None and word == form.talk[0]:
            async with aclosing(self._speak(form.talk[1])) as talk:
                async for piece in talk:
                    yield piece
            return
        self.chain.append(form.split)
        place = [form.prefix + tool.name for tool in box.tools].index(word)
        parser = CallText(self.calls, custom=box.custom, name=box.tools[place].name)
        async with aclosing(self._read(self.tools.arguments[place], parser)) as pieces:
            async for piece in pieces:
                yield piece

    async def _speak(self, opening: str) -> AsyncGenerator[Piece, None]:
        self.chain.append(opening)
        answer = self.tools.answer
        parts = self.chain.free(None, self.chain.budget) if answer is None else self.chain.constrained(answer)
        async with aclosing(parts) as talk:
            async for piece in talk:
                yield piece
        yield self._end(self.chain.ends[-1].reason)

    async def _read(self, compiled: CompiledConstraint, parser: CallText) -> AsyncGenerator[Piece, None]:
        """The call as its name and arguments become known; its tokens come with the parts they belong to."""
        async with aclosing(self.chain.constrained(compiled)) as pieces:
            async for piece in pieces:
                parts = parser.feed(piece.text)
                for part in parts[:-1]:
                    yield Piece(self.chain.index, "", call=part)
                last = parts[-1] if parts else CallPiece(self.calls, parser.id, None, "")
                yield replace(unended(piece), text="", call=last)

    async def _goes_on(self) -> bool:
        """After a call: whether the model opens another one."""
        form, chain = self.tools.box.form, self.chain
        if not self.tools.box.parallel or form.again is None or self.calls >= _MOST_CALLS:
            return False
        if chain.budget < chain.size(form.closing) + chain.size(form.again) + 1 + self._inner:
            return False
        chain.append(form.closing)
        mark = chain.mark(form.again.strip())
        if self.tools.more is None or mark.token_id is not None:
            return await self._opens(form.again)
        text = ""
        async with aclosing(chain.constrained(self.tools.more, chain.budget - self._inner)) as pieces:
            async for piece in pieces:
                text += piece.text
        return text == form.again

    async def _opens(self, again: str) -> bool:
        """No grammar of bytes can offer a special token: one token is drawn freely and looked at."""
        chain = self.chain
        first = chain.tokenizer.encode(again, special=True)[0]
        drawn: list[int] = []
        before = list(chain.prompt)
        async with aclosing(chain.free(None, 1)) as pieces:
            async for piece in pieces:
                drawn += [token.token_id for token in piece.tokens]
        if drawn[:1] != [first]:
            return False
        chain.prompt = before
        chain.append(again)
        return chain.budget >= self._inner

    @property
    def _inner(self) -> int:
        return least_call(self.tools, self.chain.tokenizer, opened=True)

    def _end(self, reason: FinishReason) -> Piece:
        return Piece(self.chain.index, "", finish=self.chain.finish(reason))


@dataclass(slots=True)
class CallText:
    """A call's text as it grows: the name first, then the arguments piece by piece.

    The grammar's whitespace is ours, so the head of an object is known to the byte, and its last character closes it.
    With a `name` the text is the arguments alone. A custom tool's arguments are `{"input": "…"}`, and what is told is
    the string's value.
    """

    index: int
    custom: frozenset[str] = frozenset()
    arguments_key: str = "arguments"
    name: str | None = None
    id: str = field(default_factory=lambda: f"call_{secrets.token_hex(12)}")
    _text: str = ""
    _told: int | None = None  # where the untold arguments begin
    _bare: bool = False
    _input: MemberText | None = None

    def feed(self, text: str) -> list[CallPiece]:
        """What became certain."""
        self._text += text
        out: list[CallPiece] = []
        if self._told is None and not self._begin(out):
            return out
        assert self._told is not None
        end = len(self._text) - (0 if self._bare else 1)  # the outer object's brace is no argument
        if end > self._told:
            out += self._arguments(self._text[self._told : end])
            self._told = end
        return out

    def _begin(self, out: list[CallPiece]) -> bool:
        if self.name is not None:
            self._bare, self._told = True, 0
        else:
            head = re.match(r'\{"name": ("[^"]*"), "' + self.arguments_key + '": ', self._text)
            if head is None:
                return False
            self.name, self._told = json.loads(head[1]), head.end()
        custom = self.name in self.custom
        self._input = MemberText(CUSTOM_INPUT) if custom else None
        out.append(CallPiece(self.index, self.id, self.name, "", custom))
        return True

    def _arguments(self, text: str) -> list[CallPiece]:
        told = self._input.feed(text) if self._input is not None else text
        return [CallPiece(self.index, self.id, None, told, self._input is not None)] if told else []
