"""JSON as it grows: where strings and values end, the text of one string while it is written; schemas inside others.

What it is for: what clients see as text although the model writes it as JSON: a custom tool's input, a refusal. What
may not enter: tokens, dialects.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

QUOTE, _BACKSLASH = b'"\\'
_SCALAR = frozenset(b"0123456789+-.abcdefghijklmnopqrstuvwxyzE")


@dataclass(slots=True)
class MemberText:
    """The value of the string in `{"key": "…"}` as its JSON grows: escapes are told when they are whole."""

    key: str
    _text: str = ""
    _at: int | None = None
    _over: bool = False

    def feed(self, text: str) -> str:
        self._text += text
        if self._at is None:
            head = re.match(r'\{\s*"' + re.escape(self.key) + r'"\s*:\s*"', self._text)
            if head is None:
                return ""
            self._at = head.end()
        out = ""
        while not self._over and (part := self._next()) is not None:
            out += part
        return out

    def _next(self) -> str | None:
        """The next whole character or run of plain ones; None if more must come first."""
        assert self._at is not None
        rest = self._text[self._at :]
        if plain := re.match(r'[^"\\]+', rest):
            self._at += plain.end()
            return plain[0]
        if rest[:1] == '"':
            self._over = True
            return None
        found = re.match(r"\\u[dD][89abAB]..\\u....|\\u(?![dD][89abAB])....|\\[^u]", rest)
        if found is None:
            return None
        self._at += found.end()
        value: str = json.loads(f'"{found[0]}"')
        return value


@dataclass(slots=True)
class StringExtent:
    """Finds the quote that ends a string: `is_open` from where it is set, after the opening quote, until then."""

    is_open: bool = False
    _escaped: bool = False

    def feed(self, byte: int) -> None:
        """The next byte of an open string."""
        if self._escaped:
            self._escaped = False
        elif byte == _BACKSLASH:
            self._escaped = True
        elif byte == QUOTE:
            self.is_open = False


@dataclass(slots=True)
class JsonExtent:
    """Finds where one JSON value ends in text that goes on after it; the text so far is JSON."""

    is_over: bool = False
    _depth: int = 0
    _string: StringExtent = field(default_factory=StringExtent)
    _scalar: bool = False

    def feed(self, data: bytes | bytearray) -> int:
        """How many of these bytes belong to the value."""
        for place, byte in enumerate(data):
            if self.is_over:
                return place
            if self._string.is_open:
                self._string.feed(byte)
                self.is_over = self._depth == 0 and not self._string.is_open
            elif not self._outside(byte):
                return place
        return len(data)

    def _outside(self, byte: int) -> bool:
        """Whether a byte outside of strings belongs to the value."""
        if byte == QUOTE:
            self._string.is_open = True
        elif byte in b"{[":
            self._depth += 1
        elif self._depth:
            self._depth -= byte in b"}]"
            self.is_over = self._depth == 0
        elif byte in b" \t\r\n" and not self._scalar:
            pass
        elif byte in _SCALAR:
            self._scalar = True
        else:
            self.is_over = True
            return False
        return True


def moved(schema: Any, base: str) -> Any:
    """The schema as part of another one: its local references point to where it now stands."""
    if isinstance(schema, dict):
        out = {key: moved(value, base) for key, value in schema.items()}
        reference = schema.get("$ref")
        if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
            out["$ref"] = f"#{base}{reference[1:]}"
        return out
    return [moved(item, base) for item in schema] if isinstance(schema, list) else schema
