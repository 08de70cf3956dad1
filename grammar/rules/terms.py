"""What every spelling of a grammar becomes: named rules whose bodies are terms over regular words, calls and JSON.

Nothing here knows how rules are written (lark.py, gbnf.py, tags.py) or how they are run (network.py, frames.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np

from grammar.errors import GrammarError
from grammar.lexical import Dfa, literal_language


@dataclass(frozen=True, eq=False)
class Word:
    """Any word of a regular language over bytes. Compared by identity: comparing languages costs too much here."""

    language: Dfa

    @property
    def is_blank(self) -> bool:
        """Whether the empty word is the only one."""
        return self.language.states == 1 and not (self.language.table >= 0).any()

    @cached_property
    def fingerprint(self) -> bytes:
        """The same for equal languages."""
        return self.language.fingerprint

    @cached_property
    def first_bytes(self) -> int:
        """The bytes that a word can begin with, as a bit set."""
        begins = self.language.table[0, self.language.classes] >= 0
        return int.from_bytes(np.packbits(begins, bitorder="little").tobytes(), "little")

    @cached_property
    def shortest(self) -> bytes:
        """The least of the shortest words that are not empty."""
        language = self.language
        if not language.accepting[0]:
            return language.shortest()
        byte = min(
            (b for b in range(256) if language.step(0, b) >= 0),
            key=lambda b: (language.distance[language.step(0, b)], b),
        )
        return bytes([byte]) + language.shortest(language.step(0, byte))


@dataclass(frozen=True, slots=True)
class Call:
    """What the rule of this name derives."""

    name: str


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON text under the schema of this number (`Rules.schemas`)."""

    number: int

    @property
    def first_bytes(self) -> int:
        """The bytes that a JSON text can begin with, as a bit set."""
        return sum(1 << byte for byte in b'{["-0123456789tfn')


@dataclass(frozen=True, slots=True)
class Concat:
    """One after the other; none is the empty word."""

    items: "tuple[Term, ...]"


@dataclass(frozen=True, slots=True)
class Choice:
    """Any one; none is the empty language."""

    items: "tuple[Term, ...]"


@dataclass(frozen=True, slots=True)
class Repeat:
    """`item` between `low` and `high` times; without a bound if `high` is None."""

    item: "Term"
    low: int
    high: int | None


Leaf: TypeAlias = Word | Call | Json
Term: TypeAlias = Leaf | Concat | Choice | Repeat

EMPTY = Concat(())


@dataclass(frozen=True, slots=True)
class Schema:
    """A JSON Schema inside a grammar, with its name and place in it for errors."""

    value: Any
    name: str
    pointer: str = ""

    def named(self, message: str) -> str:
        """A message that says which schema it is about; the whole constraint needs no name."""
        return f"{self.name}: {message}" if self.name else message


@dataclass(frozen=True, slots=True)
class Rules:
    """A whole grammar: every name that a body calls is a key of `bodies`."""

    start: str
    bodies: Mapping[str, Term]
    schemas: "tuple[Schema, ...]" = ()
    notes: tuple[str, ...] = field(default=())
    roots: Mapping[str, int] = field(default_factory=dict)
    """Rules that no body calls but that a reading may enter all the same: the bytes that follow them, as a bit set."""


def text(value: str) -> Term:
    """Exactly this text."""
    return _literal(encoded(value)) if value else EMPTY


def encoded(value: str) -> bytes:
    """The text in UTF-8, which has no lone surrogates."""
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise GrammarError(f"lone surrogates are not text: {value[:40]!r}") from None


@lru_cache(maxsize=4096)
def _literal(raw: bytes) -> Term:
    return Word(literal_language([raw]))


def sequence(items: Sequence[Term]) -> Term:
    """The items one after the other, flat."""
    flat: list[Term] = []
    for item in items:
        flat.extend(item.items if isinstance(item, Concat) else (item,))
    return flat[0] if len(flat) == 1 else Concat(tuple(flat))


def choice(items: Sequence[Term]) -> Term:
    """Any one of the items."""
    return items[0] if len(items) == 1 else Choice(tuple(items))


def optional(item: Term) -> Term:
    """The item or nothing."""
    return Repeat(item, 0, 1)


def children(term: Term) -> tuple[Term, ...]:
    """The direct parts of a term."""
    if isinstance(term, Concat | Choice):
        return term.items
    return (term.item,) if isinstance(term, Repeat) else ()


def called(term: Term) -> set[str]:
    """The names that a term calls."""
    found: set[str] = set()
    todo = [term]
    while todo:
        part = todo.pop()
        if isinstance(part, Call):
            found.add(part.name)
        todo.extend(children(part))
    return found


def renamed(term: Term, prefix: str, offset: int) -> Term:
    """The term with `prefix` before every name it calls and `offset` added to the numbers of its schemas."""
    if isinstance(term, Call):
        return Call(prefix + term.name)
    if isinstance(term, Json):
        return Json(term.number + offset)
    if isinstance(term, Repeat):
        return Repeat(renamed(term.item, prefix, offset), term.low, term.high)
    if isinstance(term, Word):
        return term
    return type(term)(tuple(renamed(item, prefix, offset) for item in term.items))
