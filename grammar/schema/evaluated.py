"""unevaluatedProperties and unevaluatedItems: what no other keyword about the same value has looked at.

Which members are evaluated depends on which subschemas hold, and whether those hold is a formula like any other. So
"every member is evaluated or satisfies U" becomes, for each kind of member, a clause: such members satisfy U, or one of
the subschemas that look at them holds. Only conditions that may fail are spelled out: where an `allOf` or `$ref` fails,
the whole schema does, and then it does not matter what was evaluated.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from grammar.errors import GrammarError, GrammarTooLarge
from grammar.formula import TRUE, Formula, Formulas
from grammar.frames.languages import holds
from grammar.schema.atoms import OBJECT, Child, Given, Items, Leftovers, OfType, Pattern, Properties, Required
from grammar.schema.documents import Draft, Place

if TYPE_CHECKING:
    from grammar.schema.keywords import Schema

MAX_SOURCES: Final = 400
MAX_CONDITIONS: Final = 6
"""So many patterns, or `contains`, may depend on conditions: their combinations are told apart."""


@dataclass(frozen=True, slots=True)
class Source:
    """A schema object that looks at members of the value if `condition` holds."""

    condition: Formula
    place: Place


class Either:
    """The child that asserts one of several; built when first asked, for it may lead back to where it stands."""

    __slots__ = ("_pool", "children", "pointer")

    def __init__(self, pool: Formulas, children: Iterable[Child], pointer: str) -> None:
        self._pool = pool
        self.children = tuple(children)
        self.pointer = pointer

    def formula(self) -> Formula:
        """What it asserts."""
        return self._pool.any_of(child.formula() for child in self.children)


def sources(schema: "Schema", place: Place) -> list[Source]:
    """The schema object itself and all that it applies to the same value."""
    found: list[Source] = []
    todo = [Source(TRUE, place)]
    while todo:
        source = todo.pop()
        here = schema.documents.entered(source.place)
        if not isinstance(here.raw, dict):
            continue
        found.append(Source(source.condition, here))
        if len(found) > MAX_SOURCES:
            # Either a circle of references, which no value escapes, or more than anyone writes.
            raise GrammarTooLarge(f"unevaluated members under more than {MAX_SOURCES} schemas", pointer=place.pointer)
        for condition, below in _in_place(schema, here):
            todo.append(Source(schema.pool.all_of([source.condition, condition]), below))
    return found


def _in_place(schema: "Schema", place: Place) -> Iterator[tuple[Formula, Place]]:
    """(condition, subschema) for each subschema that a schema object applies to the same value."""
    raw, pool = place.raw, schema.pool
    for keyword in schema.references(place):
        yield TRUE, schema.target(place, keyword)
    for i, each in enumerate(raw.get("allOf", ())):
        yield TRUE, place.child(each, "allOf", i)
    for keyword in ("anyOf", "oneOf"):
        for i, each in enumerate(raw.get(keyword, ())):
            branch = schema.child(place, each, keyword, i)
            yield branch.formula(), branch.place
    if "if" in raw:
        yield from _conditional(schema, place)
    for keyword in ("dependentSchemas", "dependencies"):
        for name, each in raw.get(keyword, {}).items():
            if isinstance(each, (dict, bool)):
                yield present(pool, name), place.child(each, keyword, name)


def _conditional(schema: "Schema", place: Place) -> Iterator[tuple[Formula, Place]]:
    raw, test = place.raw, schema.child(place, place.raw["if"], "if")
    yield test.formula(), test.place
    if "then" in raw:
        yield test.formula(), place.child(raw["then"], "then")
    if "else" in raw:
        yield schema.pool.negate(test.formula()), place.child(raw["else"], "else")


def present(pool: Formulas, name: str) -> Formula:
    """The formula that the value is an object with this key."""
    return pool.all_of([pool.literal(OfType(frozenset([OBJECT]))), pool.literal(Required(frozenset([name])))])


def unevaluated_properties(schema: "Schema", place: Place, keyword: str) -> Formula:
    """Every member satisfies the keyword's schema, or was evaluated."""
    pool, rest = schema.pool, schema.child(place, place.raw[keyword], keyword)
    everything, names, patterns = _looked_at(schema, place, keyword)
    if rest.place.raw is True or everything is TRUE:
        return TRUE
    clauses: list[Formula] = []
    for cover, group in _grouped(pool, names, patterns).items():
        members = Properties(dict.fromkeys(group, rest), (), None, rest.pointer)
        clauses.append(pool.any_of([cover, everything, pool.literal(members)]))
    certain = [p for p, cover in patterns.items() if cover is TRUE]
    uncertain = [p for p in patterns if p not in certain]
    if len(uncertain) > MAX_CONDITIONS:
        raise _too_many(rest.pointer, keyword, "patterns")
    blank = Given(TRUE, rest.pointer)
    named, patterned = dict.fromkeys(names, blank), tuple((p, blank) for p in patterns)
    for matched in _subsets(uncertain):
        members = Leftovers(named, patterned, rest, rest.pointer, matched=frozenset(matched))
        clauses.append(pool.any_of([*(patterns[p] for p in matched), everything, pool.literal(members)]))
    return pool.all_of(clauses)


def _looked_at(schema: "Schema", place: Place, keyword: str) -> tuple[Formula, dict[str, Formula], dict[str, Formula]]:
    """Under which conditions all members are evaluated, those of each name, and those of each pattern."""
    pool = schema.pool
    everything: list[Formula] = []
    names: dict[str, list[Formula]] = {}
    patterns: dict[str, list[Formula]] = {}
    for source in sources(schema, place):
        raw = source.place.raw
        own = raw is place.raw
        if "additionalProperties" in raw or (keyword in raw and not own):
            everything.append(source.condition)
        for name in raw.get("properties", ()):
            names.setdefault(name, []).append(source.condition)
        for pattern in raw.get("patternProperties", ()):
            patterns.setdefault(pattern, []).append(source.condition)
    return (
        pool.any_of(everything),
        {name: pool.any_of(found) for name, found in names.items()},
        {pattern: pool.any_of(found) for pattern, found in patterns.items()},
    )


def _grouped(pool: Formulas, names: dict[str, Formula], patterns: dict[str, Formula]) -> dict[Formula, list[str]]:
    """The names by the condition under which they are evaluated, patterns that match them included."""
    found: dict[Formula, list[str]] = {}
    for name, cover in names.items():
        matching = (condition for p, condition in patterns.items() if holds(Pattern(p, ""), name))
        found.setdefault(pool.any_of([cover, *matching]), []).append(name)
    return found


def unevaluated_items(schema: "Schema", place: Place, keyword: str) -> Formula:
    """Every item satisfies the keyword's schema, or was evaluated."""
    pool, rest = schema.pool, schema.child(place, place.raw[keyword], keyword)
    everything: list[Formula] = []
    prefixes: list[tuple[Formula, int]] = []
    looking: list[tuple[Formula, Child]] = []
    for source in sources(schema, place):
        raw, condition = source.place.raw, source.condition
        count, whole = _prefix(source.place)
        if whole or (keyword in raw and raw is not place.raw):
            everything.append(condition)
        prefixes.append((condition, count))
        # From 2020-12 on `contains` evaluates the items that it matches.
        if "contains" in raw and source.place.draft >= Draft.DRAFT2020:
            looking.append((condition, schema.child(source.place, raw["contains"], "contains")))
    escape = pool.any_of(everything)
    if rest.place.raw is True or escape is TRUE:
        return TRUE
    certain = [child for condition, child in looking if condition is TRUE]
    uncertain = [(condition, child) for condition, child in looking if condition is not TRUE]
    if len(uncertain) > MAX_CONDITIONS:
        raise _too_many(rest.pointer, keyword, "contains")
    ways = []
    for chosen in _subsets(uncertain):
        child = Either(pool, [rest, *certain, *(child for _, child in chosen)], rest.pointer)
        ways.append(pool.all_of([*(c for c, _ in chosen), *_positions(pool, child, prefixes, escape)]))
    return pool.any_of(ways)


def _prefix(place: Place) -> tuple[int, bool]:
    """How many leading items a schema object looks at by position, and whether it looks at all others too."""
    raw = place.raw
    if isinstance(raw.get("items"), list):
        return len(raw["items"]), "additionalItems" in raw
    prefix = raw.get("prefixItems", ()) if place.draft >= Draft.DRAFT2020 else ()
    return len(prefix), "items" in raw


def _positions(pool: Formulas, child: Child, prefixes: list[tuple[Formula, int]], escape: Formula) -> Iterator[Formula]:
    """For each run of positions that the same sources look at: its items satisfy `child`, or a source holds."""
    blank = Given(TRUE, child.pointer)
    ends = sorted({count for _, count in prefixes if count})
    for low, high in zip([0, *ends], ends, strict=False):
        cover = pool.any_of(condition for condition, count in prefixes if count >= high)
        atom = Items((blank,) * low + (child,) * (high - low), None, 0)
        yield pool.any_of([cover, escape, pool.literal(atom)])
    yield pool.any_of([escape, pool.literal(Items((blank,) * (ends[-1] if ends else 0), child, 0))])


def _subsets(members: list[Any]) -> Iterator[tuple[Any, ...]]:
    for size in range(len(members) + 1):
        yield from combinations(members, size)


def _too_many(pointer: str, keyword: str, what: str) -> GrammarError:
    message = f"{keyword} beside more than {MAX_CONDITIONS} {what} that apply under conditions"
    return GrammarTooLarge(message, pointer=pointer, keyword=keyword)
