"""Where an unfinished JSON text stands, as a JSON Pointer: read back from the text, for reports only."""

import json


def open_pointer(text: bytes) -> str:
    """The pointer of the innermost value that is open, or about to begin, at the end of `text`."""
    path: list[str | int | None] = []
    at, expecting_key = 0, False
    while at < len(text):
        byte = text[at]
        if byte == 0x22:
            end = _string_end(text, at)
            if end is None:
                break
            if expecting_key and path:
                path[-1] = _key(text[at:end])
                expecting_key = False
            at = end
            continue
        if byte in b"{[":
            path.append(None if byte == 0x7B else 0)
            expecting_key = byte == 0x7B
        elif byte in b"}]":
            path.pop()
        elif byte == 0x2C and path:
            last = path[-1]
            expecting_key = not isinstance(last, int)
            path[-1] = last + 1 if isinstance(last, int) else None
        at += 1
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path if step is not None)


def opening_bracket(text: bytes) -> int:
    """Where the innermost object or array that is open at the end of `text` begins."""
    at, depth = len(text), 0
    while True:
        at -= 1
        byte = text[at]
        if byte == 0x22:
            at = opening_quote(text, at)
        elif byte in b"}]":
            depth += 1
        elif byte in b"{[":
            if not depth:
                return at
            depth -= 1


def opening_quote(text: bytes, end: int | None = None) -> int:
    """Where the string that is open at the end of `text[:end]` begins: quotes inside it are escaped."""
    at = len(text) if end is None else end
    while True:
        at = text.rindex(b'"', 0, at)
        slashes = at
        while slashes and text[slashes - 1] == 0x5C:
            slashes -= 1
        if (at - slashes) % 2 == 0:
            return at


def _string_end(text: bytes, at: int) -> int | None:
    at += 1
    while at < len(text):
        if text[at] == 0x5C:
            at += 2
        elif text[at] == 0x22:
            return at + 1
        else:
            at += 1
    return None


def _key(raw: bytes) -> str:
    return str(json.loads(raw))
