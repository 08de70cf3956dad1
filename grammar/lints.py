"""What the author of a schema probably did not mean: what can never be, what never ends, and why nothing satisfies it.

Judged over formulas of their own, so that no decision taken here, least of all one that met a limit, reaches a
generation. The work is bounded: beyond `MOST_DECIDED` decisions nothing more is said, and nothing is said on a guess.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from grammar.errors import GrammarError, UnsatisfiableConstraint
from grammar.formula import Formula
from grammar.frames.satisfy import Satisfiability
from grammar.lexical.ecma import parse
from grammar.lexical.endings import is_endless
from grammar.schema.documents import Draft, Place
from grammar.schema.keywords import KEYWORDS, Schema, equals

MOST_DECIDED: Final = 600
MOST_PLACES: Final = 200
MOST_VALUES: Final = 40
MOST_SHOWN: Final = 5
MOST_BLAMED: Final = 30
_NOTHING: Final[tuple[object, ...]] = ({}, True)
"""What authors negate to say that nothing is meant to come."""
_RECURSION: Final = "each value would need another one inside, without end"
NEVER: Final = "nothing satisfies this"
_APART: Final = frozenset(["unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef"])
"""Keywords whose meaning changes when a sibling is taken away."""


@dataclass(frozen=True, slots=True)
class Lint:
    """One finding, and where it stands."""

    pointer: str
    message: str

    def __str__(self) -> str:
        return f"{self.pointer or '#'}: {self.message}"


class _Doubt(Exception):
    """A limit was met: nothing more can be said."""


def lints(schema: Schema) -> list[Lint]:
    """The findings of a schema, which must not be the one that a grammar was made of: its formulas are used up."""
    linter, found = _Linter(schema), list[Lint]()
    try:
        for lint in linter.findings():
            found.append(lint)
    except (_Doubt, GrammarError, RecursionError):
        pass  # what was found so far is true
    return list(dict.fromkeys(found))


def unsatisfiable(schema: Schema) -> UnsatisfiableConstraint:
    """The error of a schema that nothing satisfies: where, and which keywords leave nothing between them."""
    place, words = schema.documents.root, list[str]()
    try:
        for found in _Linter(schema).culprits(place):
            place, words = found
    except (_Doubt, GrammarError, RecursionError):
        pass  # the last one known to be unsatisfiable is named
    if not words:
        return UnsatisfiableConstraint("no value satisfies this schema", pointer=place.pointer)
    if words == [_RECURSION]:
        return UnsatisfiableConstraint(f"no value satisfies this schema: {_RECURSION}", pointer=place.pointer)
    told = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]} together"
    where = f"{place.pointer}/{words[0]}" if len(words) == 1 else place.pointer
    return UnsatisfiableConstraint(
        f"no value satisfies this schema: {told} leave{'s' * (len(words) == 1)} nothing",
        pointer=where,
        keyword=words[-1],
    )


class _Linter:
    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._judge = Satisfiability(schema.pool, ordered=False, strict=False)
        self._judge.patience = MOST_DECIDED

    def findings(self) -> Iterator[Lint]:
        """Place by place, the outermost first; below what nothing satisfies nothing more is said."""
        barren: list[str] = []
        for number, place in enumerate(self._schema.reach.places):
            if number >= MOST_PLACES:
                return
            if any(place.pointer.startswith(above + "/") for above in barren):
                continue
            if any(place.raw.get("not") == nothing for nothing in _NOTHING):
                continue
            if not self._possible(self._formula(place)):
                barren.append(place.pointer)
                yield Lint(place.pointer, f"{NEVER}: no value can come here")
                continue
            yield from self._within(place)

    def _within(self, place: Place) -> Iterator[Lint]:
        raw = place.raw
        if place.draft <= Draft.DRAFT7 and "$ref" in raw:
            return
        if isinstance(raw.get("pattern"), str) and "maxLength" not in raw and is_endless(parse(raw["pattern"])):
            yield Lint(f"{place.pointer}/pattern", "matches texts of any length: only the token budget ends one")
        if not _APART.isdisjoint(raw):
            return
        for keyword, check in _CHECKS.items():
            if keyword in raw and KEYWORDS[keyword][0] <= place.draft <= KEYWORDS[keyword][1]:
                rest = self._formula(place, {k: v for k, v in raw.items() if k != keyword})
                yield from check(self, place, rest)

    # ---------------------------------------------------------------- one keyword beside its siblings

    def branches(self, place: Place, rest: Formula, keyword: str) -> Iterator[Lint]:
        """Alternatives that nothing can take."""
        whole, pool = self._formula(place), self._schema.pool
        for i, raw in enumerate(place.raw[keyword]):
            branch = self._formula(place.child(raw, keyword, i))
            if raw is False:
                continue
            where = f"{place.pointer}/{keyword}/{i}"
            if not self._possible(pool.all_of([rest, branch])):
                yield Lint(where, "this branch is never taken: nothing satisfies it here")
            elif not self._possible(pool.all_of([whole, branch])):
                yield Lint(where, "this branch is never taken: whatever satisfies it satisfies another one too")

    def values(self, place: Place, rest: Formula) -> Iterator[Lint]:
        """Listed values that the siblings exclude."""
        pool, where = self._schema.pool, f"{place.pointer}/enum"
        excluded = [
            value
            for value in place.raw["enum"][:MOST_VALUES]
            if not self._possible(pool.all_of([rest, equals(self._schema, value, where)]))
        ]
        if excluded:
            shown = ", ".join(repr(value)[:30] for value in excluded[:MOST_SHOWN])
            more = f" and {len(excluded) - MOST_SHOWN} more" if len(excluded) > MOST_SHOWN else ""
            yield Lint(where, f"never comes, for the keywords beside it exclude it: {shown}{more}")

    def negation(self, place: Place, rest: Formula) -> Iterator[Lint]:
        """Exclusions of what is excluded already."""
        excluded = self._formula(place.child(place.raw["not"], "not"))
        if not self._possible(self._schema.pool.all_of([rest, excluded])):
            yield Lint(f"{place.pointer}/not", "does nothing: nothing here satisfies what it excludes")

    def condition(self, place: Place, rest: Formula) -> Iterator[Lint]:
        """Conditions that always or never hold."""
        pool, condition = self._schema.pool, self._formula(place.child(place.raw["if"], "if"))
        for keyword, side in (("then", condition), ("else", pool.negate(condition))):
            branch = self._formula(place.child(place.raw.get(keyword, True), keyword))
            if keyword in place.raw and not self._possible(pool.all_of([rest, side, branch])):
                holds = self._possible(pool.all_of([rest, side]))
                reason = "nothing satisfies it where it applies" if holds else "its condition never applies"
                yield Lint(f"{place.pointer}/{keyword}", f"this branch is never taken: {reason}")

    # ---------------------------------------------------------------- blame

    def culprits(self, place: Place) -> Iterator[tuple[Place, list[str]]]:
        """Smaller and smaller reasons why nothing satisfies a place: the place, and keywords that leave nothing."""
        seen: set[int] = set()
        while len(seen) < MOST_BLAMED:
            place = self._schema.documents.entered(place)
            if id(place.raw) in seen:
                yield place, [_RECURSION]
                return
            seen.add(id(place.raw))
            words = self._conflict(place)
            yield place, words
            inner = self._inside(place, words)
            if inner is None:
                return
            place = inner

    def _conflict(self, place: Place) -> list[str]:
        """A least set of keywords that leaves nothing."""
        raw = place.raw
        if not isinstance(raw, dict):
            return []
        kept = {k: v for k, v in raw.items() if k in KEYWORDS or k in ("then", "else")}
        if _APART.isdisjoint(raw) and not (place.draft <= Draft.DRAFT7 and "$ref" in raw):
            for keyword in [k for k in kept if k not in ("then", "else")]:
                less = {k: v for k, v in kept.items() if k != keyword}
                if not self._possible(self._formula(place, less)):
                    kept = less
        return [k for k in kept if k not in ("then", "else") or "if" in kept]

    def _inside(self, place: Place, words: list[str]) -> Place | None:
        """The one subschema that is to blame, if it is one."""
        raw = place.raw
        references = [k for k in words if k in self._schema.references(place)]
        if references and (len(words) == 1 or place.draft <= Draft.DRAFT7):
            return self._schema.target(place, references[0])
        inner: list[Place] = []
        beyond_type = [k for k in words if k != "type"]
        if set(beyond_type) == {"properties", "required"}:
            named = raw["properties"]
            inner = [place.child(named[n], "properties", n) for n in raw["required"] if n in named]
        elif words in (["allOf"], ["anyOf"], ["oneOf"]):
            inner = [place.child(each, words[0], i) for i, each in enumerate(raw[words[0]])]
        elif set(beyond_type) == {"items", "minItems"} and not isinstance(raw["items"], list):
            inner = [place.child(raw["items"], "items")]
        elif beyond_type == ["contains"]:
            inner = [place.child(raw["contains"], "contains")]
        return next((each for each in inner if not self._possible(self._formula(each))), None)

    # ---------------------------------------------------------------- judging

    def _formula(self, place: Place, raw: Mapping[str, Any] | None = None) -> Formula:
        """What a place asserts, or would assert with these keywords."""
        if raw is None:
            return self._schema.at(place).formula()
        return self._schema.build(Place(raw, place.base, place.pointer, place.draft, place.scope))

    def _possible(self, formula: Formula) -> bool:
        """Whether something satisfies a formula; `_Doubt` if that is not certain."""
        found = self._judge(formula)
        if self._judge.failures:
            raise _Doubt
        return found


_CHECKS: Final[Mapping[str, Callable[[_Linter, Place, Formula], Iterator[Lint]]]] = {
    "anyOf": lambda linter, place, rest: linter.branches(place, rest, "anyOf"),
    "oneOf": lambda linter, place, rest: linter.branches(place, rest, "oneOf"),
    "enum": _Linter.values,
    "not": _Linter.negation,
    "if": _Linter.condition,
}
