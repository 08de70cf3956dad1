"""How sure the model was of each value of a JSON answer, told as soon as the value is complete.

What it is for: tokens in, `FieldValue`s out: a JSON Pointer, the typed value, and the log-probs of the tokens that
wrote it. What may not enter: constraints, shapes of dialects.

The idea: the text is valid JSON, since a grammar made it, so one pass over its bytes that remembers the open containers
is enough. A token counts for every value that has a byte of it, its quotes included: the closing quote is the model's
choice to end the value there. Values are strings, numbers, true, false, null, and empty containers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.messages import Token
from service.json_text import QUOTE, StringExtent
from service.text import Shown

_WHITESPACE = b" \t\r\n"
_COMMA, _COLON = b",:"
_OPEN = {ord("{"): True, ord("["): False}
_CLOSE = b"}]"


@dataclass(frozen=True, slots=True)
class FieldValue:
    """One value; `legal_mass` is the least of its tokens': where the grammar fought the model most."""

    path: str
    value: Any
    logprob: float
    constrained_logprob: float
    legal_mass: float
    tokens: int


@dataclass(slots=True)
class _Open:
    """A container whose end has not come; `key` is the last one's JSON, `index` the last item's."""

    is_object: bool
    key: str = ""
    index: int = 0


@dataclass(slots=True)
class _Written:
    """The bytes of a value so far, and what its tokens weigh."""

    data: bytearray = field(default_factory=bytearray)
    logprob: float = 0.0
    constrained: float = 0.0
    mass: float = 1.0
    tokens: int = 0
    last: Token | None = None

    @property
    def opens(self) -> bool:
        """So far it is the beginning of a container."""
        return self.data[0] in _OPEN

    def add(self, byte: int, token: Token) -> None:
        self.data.append(byte)
        if token is not self.last:
            self.last = token
            self.tokens += 1
            self.logprob += token.logprob
            self.constrained += token.constrained_logprob
            self.mass = min(self.mass, token.legal_mass)


@dataclass(slots=True)
class FieldReader:
    """The values of one answer as it grows."""

    _stack: list[_Open] = field(default_factory=list)
    _value: _Written | None = None
    _string: StringExtent = field(default_factory=StringExtent)
    _is_key: bool = False
    _found: list[FieldValue] = field(default_factory=list)

    def feed(self, shown: Sequence[Shown]) -> list[FieldValue]:
        """The values that these tokens completed."""
        for each in shown:
            for byte in each.data:
                self._byte(byte, each.token)
        return self._taken()

    def end(self) -> list[FieldValue]:
        """A number that is the whole answer ends with the answer; what was cut is no value."""
        if self._string.is_open or (self._value is not None and self._value.opens):
            self._value = None
        self._complete()
        return self._taken()

    def _taken(self) -> list[FieldValue]:
        found, self._found = self._found, []
        return found

    def _byte(self, byte: int, token: Token) -> None:
        if self._string.is_open:
            self._within(byte, token)
        elif byte == QUOTE:
            self._string.is_open = True
            self._begin(byte, token)
        elif byte in _OPEN:
            self._stack.append(_Open(_OPEN[byte]))
            self._begin(byte, token)  # an empty container is a value; whatever comes in it takes its place
            self._is_key = _OPEN[byte]
        else:
            self._between(byte, token)

    def _between(self, byte: int, token: Token) -> None:
        """Outside of strings, where no container opens."""
        if byte in _CLOSE:
            self._close(byte, token)
        elif byte == _COMMA:
            self._complete()
            top = self._stack[-1]
            top.index += 1
            self._is_key = top.is_object
        elif byte == _COLON:
            self._is_key = False
        elif byte not in _WHITESPACE:
            if self._value is None or self._value.opens:
                self._begin(byte, token)
            else:
                self._value.add(byte, token)

    def _begin(self, byte: int, token: Token) -> None:
        self._value = _Written()
        self._value.add(byte, token)

    def _within(self, byte: int, token: Token) -> None:
        """Inside of a string, its closing quote included."""
        assert self._value is not None
        self._value.add(byte, token)
        self._string.feed(byte)
        if self._string.is_open:
            return
        if self._is_key:
            self._stack[-1].key = json.loads(self._value.data)
            self._value = None
        else:
            self._complete()

    def _close(self, byte: int, token: Token) -> None:
        value = self._value
        if value is not None and value.opens:
            value.add(byte, token)
            self._stack.pop()
            self._complete()
            return
        self._complete()
        self._stack.pop()

    def _complete(self) -> None:
        """Tells the value that has ended here, if there is one."""
        value, self._value = self._value, None
        if value is not None:
            told = (self._path(), json.loads(value.data), value.logprob, value.constrained, value.mass, value.tokens)
            self._found.append(FieldValue(*told))

    def _path(self) -> str:
        parts = [each.key if each.is_object else str(each.index) for each in self._stack]
        return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)
