"""What the watermark benchmark needs of a source of text: documents and prose, marked or not, with their free
choices.

Two sources: `ToyWriter` here (a toy language in a JSON-like frame; every probability known, thousands of documents a
minute) and `EngineWriter` in `benchmarks.engine_text` (the bundled model under real schemas, through the engine's own
loop).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benchmarks.toy_language import ToyLanguage
from watermark import Commonplaces, Embedder, KeyRing, Kind, Position, scheme

EDITS = (
    "none",
    "read as text",
    "re-serialised compactly",
    "pretty-printed",
    "fields reordered",
    "10 % of words deleted",
    "30 % of words deleted",
    "inside ten times as much text",
)


@dataclass(frozen=True)
class Marking:
    """How a text is to be marked."""

    scheme: str
    key_id: str

    @property
    def is_greedy(self) -> bool:
        """Green lists are for temperature 0; the others replace the noise of a draw."""
        return scheme(self.scheme).marks_greedy


@dataclass(frozen=True)
class Document:
    """One output as a detector meets it: `free[i]` is the position at `places[i]` of `everything`.

    `everything` is what a detector without the grammar scores: every token, after whatever stands before it.
    """

    everything: tuple[Position, ...]
    free: tuple[Position, ...]
    places: tuple[int, ...]
    promised_p: float | None = None
    text: object = None
    """What the writer edits."""


class Writer(Protocol):
    """A source of text. `greedy` sets how unmarked text is drawn; marked text is drawn as its scheme wants."""

    @property
    def name(self) -> str:
        """For the heading."""
        ...

    @property
    def commonplaces(self) -> Commonplaces | None:
        """What the detector leaves out, if there is a list."""
        ...

    def documents(self, count: int, marking: Marking | None, seed: int, *, greedy: bool = False) -> list[Document]:
        """Structured outputs."""
        ...

    def prose(self, count: int, marking: Marking | None, seed: int) -> list[Document]:
        """Free text."""
        ...

    def edited(self, document: Document, edit: str, seed: int) -> Document:
        """The document after one of EDITS."""
        ...


def running(tokens: Sequence[int], kind: Kind) -> tuple[Position, ...]:
    """Every token with the four before it, whatever they are."""
    return tuple(Position(token, tuple(tokens[max(0, i - 4) : i]), kind) for i, token in enumerate(tokens))


@dataclass(frozen=True)
class ToyWriter:
    """Nine fields in a fixed frame: six strings of free tokens, three enums; about 99 tokens, half of them forced."""

    ring: KeyRing
    sharpness: float = 3.0
    name: str = "toy language"
    commonplaces: Commonplaces | None = None

    def documents(self, count: int, marking: Marking | None, seed: int, *, greedy: bool = False) -> list[Document]:
        """Values of 5 to 11 tokens, drawn from one language."""
        return [self._document(np.random.default_rng((seed, n)), marking, greedy) for n in range(count)]

    def prose(self, count: int, marking: Marking | None, seed: int) -> list[Document]:
        """120 tokens of the language."""
        return [self._prose(np.random.default_rng((seed, n)), marking) for n in range(count)]

    def edited(self, document: Document, edit: str, seed: int) -> Document:
        """Tokens stand for words."""
        assert isinstance(document.text, list)
        rng = np.random.default_rng(seed)
        values: list[list[int]] = document.text
        if edit == "fields reordered":
            values = [values[i] for i in rng.permutation(len(values))]
        elif "deleted" in edit:
            share = float(edit.split(maxsplit=1)[0]) / 100
            values = [[token for token in value if rng.random() >= share] for value in values]
        elif edit == "inside ten times as much text":
            around = [self._prose(rng, None).free for _ in range(max(1, len(document.everything) * 10 // 120))]
            others = [[position.token_id for position in text] for text in around]
            half = len(others) // 2
            values = others[:half] + values + others[half:]
        return framed(values)

    @property
    def _language(self) -> ToyLanguage:
        return ToyLanguage(sharpness=self.sharpness)

    def _document(self, rng: np.random.Generator, marking: Marking | None, greedy: bool) -> Document:
        embedder = self._embedder(marking)
        greedy = greedy if marking is None else marking.is_greedy
        values = []
        for _ in range(6):
            # Each value begins where no other did: a prompt would see to that.
            start = [int(token) for token in rng.integers(0, 200, 2)]
            length = int(rng.integers(5, 12))
            values.append(
                self._language.write(length, rng.random, embedder, kind=Kind.VALUE, greedy=greedy, start=start)
            )
        return framed([[position.token_id for position in value] for value in values], _promise(embedder))

    def _prose(self, rng: np.random.Generator, marking: Marking | None) -> Document:
        embedder = self._embedder(marking)
        greedy = marking is not None and marking.is_greedy
        start = [int(token) for token in rng.integers(0, 200, 2)]
        free = tuple(self._language.write(120, rng.random, embedder, greedy=greedy, start=start))
        return Document(free, free, tuple(range(120)), _promise(embedder))

    def _embedder(self, marking: Marking | None) -> Embedder | None:
        return None if marking is None else Embedder(scheme(marking.scheme), self.ring.key(marking.key_id))


def _promise(embedder: Embedder | None) -> float | None:
    return None if embedder is None else embedder.report().expected_p


def framed(values: list[list[int]], promised_p: float | None = None) -> Document:
    """The values with six forced tokens before each and an enum (one of three tokens) after every second."""
    tokens: list[int] = []
    free: list[Position] = []
    places: list[int] = []
    for number, value in enumerate(values):
        tokens += [1000 + 10 * (number % 6) + i for i in range(6)]
        for i, token in enumerate(value):
            places.append(len(tokens))
            free.append(Position(token, tuple(value[max(0, i - 4) : i]), Kind.VALUE))
            tokens.append(token)
        if number % 2:
            tokens += [2000, 2001, 2002, 2010 + sum(value) % 3]
    return Document(running(tokens, Kind.VALUE), tuple(free), tuple(places), promised_p, values)
