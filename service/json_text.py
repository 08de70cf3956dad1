"""JSON as it grows: the text of one string, told while it is being written; schemas as parts of others.

What it is for: what clients see as text although the model writes it as JSON: a custom tool's input, a refusal. What
may not enter: tokens, dialects.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any


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


def moved(schema: Any, base: str) -> Any:
    """The schema as part of another one: its local references point to where it now stands."""
    if isinstance(schema, dict):
        out = {key: moved(value, base) for key, value in schema.items()}
        reference = schema.get("$ref")
        if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
            out["$ref"] = f"#{base}{reference[1:]}"
        return out
    return [moved(item, base) for item in schema] if isinstance(schema, list) else schema
