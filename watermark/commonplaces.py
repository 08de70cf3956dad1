"""Phrases that every text of a kind contains, and that a detector should therefore not count.

Documents of one schema from one model say the same things: "The quiet …". A key that happens to favour a shared phrase
favours all of them, so its false-positive rate on such documents is off, though the rate over all keys is right. The
cure needs no key: count (context, token) pairs over unmarked texts, and leave out those that many of them share. What
is left out depends on the text alone, so p stays exact; and what everyone says carries little evidence anyway.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from watermark.gathering import Position
from watermark.schemes.base import Kind, Scheme

_Saying = tuple[Kind, tuple[int, ...], int]


@dataclass(frozen=True, slots=True)
class Commonplaces:
    """Sayings found in more than a given share of unmarked texts, at one scheme's context widths."""

    scheme: Scheme
    sayings: frozenset[_Saying]

    @classmethod
    def of(cls, texts: Iterable[Sequence[Position]], scheme: Scheme, *, share: float = 0.005) -> "Commonplaces":
        """Count over unmarked texts of the kind to be judged; never over the judged texts themselves."""
        counts: Counter[_Saying] = Counter()
        total = 0
        for total, text in enumerate(texts, start=1):  # noqa: B007 - the count is wanted after the loop
            counts.update({_saying(position, scheme) for position in text})
        return cls(scheme, frozenset(saying for saying, count in counts.items() if count > max(1.0, share * total)))

    def without(self, positions: Sequence[Position]) -> list[Position]:
        """The positions that say something of their own."""
        return [position for position in positions if not self.holds(position)]

    def holds(self, position: Position) -> bool:
        """Whether everybody says this."""
        return _saying(position, self.scheme) in self.sayings


def _saying(position: Position, scheme: Scheme) -> _Saying:
    width = scheme.h(position.kind)
    return position.kind, position.context[max(0, len(position.context) - width) :], position.token_id
