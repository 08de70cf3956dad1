"""A way out: a schema with `"x-refusal": true` may be answered by a refusal in place of a value.

What it is for: the schema with that branch, and telling a refusal apart while it is being written. What may not enter:
shapes of dialects.

The idea: the branch is the object `{"refusal": "…"}`. What begins like it is one; so a schema that has a property of
this name cannot ask for the branch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from schemas.base import JsonSchema
from service.errors import InvalidBody
from service.json_text import MemberText, moved
from service.text import Piece, Shown

KEYWORD = "x-refusal"
_KEY = "refusal"
_HEAD = '{"' + _KEY + '":"'
_BRANCH: JsonSchema = {
    "type": "object",
    "properties": {_KEY: {"type": "string", "minLength": 1}},
    "required": [_KEY],
    "additionalProperties": False,
}
PREFIX = "/anyOf/0"  # where the schema itself then stands


def asks_for_refusal(schema: JsonSchema) -> bool:
    """Whether the schema wants the branch."""
    return isinstance(schema, dict) and schema.get(KEYWORD) is True


def with_refusal(schema: JsonSchema, param: str) -> JsonSchema:
    """The schema, or a refusal."""
    assert isinstance(schema, dict)
    properties = schema.get("properties")
    if isinstance(properties, dict) and _KEY in properties:
        raise InvalidBody(f"{KEYWORD} would be confused with the schema's own property {_KEY!r}", param=param)
    own = {name: value for name, value in schema.items() if name not in {KEYWORD, "$schema"}}
    # A schema with an $id is a resource of its own: its references go on meaning itself.
    inner = own if "$id" in own else moved(own, PREFIX)
    head = {"$schema": schema["$schema"]} if "$schema" in schema else {}
    return {**head, "anyOf": [inner, _BRANCH]}


@dataclass(slots=True)
class RefusalReader:
    """The pieces of one choice, with refusals told as such: text is held only while it may still become one."""

    _held: list[Piece] = field(default_factory=list)
    _text: str = ""
    _reader: MemberText | None = None
    _decided: bool = False

    def feed(self, piece: Piece) -> list[Piece]:
        """What is certain with this piece."""
        if self._reader is not None:
            return [self._refusal(piece)]
        if self._decided or piece.reasoning is not None or piece.call is not None:
            return [piece]
        self._held.append(piece)
        self._text += piece.text
        bare = re.sub(r"\s", "", self._text)
        if piece.finish is None and _HEAD.startswith(bare):
            if bare != _HEAD:
                return []
        elif not bare.startswith(_HEAD):
            self._decided = True
            held, self._held = self._held, []
            return held
        self._reader = MemberText(_KEY)
        held, self._held = self._held, []
        return [self._refusal(each) for each in held]

    def _refusal(self, piece: Piece) -> Piece:
        assert self._reader is not None
        return replace(piece, text="", refusal=self._reader.feed(piece.text))


def refused_tokens(pieces: Sequence[Piece]) -> list[Shown]:
    """The tokens of a choice's refusal."""
    return [shown for piece in pieces if piece.refusal is not None for shown in piece.shown]
