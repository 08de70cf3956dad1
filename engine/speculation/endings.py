"""Guesses at where a copied value ends, and at the text that then follows.

What it is for: a value is copied from prose, and prose goes on behind it with a comma, a full stop, a line break. There
the model closes the value, and what follows is mostly forced again. What may not enter: how a match is found.

The idea: what the copied text goes on with says whether the value ends there; how often it did is learned for each mark
of punctuation (and for all words together). So one chain may cross from value to value.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.speculation.forced import ForcedText
from engine.speculation.rates import Kind, Source
from grammar import Matcher, PlaceKind

_CLOSERS = {  # the bytes that may follow a complete value's content, likeliest first
    PlaceKind.STRING: b'"',
    PlaceKind.PATTERN_STRING: b'"',
    PlaceKind.NUMBER: b",}]",
}
_WORD = 0  # all words are one kind; each mark of punctuation is its own (1 + token)


class Endings:
    """`tokens`: the bytes of each id."""

    def __init__(self, tokens: Sequence[bytes], forced: ForcedText) -> None:
        singles = {token: index for index, token in enumerate(tokens) if len(token) == 1}
        self._ids = {byte: singles[bytes([byte])] for byte in b'",}]' if bytes([byte]) in singles}
        self._tokens = tokens
        self._forced = forced

    def closers(self, matcher: Matcher) -> bytes:
        """What would end the value that is being written; empty where none is."""
        return _CLOSERS.get(matcher.place_kind, b"")

    def kind(self, following: int) -> Kind:
        """Of the guess that a value ends where the copied text goes on with this token."""
        spelled = self._tokens[following]
        punctuation = spelled.isascii() and not any(chr(byte).isalnum() for byte in spelled)
        return (Source.ENDINGS, 1 + following if punctuation else _WORD)

    def ends(self, closers: bytes, drawn: int) -> bool:
        """Whether a drawn token closes such a value."""
        spelled = self._tokens[drawn]
        return bool(spelled) and spelled[0] in closers

    def after(self, matcher: Matcher, closers: bytes) -> list[int]:
        """The tokens that close the value, as far as the text behind it is forced; none if it may not end."""
        for byte in closers:
            token = self._ids.get(byte)
            if token is not None and matcher.advance(token):
                text = bytes([byte]) + matcher.forced_bytes()
                matcher.rollback(1)
                return self._forced.spelled(text)
        return []
