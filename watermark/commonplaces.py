"""Phrases that every text of a kind contains, and that a detector should therefore not count.

Documents of one schema from one model say the same things: "The quiet …". A key that happens to favour a shared phrase
favours all of them, so its false-positive rate on such documents is off, though the rate over all keys is right. The
cure needs no key: count (context, token) pairs over unmarked texts, and leave out those that many of them share. What
is left out depends on the text alone, so p stays exact; and what everyone says carries little evidence anyway.

Counted once and kept in a file, they are the detector's own; a file holds no key, and no text longer than a phrase.
It is of one vocabulary and of one pair of context widths, and says so.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watermark import prf
from watermark.errors import CommonplacesError
from watermark.gathering import Position, Positions, gather
from watermark.schemes.base import Kind, Scheme

Saying = tuple[Kind, tuple[int, ...], int]
_FORMAT = 1
_NO_KEY = np.zeros(2, np.uint64)  # what is left out must not depend on one
OWN_FILE, OFF = "commonplaces.json", "off"


@dataclass(frozen=True, slots=True)
class Commonplaces:
    """Sayings found in more than a given share of unmarked texts, at a pair of context widths (values, prose)."""

    widths: tuple[int, int]
    sayings: frozenset[Saying]
    _hashes: NDArray[np.uint64] = field(init=False, repr=False, compare=False)  # of the sayings, sorted

    def __post_init__(self) -> None:
        rows = [Position(token, context, kind) for kind, context, token in self.sayings]
        columns = Positions.of(rows)
        hashes = np.sort(_hashed(columns, np.arange(len(rows)), columns.widths))
        object.__setattr__(self, "_hashes", hashes)

    @classmethod
    def of(
        cls, texts: Iterable[Sequence[Position] | Positions], scheme: Scheme, *, share: float = 0.002
    ) -> "Commonplaces":
        """Count over unmarked texts of the kind to be judged; never over the judged texts themselves.

        One text alone never makes a commonplace. The share is what a key's luck is bounded by: the rate of one key's
        false positives strays with the sum of the squared shares of what is left in.
        """
        told = [text if isinstance(text, Positions) else Positions.of(text) for text in texts]
        found = [_told_once(text, scheme) for text in told]
        hashes = np.concatenate([each for each, _ in found]) if found else np.empty(0, np.uint64)
        places = [(number, place) for number, (_, within) in enumerate(found) for place in within.tolist()]
        _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        common = first[counts > max(1.0, share * len(told))]
        owned = [places[at] for at in common.tolist()]
        return cls(scheme.widths, frozenset(_saying(told[number], place, scheme) for number, place in owned))

    def without(self, positions: Sequence[Position], scheme: Scheme) -> list[Position]:
        """The positions that a detector gathers, which say something of their own."""
        return [positions[place] for place in gather(positions, scheme, self.leave_out).places]

    def holds(self, position: Position) -> bool:
        """Whether everybody says this."""
        width = self.widths[position.kind]
        context = position.context[max(0, len(position.context) - width) :]
        return (position.kind, context, position.token_id) in self.sayings

    def sayings_for(self, scheme: Scheme) -> frozenset[Saying]:
        """What is not counted under a scheme; nothing, if its contexts have other widths."""
        return self.sayings if scheme.widths == self.widths else frozenset()

    def leave_out(self, positions: Positions, scheme: Scheme) -> NDArray[np.bool_]:
        """As the detector asks. A scheme of other widths is asked of in vain: nothing is left out.

        Compared by 64 bits each: that two of a million ever meet is a matter of one in a million.
        """
        found = np.zeros(len(positions), np.bool_)
        if scheme.widths == self.widths and len(self._hashes):
            places = np.arange(len(positions))
            hashes = _hashed(positions, places, np.minimum(positions.widths, _needed(positions, scheme)))
            at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
            found = self._hashes[at] == hashes
        return found

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
    def of_model(cls, setting: str, folder: Path, vocabulary: str) -> "Commonplaces | None":
        """What a detector of the model in `folder` does not count, and its engine promises nothing of.

        `setting`: a file; "off": nothing; empty: the folder's own file, if there is one. Raises CommonplacesError.
        """
        own = folder / OWN_FILE
        if setting == OFF or not (setting or own.is_file()):
            return None
        return cls.from_file(setting or own, vocabulary)

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


def _needed(positions: Positions, scheme: Scheme) -> NDArray[np.int64]:
    needed: NDArray[np.int64] = np.array(scheme.widths, np.int64)[positions.kinds]
    return needed


def _hashed(positions: Positions, places: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64 bits of kind, token and the last `widths` tokens of context of each."""
    contexts = positions.contexts(places, widths)
    rows = np.column_stack([positions.kinds[places].astype(np.int64), positions.tokens[places], contexts.tokens])
    hashes: NDArray[np.uint64] = prf.seeds(rows, widths + 2, _NO_KEY, prf.DOMAIN_COMMONPLACES)
    return hashes


def _told_once(positions: Positions, scheme: Scheme) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """A text's sayings, each once: 64 bits of it (whole rows take ten times as long to sort), and where it stands."""
    places = np.arange(len(positions))
    hashes = _hashed(positions, places, np.minimum(positions.widths, _needed(positions, scheme)))
    each, first = np.unique(hashes, return_index=True)
    return each, first


def _saying(positions: Positions, place: int, scheme: Scheme) -> Saying:
    kind = Kind(int(positions.kinds[place]))
    width = min(int(positions.widths[place]), scheme.h(kind))
    context = positions.before[place, positions.before.shape[1] - width :]
    return kind, tuple(context.tolist()), int(positions.tokens[place])
