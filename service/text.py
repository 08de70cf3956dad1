"""From tokens to text that may be shown: whole UTF-8 characters, nothing that may still become a stop string.

What it is for: one `TextStream` per generation turns outputs into pieces. What may not enter: a dialect's shapes.

The idea: bytes are kept until they may be shown; a token is reported with the piece that shows its last byte, so the
bytes of all reported tokens, joined, are the text. Under a grammar nothing is held for stop strings, since the engine
never cuts a constrained text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from engine.messages import Finish, Output, PromptToken, Token
from engine.stops import StopScanner


@dataclass(frozen=True, slots=True)
class Shown:
    """A token and the bytes of it that are part of the text; none for special tokens."""

    token: Token
    data: bytes


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A part of tool call number `index`; the first one has its name, the others more of its arguments.

    For a custom tool the "arguments" are its input, which is text and not JSON.
    """

    index: int
    id: str
    name: str | None
    arguments: str
    custom: bool = False

    @property
    def tells(self) -> bool:
        return self.name is not None or bool(self.arguments)


@dataclass(frozen=True, slots=True)
class Piece:
    """What became certain of choice `index`: text, the tokens it is made of, and perhaps the end."""

    index: int
    text: str
    shown: Sequence[Shown] = ()
    tokens: Sequence[Token] = ()  # as emitted in this step, whether their text is shown yet or not
    prompt: list[PromptToken] | None = None
    finish: Finish | None = None
    call: CallPiece | None = None  # then `shown` are the call's tokens, and `text` is empty
    refusal: str | None = None  # in a refusal; then `text` is empty, and `shown` are the refusal's tokens
    reasoning: str | None = None  # in the reasoning before the answer; then `text` is empty


def incomplete_suffix(data: bytes | bytearray) -> int:
    """How many of the last bytes begin a UTF-8 character that is not yet complete (0 to 3)."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if needed > back else 0
        if byte < 0x80:
            return 0
    return 0


@dataclass(slots=True)
class TextStream:
    """The text of one generation as it grows."""

    index: int
    token_bytes: Callable[[int], bytes]
    stops: StopScanner
    keep_stop: bool = False  # TGI shows the stop string; a constrained text is never cut
    _pending: bytearray = field(default_factory=bytearray)
    _waiting: deque[Shown] = field(default_factory=deque)
    _received: int = 0
    _into_head: int = 0  # bytes already shown of the first waiting token

    def feed(self, output: Output) -> Piece:
        """The piece that this output makes certain."""
        for token in output.tokens:
            data = self.token_bytes(token.token_id)
            self._pending += data
            self._received += len(data)
            self._waiting.append(Shown(token, data))
            if not self.keep_stop:
                self.stops.feed(data)
        text, shown = self._end(output.finish) if output.finish else self._show(len(self._pending) - self._held())
        return Piece(self.index, text, shown, output.tokens, output.prompt, output.finish)

    def _held(self) -> int:
        hit = self.stops.hit
        if hit is not None:  # the engine ends the sequence here; its Finish may come with the next output
            return self._received - hit.start
        return max(self.stops.held, incomplete_suffix(self._pending))

    def _end(self, finish: Finish) -> tuple[str, list[Shown]]:
        """Everything that is left, less the stop string and what came after it."""
        hit = self.stops.hit
        cut = self._received - hit.start if hit is not None and isinstance(finish.stop, bytes) else 0
        return self._show(len(self._pending) - cut, last=True)

    def _show(self, count: int, *, last: bool = False) -> tuple[str, list[Shown]]:
        data = bytes(self._pending[:count])
        if not last:  # what is held for a stop string may begin inside a character
            data = data[: len(data) - incomplete_suffix(data)]
        del self._pending[: len(data)]
        return data.decode(errors="replace"), self._reported(len(data), last=last)

    def _reported(self, count: int, *, last: bool) -> list[Shown]:
        """Tokens whose last byte is among the next `count` bytes; at the end, also the one that a stop string cut."""
        count += self._into_head
        reported: list[Shown] = []
        while self._waiting and len(self._waiting[0].data) <= count:
            count -= len(self._waiting[0].data)
            reported.append(self._waiting.popleft())
        self._into_head = count
        if last and count:
            head = self._waiting.popleft()
            reported.append(Shown(head.token, head.data[:count]))
        return reported
