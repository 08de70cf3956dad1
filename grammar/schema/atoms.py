"""What a schema can assert about one value: the atoms of its formula, each about one JSON type (or about the type).

An atom says nothing about values of other types, as the specification has it: there it is true. Children of objects
and arrays are named by `Location`s and become formulas only when a generation enters them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Protocol

from grammar.formula import FALSE, TRUE, Formula, Formulas, Kind, certain
from grammar.lexical import Dfa
from grammar.rules.terms import Rules

OBJECT: Final = "object"
ARRAY: Final = "array"
STRING: Final = "string"
NUMBER: Final = "number"
TRUE_VALUE: Final = "true"
FALSE_VALUE: Final = "false"
NULL: Final = "null"
TYPES: Final = (OBJECT, ARRAY, STRING, NUMBER, TRUE_VALUE, FALSE_VALUE, NULL)
ALL_TYPES: Final = frozenset(TYPES)


Constant = tuple[str, Any]
"""A JSON value, hashable, equal as JSON: (kind, content); see `grammar.schema.constants`."""


class Child(Protocol):
    """A subschema that becomes a formula when first asked."""

    def formula(self) -> Formula:
        """What it asserts."""
        ...

    @property
    def pointer(self) -> str:
        """Where it stands in the schema."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A child whose formula is already known (constants, `true`, `false`)."""

    known: Formula
    pointer: str

    def formula(self) -> Formula:
        """What it asserts."""
        return self.known


@dataclass(frozen=True, slots=True)
class OfType:
    """The value's type is among these."""

    types: frozenset[str]
    domain = None


@dataclass(frozen=True, slots=True)
class Pattern:
    """The string contains a match of this ECMA-262 pattern."""

    text: str
    pointer: str
    domain = STRING


@dataclass(frozen=True, slots=True)
class Length:
    """The string has between `least` and `most` characters."""

    least: int
    most: int | None
    domain = STRING


@dataclass(frozen=True, slots=True)
class Format:
    """The string is in this format."""

    name: str
    pointer: str
    draft: int = 9
    domain = STRING


@dataclass(frozen=True, slots=True, eq=False)
class WordOf:
    """The string is a word of a regular language that belongs to this schema alone, so nothing else remembers it."""

    words: Dfa
    pointer: str
    domain = STRING


@dataclass(frozen=True, slots=True, eq=False)
class Derived:
    """The string is derived by a grammar that recurses, so no automaton tells."""

    rules: Rules
    least: str
    """A short text that it derives; the empty one, if it does."""
    pointer: str
    domain = STRING


@dataclass(frozen=True, slots=True)
class OneOfStrings:
    """The string is one of these."""

    values: frozenset[str]
    domain = STRING


@dataclass(frozen=True, slots=True)
class Whole:
    """The number has no fraction; `plain`: nor is it spelled with one or with an exponent (draft 4's integers).

    `tidy`: where it must hold, it is to be spelled so. Its negation is about values still: 1.0 is no other than 1.
    """

    plain: bool = False
    tidy: bool = False
    domain = NUMBER


@dataclass(frozen=True, slots=True)
class Range:
    """The number lies between two bounds, each exclusive or not."""

    least: Decimal | None
    most: Decimal | None
    least_open: bool
    most_open: bool
    domain = NUMBER


@dataclass(frozen=True, slots=True)
class MultipleOf:
    """The number is a multiple of this one."""

    step: Decimal
    domain = NUMBER


@dataclass(frozen=True, slots=True)
class OneOfNumbers:
    """The number equals one of these."""

    values: frozenset[Decimal]
    domain = NUMBER


@dataclass(frozen=True, slots=True, eq=False)
class Properties:
    """properties, patternProperties and additionalProperties of one schema: what each key asks of its value."""

    named: Mapping[str, Child]
    patterned: tuple[tuple[str, Child], ...]
    additional: Child | None
    pointer: str
    constant: bool = False
    """Part of a constant, whose members may come in any order whatever the option."""
    domain = OBJECT

    def asked_of(self, name: str | None, matches: frozenset[str]) -> list[Child]:
        """The children that judge the value under a key, given its name (None: not a known one) and its patterns."""
        found = [self.named[name]] if name is not None and name in self.named else []
        found += [child for pattern, child in self.patterned if pattern in matches]
        if not found and self.additional is not None:
            found = [self.additional]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Leftovers(Properties):
    """`additional` judges the keys that are not named here and match, of the patterns here, exactly those `matched`."""

    matched: frozenset[str] = frozenset()

    def asked_of(self, name: str | None, matches: frozenset[str]) -> list[Child]:
        """The child, if the key is one of these."""
        if name in self.named or self.additional is None:
            return []
        own = frozenset(pattern for pattern, _ in self.patterned)
        return [self.additional] if matches & own == self.matched else []


@dataclass(frozen=True, slots=True)
class Required:
    """These keys are all present. Shrinks as they come."""

    names: frozenset[str]
    domain = OBJECT


@dataclass(frozen=True, slots=True)
class PropertyCount:
    """Between `least` and `most` further members come."""

    least: int
    most: int | None
    domain = OBJECT


@dataclass(frozen=True, slots=True, eq=False)
class PropertyNames:
    """Every key, as a string, satisfies this schema."""

    names: Child
    domain = OBJECT


@dataclass(frozen=True, slots=True)
class Items:
    """What the items from position `at` on must satisfy: `prefix` by position, then `rest`."""

    prefix: tuple[Child, ...]
    rest: Child | None
    at: int
    domain = ARRAY


@dataclass(frozen=True, slots=True)
class ItemCount:
    """Between `least` and `most` further items come."""

    least: int
    most: int | None
    domain = ARRAY


@dataclass(frozen=True, slots=True)
class Contains:
    """Between `least` and `most` further items satisfy `item`."""

    item: Child
    least: int
    most: int | None
    domain = ARRAY


@dataclass(frozen=True, slots=True)
class Unique:
    """No further item equals one of `seen` or another further item."""

    seen: frozenset[Constant]
    unknown: int = 0
    """So many items have come whose values could not be told: looking ahead within one token."""
    domain = ARRAY


@dataclass(frozen=True, slots=True)
class OneOfObjects:
    """The members still to come are, all together, those of one of these objects."""

    values: frozenset[frozenset[tuple[str, Constant]]]
    domain = OBJECT


@dataclass(frozen=True, slots=True)
class MemberAmong:
    """The value of the member whose key was read is one of these, and the members after it are one of `then`."""

    values: frozenset[Constant]
    then: frozenset[frozenset[tuple[str, Constant]]]
    domain = OBJECT


@dataclass(frozen=True, slots=True)
class OneOfArrays:
    """The items still to come are, all together, those of one of these arrays."""

    values: frozenset[tuple[Constant, ...]]
    domain = ARRAY


@dataclass(frozen=True, slots=True)
class ItemAmong:
    """The next item is one of these values, and the items after it are one of `then`."""

    values: frozenset[Constant]
    then: frozenset[tuple[Constant, ...]]
    domain = ARRAY


Atom = Any


def restrict(pool: Formulas, formula: Formula, kind: str) -> Formula:
    """What the formula asks of a value of type `kind`: other types' atoms hold, type atoms are decided.

    Remembered part by part: formulas are mostly new combinations of parts that were asked about before.
    """
    if formula.kind <= Kind.TRUE:
        return formula
    if formula.kind is Kind.LITERAL:
        return _restricted_literal(formula, kind)
    key = ("type", kind)
    found = formula.memo.get(key)
    if found is None:
        found = formula.memo[key] = pool.rebuilt(formula, [restrict(pool, f, kind) for f in formula.args])
    return found


def possible_types(formula: Formula) -> frozenset[str]:
    """The types that are left by what the formula says of types in so many words."""
    found: frozenset[str] | None = formula.memo.get("types")
    if found is None:
        found = ALL_TYPES.intersection(*(a.types for a in certain(formula) if isinstance(a, OfType)))
        formula.memo["types"] = found
    return found


def _restricted_literal(formula: Formula, kind: str) -> Formula:
    atom = formula.atom
    if isinstance(atom, OfType):
        return TRUE if (kind in atom.types) is formula.positive else FALSE
    if atom.domain == kind:
        return formula
    return TRUE if formula.positive else FALSE
