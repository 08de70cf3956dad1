"""What a context-free grammar derives: the slow, obvious reference.

A grammar is a mapping of names to alternatives; an alternative is a sequence of symbols, each one byte or a name. Spans
are found by repeating "if an alternative's symbols follow each other here, its rule spans them" until nothing is new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

Symbol = bytes | str
Productions = Mapping[str, Sequence[Sequence[Symbol]]]
Spans = dict[tuple[str, int], set[int]]


@dataclass(frozen=True)
class ContextFree:
    """A grammar; `start` is its first rule."""

    productions: Productions
    start: str = "start"

    def complete(self, text: bytes) -> bool:
        """Is this text derived?"""
        return len(text) in self._spans(text, viable=False).get((self.start, 0), set())

    def viable(self, text: bytes) -> bool:
        """Does some derived text begin like this? At the text's end, everything that derives something may stand."""
        return len(text) in self._spans(text, viable=True).get((self.start, 0), set())

    def words(self, alphabet: bytes, longest: int) -> list[bytes]:
        """All derived texts up to a length."""
        texts, found = [b""], []
        while texts:
            found += [text for text in texts if self.complete(text)]
            longer = (text + bytes([byte]) for text in texts for byte in alphabet if len(text) < longest)
            texts = [text for text in longer if self.viable(text)]
        return found

    @cached_property
    def productive(self) -> set[str]:
        """The rules that derive some text."""
        found: set[str] = set()
        for _ in self.productions:
            for name, alternatives in self.productions.items():
                if any(all(isinstance(s, bytes) or s in found for s in symbols) for symbols in alternatives):
                    found.add(name)
        return found

    def _spans(self, text: bytes, *, viable: bool) -> Spans:
        spans: Spans = {}
        size = -1
        while size != sum(map(len, spans.values())):
            size = sum(map(len, spans.values()))
            for name, alternatives in self.productions.items():
                for begin in range(len(text) + 1):
                    for symbols in alternatives:
                        ends = self._ends(symbols, begin, text, spans, viable=viable)
                        spans.setdefault((name, begin), set()).update(ends)
        return spans

    def _ends(self, symbols: Sequence[Symbol], begin: int, text: bytes, spans: Spans, *, viable: bool) -> set[int]:
        ends = {begin}
        for symbol in symbols:
            after: set[int] = set()
            for at in ends:
                if isinstance(symbol, bytes):
                    after |= {at + 1} if text[at : at + 1] == symbol else set()
                    after |= {at} if viable and at == len(text) else set()
                else:
                    after |= spans.get((symbol, at), set())
                    after |= {at} if viable and at == len(text) and symbol in self.productive else set()
            ends = after
        if viable and len(text) in ends and not all(isinstance(s, bytes) or s in self.productive for s in symbols):
            ends.discard(len(text))
        return ends
