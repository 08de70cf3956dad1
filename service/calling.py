"""One message as it grows: its reasoning, its text and its tool calls told apart.

What it is for: `MessageForm`, how a request's messages are written, and `MessageReader`, tokens in, pieces out. What
may not enter: what is legal (the grammar sees to it), OpenAI's shapes.

The idea: a grammar made the message (or, where nothing but reasoning is told apart, the model's own habit), so reading
it is looking for the next of a few fixed texts. Special tokens are read as the grammar spells them, with a byte that no
text has, so a text that merely looks like a marker is none. Bytes are held only while they may still become one.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from engine.messages import Finish, FinishReason, Output, PromptToken, Token
from engine.stops import StopScanner
from engine.tokenizer import Tokenizer
from grammar.rules.families import Reasoning, ToolFormat, marked
from grammar.rules.offers import CUSTOM_INPUT
from grammar.vocabulary import special_spelling
from service.json_text import JsonExtent, MemberText
from service.text import CallPiece, Piece, Shown, incomplete_suffix

_SPECIAL = special_spelling("")[0]


@dataclass(frozen=True, slots=True)
class MessageForm:
    """How one request's messages are written, as bytes; `first` and `later` are what precedes a call's arguments."""

    thought: tuple[bytes, bytes, bytes] | None = None  # what opens it (nothing: the prompt has), closes it, follows it
    saying: bytes = b""
    trigger: bytes = b""
    first: Mapping[bytes, str] = field(default_factory=dict)
    later: Mapping[bytes, str] = field(default_factory=dict)
    custom: frozenset[str] = frozenset()
    free: bool = True  # text is under no constraint of its own: a stop string cuts it, a budget may
    guarded: bool = False  # a grammar holds the whole message: what is not text is never cut


def message_form(
    spelling: ToolFormat,
    names: Sequence[str],
    special: Mapping[str, int],
    *,
    reasoning: Reasoning | None = None,
    custom: frozenset[str] = frozenset(),
    free: bool = True,
) -> MessageForm:
    """The form of messages that a grammar holds, in a family's spelling, with tools of these names."""

    def spelled(text: str) -> bytes:
        return marked(text, special)

    return MessageForm(
        thought_spelled(reasoning, special),
        spelled(spelling.saying),
        spelled(spelling.trigger),
        {spelled(spelling.head(name, first=True)): name for name in names},
        {spelled(spelling.head(name, first=False)): name for name in names},
        custom=custom,
        free=free,
        guarded=True,
    )


def thought_spelled(reasoning: Reasoning | None, special: Mapping[str, int]) -> tuple[bytes, bytes, bytes] | None:
    """What is written around a message's reasoning."""
    if reasoning is None:
        return None
    return marked(reasoning.opening, special), marked(reasoning.closing, special), reasoning.gap.encode()


@dataclass(slots=True)
class _Owner:
    """A token whose bytes are not all told yet."""

    token: Token
    data: bytes
    told: int = 0


@dataclass(slots=True)
class _Call:
    index: int
    name: str
    custom: bool
    id: str = field(default_factory=lambda: f"call_{secrets.token_hex(12)}")
    extent: JsonExtent = field(default_factory=JsonExtent)
    known: int = 0  # of the next bytes, how many are known to be arguments
    input: MemberText = field(default_factory=lambda: MemberText(CUSTOM_INPUT))


class MessageReader:
    """The pieces of one message. States are methods: each tells what it can and says whether another one goes on."""

    def __init__(self, index: int, form: MessageForm, tokenizer: Tokenizer, stops: Sequence[bytes] = ()) -> None:
        self._index = index
        self._form = form
        self._spelled = tokenizer.token_bytes
        self._special = {i: special_spelling(name) for name, i in tokenizer.special_tokens.items()}
        self._ends = frozenset(tokenizer.eos_token_ids)
        self._stops = StopScanner(stops)
        self._buffer = bytearray()
        self._consumed = 0
        self._owners: deque[_Owner] = deque()
        self._pieces: list[Piece] = []
        self._prompt: list[PromptToken] | None = None
        self._call: _Call | None = None
        self._calls = 0
        self._last = False
        self._ended = False  # the model drew an end token
        self._state: Callable[[], bool] = self._before_thought if form.thought else self._begin

    def feed(self, output: Output) -> list[Piece]:
        """What this output makes certain; the last piece of the last output has the finish."""
        for token in output.tokens:
            data = self._special.get(token.token_id) or self._spelled(token.token_id)
            if token.token_id in self._ends:
                data, self._ended = b"", True
            self._buffer += data
            self._owners.append(_Owner(token, data))
            self._stops.feed(data)
        self._prompt = output.prompt
        self._last = output.finish is not None
        while self._state():
            pass
        return self._told(output.finish)

    def _told(self, finish: Finish | None) -> list[Piece]:
        if finish is not None:
            _, tokens = self._take(len(self._buffer))
            # An end token shows no text, but stands among the text's log-probs.
            shown = [
                Shown(token, b"") for token in tokens if token.token_id in self._ends and self._state == self._text
            ]
            self._pieces.append(Piece(self._index, "", shown, tokens, finish=self._honest(finish)))
        if self._prompt is not None:
            self._pieces.insert(0, Piece(self._index, "", prompt=self._prompt))
        told, self._pieces = self._pieces, []
        return told

    def _honest(self, finish: Finish) -> Finish:
        """Free text under a message's grammar ends with its budget as any free text does: cut."""
        cut = self._form.guarded and self._form.free and self._state == self._text and not self._ended
        if cut and finish.reason is FinishReason.EOS:
            return msgspec.structs.replace(finish, reason=FinishReason.LENGTH)
        return finish

    # States

    def _before_thought(self) -> bool:
        assert self._form.thought is not None
        opening = self._form.thought[0]
        if self._buffer.startswith(opening):
            self._skip(len(opening))
            self._state = self._thought
            return True
        return self._unless_prefix([opening], self._begin)

    def _thought(self) -> bool:
        assert self._form.thought is not None
        closing = self._form.thought[1]
        at = self._buffer.find(closing)
        self._tell_thought(self._open_text(closing, at, cuts=not self._form.guarded))
        if at < 0:
            return False
        self._skip(len(closing))
        self._state = self._gap
        return True

    def _gap(self) -> bool:
        assert self._form.thought is not None
        gap = self._form.thought[2]
        size = next(size for size in range(len(gap), -1, -1) if self._buffer.startswith(gap[:size]))
        if size == len(self._buffer) < len(gap) and not self._last:
            return False
        self._skip(size)
        self._state = self._begin
        return True

    def _begin(self) -> bool:
        """Where text or a call begins."""
        if self._form.saying and self._buffer.startswith(self._form.saying):
            self._skip(len(self._form.saying))
            self._state = self._text
            return True
        if self._opens(self._form.first):
            return True
        if self._form.trigger and self._form.free:
            self._state = self._text
            return True
        return self._unless_prefix([self._form.saying, *self._form.first], self._text)

    def _text(self) -> bool:
        trigger = self._form.trigger if self._form.free and self._form.first else b""
        at = self._buffer.find(trigger) if trigger else -1
        self._tell_text(self._open_text(trigger, at, cuts=self._form.free))
        if at < 0 or self._stops.hit is not None:
            return False
        self._state = self._head
        return True

    def _head(self) -> bool:
        return self._opens(self._form.first)

    def _arguments(self) -> bool:
        call = self._call
        assert call is not None
        call.known += call.extent.feed(self._buffer[call.known :])
        self._tell_arguments(call)
        if not call.extent.is_over:
            return False
        self._call = None
        self._state = self._after_call
        return True

    def _after_call(self) -> bool:
        return self._opens(self._form.later)

    def _opens(self, heads: Mapping[bytes, str]) -> bool:
        """Whether a call's arguments begin here."""
        found = next((head for head in heads if self._buffer.startswith(head)), None)
        if found is None:
            return False
        name = heads[found]
        self._call = call = _Call(self._calls, name, name in self._form.custom)
        self._calls += 1
        shown, tokens = self._take(len(found))
        told = CallPiece(call.index, call.id, name, "", call.custom)
        self._pieces.append(Piece(self._index, "", shown, tokens, call=told))
        self._state = self._arguments
        return True

    def _unless_prefix(self, texts: Sequence[bytes], onward: Callable[[], bool]) -> bool:
        """Waits while what is there may still become one of the texts; else goes on."""
        if not self._last and any(text.startswith(self._buffer) for text in texts):
            return False
        self._state = onward
        return True

    # Bytes

    def _open_text(self, until: bytes, at: int, *, cuts: bool) -> int:
        """How many bytes may be told of text that ends before `until`, which stands at `at` (-1: not yet)."""
        size = at if at >= 0 else len(self._buffer) - (0 if self._last else _begun(self._buffer, until))
        if cuts:
            hit = self._stops.hit
            size = min(size, hit.start - self._consumed if hit else len(self._buffer) - self._held())
        return max(0, size if at >= 0 or self._last else size - incomplete_suffix(self._buffer[:size]))

    def _held(self) -> int:
        return 0 if self._last else self._stops.held

    def _tell_text(self, size: int) -> None:
        if size:
            text = self._readable(size)
            shown, tokens = self._take(size)
            self._pieces.append(Piece(self._index, text, shown, tokens))

    def _tell_thought(self, size: int) -> None:
        if size:
            text = self._readable(size)
            _, tokens = self._take(size)
            self._pieces.append(Piece(self._index, "", tokens=tokens, reasoning=text))

    def _tell_arguments(self, call: _Call) -> None:
        size = call.known
        if not call.extent.is_over and not self._last:
            size -= incomplete_suffix(self._buffer[:size])
        call.known -= size
        if size:
            text = self._readable(size)
            shown, tokens = self._take(size)
            told = CallPiece(call.index, call.id, None, call.input.feed(text) if call.custom else text, call.custom)
            self._pieces.append(Piece(self._index, "", shown, tokens, call=told))

    def _skip(self, size: int) -> None:
        """Takes what is written around the parts; its tokens count, and as reasoning where they frame it."""
        _, tokens = self._take(size)
        if tokens:
            framing = "" if self._state in (self._before_thought, self._thought, self._gap) else None
            self._pieces.append(Piece(self._index, "", tokens=tokens, reasoning=framing))

    def _readable(self, size: int) -> str:
        """The text of the next bytes; special tokens have none."""
        if _SPECIAL not in self._buffer[:size]:
            return self._buffer[:size].decode(errors="replace")
        return b"".join(data for _, data in self._parts(size)).decode(errors="replace")

    def _parts(self, size: int) -> list[tuple[_Owner, bytes]]:
        """The tokens that own the next bytes, with their part of them as it is shown."""
        parts = []
        for owner in self._owners:
            part = owner.data[owner.told : owner.told + size]
            size -= len(part)
            if part:
                parts.append((owner, b"" if owner.data[0] == _SPECIAL else part))
            if size == 0:
                break
        return parts

    def _take(self, size: int) -> tuple[list[Shown], list[Token]]:
        """Removes bytes: the tokens that show something in them, and those that end in them."""
        shown = [Shown(owner.token, data) for owner, data in self._parts(size)]
        del self._buffer[:size]
        self._consumed += size
        tokens = []
        while self._owners and len(self._owners[0].data) - self._owners[0].told <= size:
            owner = self._owners.popleft()
            size -= len(owner.data) - owner.told
            tokens.append(owner.token)
        if size:
            self._owners[0].told += size
        return shown, tokens


def _begun(data: bytes | bytearray, text: bytes) -> int:
    """How many of the last bytes may be the beginning of `text`."""
    for size in range(min(len(text) - 1, len(data)), 0, -1):
        if data.endswith(text[:size]):
            return size
    return 0
