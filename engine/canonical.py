"""Whether a token spells its text as the tokenizer would: what lets a reader of the text find the tokens again.

What it is for: a detector that is given text tokenises it anew. A model that samples now and then writes a word in
other pieces than the tokenizer's (about one token in a hundred of the bundled model's at temperature 1); that choice
is then lost to the detector, and so are those whose context it is. So where a response carries the watermark, its free
choices are drawn among the usual spellings; what is given up is the model's mass on the others. What may not enter:
grammars (a mask stays what the grammar says), schemes.

The idea: byte-pair encoding is local: a sequence is the tokenizer's own iff each neighbouring pair is (Vieira et al.
2025, "Language Models over Canonical Byte-Pair Encodings"). A few tokens are read again with the new one behind them.
Where that decides nothing (half a character, a blank that the next token may take in, a window that itself splits
otherwise) the token is kept: the worst that follows is one choice that is not found.

To read costs more than the mark itself, so as little is read as decides: a token that begins a word (`borders`) and is
the tokenizer's own spelling of itself follows anything, and before the last word that begins nothing needs to be read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

_WINDOW = 4  # tokens read again: enough for the splitting that precedes BPE to see its usual surroundings
_CACHED = 4096  # windows
_BEHIND = 16  # bytes of forced text: more than one of its words


class Canonical:
    """`encode`: the tokenizer's, on plain text; `tokens`: the bytes of each id; `starts`: those that begin a word."""

    def __init__(
        self, encode: Callable[[str], list[int]], tokens: Sequence[bytes], starts: frozenset[int] = frozenset()
    ) -> None:
        self._encode = encode
        self._tokens = tokens
        self._starts = starts
        self._alone: dict[int, bool] = {}  # of `starts`: whether the tokenizer spells the token so by itself
        self._answers: OrderedDict[tuple[int, ...], bool] = OrderedDict()
        self._stays: OrderedDict[tuple[bytes, bytes], bool] = OrderedDict()

    def follows(self, before: Sequence[int], token: int) -> bool:
        """Whether `token` is kept behind `before` (the last output tokens). O(the window's bytes)."""
        if token in self._starts and self._stands_alone(token):
            return True
        window = self._window(before, token)
        if window not in self._answers:
            self._answers[window] = self._decide(window)
            if len(self._answers) > _CACHED:
                self._answers.popitem(last=False)
        self._answers.move_to_end(window)
        return self._answers[window]

    def stays(self, before: Sequence[int], token: int, behind: bytes) -> bool:
        """Whether `token`, which `follows`, is kept too once the text `behind` it is there: forced, and known already.

        A closing quote would often be spelled together with the comma behind it.
        """
        head = b"".join(self._tokens[each] for each in self._window(before, token))
        key = (head, behind[:_BEHIND])
        if key not in self._stays:
            self._stays[key] = self._is_prefix(*key)
            if len(self._stays) > _CACHED:
                self._stays.popitem(last=False)
        self._stays.move_to_end(key)
        return self._stays[key]

    def _is_prefix(self, head: bytes, behind: bytes) -> bool:
        try:
            text = head.decode()
        except UnicodeDecodeError:
            return True
        alone = self._encode(text)
        return self._encode(text + behind.decode(errors="ignore"))[: len(alone)] == alone

    def _stands_alone(self, token: int) -> bool:
        alone = self._alone.get(token)
        if alone is None:
            alone = self._alone[token] = self._encode(self._tokens[token].decode(errors="replace")) == [token]
        return alone

    def _window(self, before: Sequence[int], token: int) -> tuple[int, ...]:
        """From the last word that begins before the new token, if one of the last few tokens does."""
        count = len(before)
        for place in range(count - 1, max(0, count - _WINDOW) - 1, -1):
            if before[place] in self._starts:
                return (*before[place:], token)
        return (*before[-_WINDOW:], token)

    def _decide(self, window: tuple[int, ...]) -> bool:
        last = self._tokens[window[-1]]
        if len(window) == 1 or not last or last[-1:].isspace():
            return True
        try:
            head = b"".join(self._tokens[token] for token in window[:-1]).decode()
            whole = head + last.decode()
        except UnicodeDecodeError:
            return True
        # Nearly always the first reading decides; the second asks whether the window splits otherwise by itself.
        return self._encode(whole)[-2:] == [*window[-2:]] or self._encode(head)[-1:] != [window[-2]]
