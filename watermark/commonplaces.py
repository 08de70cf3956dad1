"""Phrases that every text of a kind contains, and that a detector should therefore not count.

Documents of one schema from one model say the same things: "The quiet …". A key that happens to favour a shared phrase
favours all of them, so its false-positive rate on such documents is off, though the rate over all keys is right. The
cure needs no key: count (context, token) pairs over unmarked texts, and leave out those that many of them share. What
is left out depends on the text alone, so p stays exact; and what everyone says carries little evidence anyway.

Counted once and kept in a file, they are the detector's own; a file holds no key, and no text longer than a phrase.
It is of one vocabulary and of one pair of context widths, and says so.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watermark.errors import CommonplacesError
from watermark.gathering import Position
from watermark.schemes.base import Kind, Scheme

_Saying = tuple[Kind, tuple[int, ...], int]
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Commonplaces:
    """Sayings found in more than a given share of unmarked texts, at a pair of context widths (values, prose)."""

    widths: tuple[int, int]
    sayings: frozenset[_Saying]

    @classmethod
    def of(cls, texts: Iterable[Sequence[Position]], scheme: Scheme, *, share: float = 0.002) -> "Commonplaces":
        """Count over unmarked texts of the kind to be judged; never over the judged texts themselves.

        One text alone never makes a commonplace. The share is what a key's luck is bounded by: the rate of one key's
        false positives strays with the sum of the squared shares of what is left in.
        """
        counts: Counter[_Saying] = Counter()
        total = 0
        for total, text in enumerate(texts, start=1):  # noqa: B007 - the count is wanted after the loop
            counts.update({_saying(position, scheme.widths) for position in text})
        common = frozenset(saying for saying, count in counts.items() if count > max(1.0, share * total))
        return cls(scheme.widths, common)

    def without(self, positions: Sequence[Position]) -> list[Position]:
        """The positions that say something of their own."""
        return [position for position in positions if not self.holds(position)]

    def holds(self, position: Position) -> bool:
        """Whether everybody says this."""
        return _saying(position, self.widths) in self.sayings

    def leave_out(self, position: Position, scheme: Scheme) -> bool:
        """As the detector asks. A scheme of other widths is asked of in vain: nothing is left out."""
        return scheme.widths == self.widths and self.holds(position)

    def __or__(self, other: "Commonplaces") -> "Commonplaces":
        """Those of either; the widths must be the same."""
        if self.widths != other.widths:
            raise CommonplacesError(f"commonplaces at context widths {self.widths} and {other.widths} do not mix")
        return Commonplaces(self.widths, self.sayings | other.sayings)

    def to_json(self, vocabulary: str) -> str:
        """A file's text; `vocabulary` names the tokenizer whose ids these are."""
        sayings = sorted([int(kind), *context, token] for kind, context, token in self.sayings)
        return json.dumps(
            {"format": _FORMAT, "vocabulary": vocabulary, "widths": list(self.widths), "sayings": sayings}
        )

    @classmethod
    def from_file(cls, path: Path | str, vocabulary: str) -> "Commonplaces":
        """Reads what `to_json` wrote. Raises CommonplacesError if it is none, or is of another vocabulary."""
        try:
            table = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CommonplacesError(f"cannot read the commonplaces in {path}: {error}") from None
        try:
            return _of_table(table, vocabulary)
        except (KeyError, TypeError, ValueError, IndexError):
            raise CommonplacesError(f"{path} is no file of commonplaces (see `formwork commonplaces`)") from None
        except CommonplacesError as error:
            raise CommonplacesError(f"{path}: {error}") from None


def _of_table(table: dict[str, Any], vocabulary: str) -> Commonplaces:
    if table["format"] != _FORMAT:
        raise CommonplacesError(f"format {table['format']!r} is not known; make the file anew")
    if table["vocabulary"] != vocabulary:
        raise CommonplacesError("made with another tokenizer: its token ids mean nothing here")
    in_values, in_prose = (int(width) for width in table["widths"])
    sayings = frozenset((Kind(row[0]), tuple(row[1:-1]), int(row[-1])) for row in table["sayings"])
    return Commonplaces((in_values, in_prose), sayings)


def _saying(position: Position, widths: tuple[int, int]) -> _Saying:
    width = widths[position.kind]
    return position.kind, position.context[max(0, len(position.context) - width) :], position.token_id
