"""What of a text may have been a free choice, where nobody says under which constraint it was made.

What it is for: the detector without the schema. JSON documents are looked for in the text; inside them only string
values count, with contexts that do not leave the value, just as the sampler marked them; keys, numbers and punctuation
do not. What stands outside is prose. What may not enter: grammars, keys, schemes.

The idea: a string's borders can be found without its schema, and they are all that the rule of `engine.marking` needs,
but for strings that an enum or a pattern limits: those are scored here as if they had been free, and dilute the
evidence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from engine.marking import FreeChoice
from watermark import Kind, Position

_OPENING = re.compile(r"[{\[]")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"(\s*+:)?', re.DOTALL)
_FAILURES = 64  # places that look like the start of a document and are none; then the rest is prose
_DECODER = json.JSONDecoder()

Span = tuple[int, int]  # bytes, the end excluded


def read(tokens: Sequence[int], spelled: Sequence[bytes], width: int) -> dict[str, list[FreeChoice]]:
    """The readings of a text, by name: `json` if it holds documents with strings in them, and `text`: all is prose.

    `spelled`: the bytes of each of the tokens. Contexts have at most `width` tokens. O(bytes).
    """
    starts = _starts(spelled)
    prose = [_choice(tokens, place, 0, Kind.PROSE, width) for place in range(len(tokens))]
    # Latin-1 makes each byte a character, so that places in the text are places in the bytes.
    text = b"".join(spelled).decode("latin-1")
    documents = list(_documents(text))
    values = [value for document in documents for value in _values(text, document)]
    if not values:
        return {"text": prose}
    return {"json": list(_choices(tokens, starts, documents, values, width)), "text": prose}


def _starts(spelled: Sequence[bytes]) -> list[int]:
    starts, at = [], 0
    for piece in spelled:
        starts.append(at)
        at += len(piece)
    return starts


def _choice(tokens: Sequence[int], place: int, first: int, kind: Kind, width: int) -> FreeChoice:
    """The choice at `place` of a stretch that begins with token `first`."""
    context = tuple(tokens[max(first, place - width) : place])
    return FreeChoice(place, Position(tokens[place], context, kind))


def _documents(text: str) -> Iterator[Span]:
    """Objects and arrays as long as they go; or the whole text, if it is one JSON string."""
    if text[:1] == '"' and (whole := _STRING.fullmatch(text)) and not whole.group(1):
        yield 0, len(text)
        return
    at, failures = 0, 0
    while failures < _FAILURES and (found := _OPENING.search(text, at)):
        try:
            _, at = _DECODER.raw_decode(text, found.start())
            yield found.start(), at
        except (ValueError, RecursionError):
            at, failures = found.start() + 1, failures + 1


def _values(text: str, document: Span) -> Iterator[Span]:
    """The string values, from behind the opening quote to behind the closing one: a choice too is where to end."""
    for found in _STRING.finditer(text, *document):
        if not found.group(1):
            yield found.start() + 1, found.end()


def _choices(
    tokens: Sequence[int], starts: Sequence[int], documents: Sequence[Span], values: Sequence[Span], width: int
) -> Iterator[FreeChoice]:
    """One walk over the tokens; a token belongs where it begins."""
    stretch: tuple[Kind, int] | None = None
    first = document = value = 0
    for place, start in enumerate(starts):
        while document < len(documents) and documents[document][1] <= start:
            document += 1
        while value < len(values) and values[value][1] <= start:
            value += 1
        before = stretch
        if value < len(values) and values[value][0] <= start:
            stretch = (Kind.VALUE, value)
        elif document < len(documents) and documents[document][0] <= start:
            stretch = None
        else:
            stretch = (Kind.PROSE, document)
        first = first if stretch == before else place
        if stretch is not None:
            yield _choice(tokens, place, first, stretch[0], width)
