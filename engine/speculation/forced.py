"""Guesses from the grammar: the usual tokenisation of text that it forces (keys, quotes, separators).

What it is for: that tokenisation is very likely what the model writes. What may not enter: anything that takes it for
granted. A forced text has several tokenisations and the distribution over them is the model's, so these tokens are a
guess like any other: each position is drawn, and the guess only says how far one pass may reach. A request that jumps
gives that up: what `first` says is taken.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from grammar import Matcher, PlaceKind

_CACHED = 4096  # texts
_CACHED_TOKENS = 1 << 20  # of all of them: a schema's constant may be as long as the context
_SEEN = 256  # bytes by which the first token of a long text goes


class ForcedText:
    """`encode`: the tokenizer's, special tokens' names meant."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        self._encode = encode
        self._tokens: OrderedDict[bytes, list[int]] = OrderedDict()
        self._held = 0  # tokens of all

    def after(self, matcher: Matcher) -> list[int]:
        """The tokens of what every completion begins with; none where the text is free."""
        if matcher.place_kind == PlaceKind.STRING:  # nothing is forced inside
            return []
        forced = matcher.forced_bytes()
        return self.spelled(forced) if forced else []

    def first(self, matcher: Matcher) -> int | None:
        """The first token of a forced text that has several; of a very long text only its beginning is looked at."""
        if matcher.place_kind == PlaceKind.STRING:
            return None
        usual = self.spelled(matcher.forced_bytes()[:_SEEN])
        return usual[0] if len(usual) > 1 else None

    def spelled(self, text: bytes) -> list[int]:
        """The usual tokens of a text."""
        if text not in self._tokens:
            # A text that ends inside a character is guessed up to that character; the byte that marks a special token
            # in a grammar is left out, too, and its name behind that is the token.
            made = self._tokens[text] = self._encode(text.decode("utf-8", "ignore"))
            self._held += len(made)
            while len(self._tokens) > 1 and (len(self._tokens) > _CACHED or self._held > _CACHED_TOKENS):
                _, gone = self._tokens.popitem(last=False)
                self._held -= len(gone)
        self._tokens.move_to_end(text)
        return self._tokens[text]
