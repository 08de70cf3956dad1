"""Each JSON Schema keyword as a formula: one function per family, one table that names them all.

A keyword that is neither here nor an annotation is unknown, and the specification says unknown keywords are ignored;
`Schema.notes` lists them. A keyword that is known but not enforceable raises `UnsupportedConstraint`.
"""

# ruff: noqa: ARG001  (all rules of the table have one signature)
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

from grammar.errors import GrammarError, GrammarTooLarge, UnsupportedConstraint
from grammar.formula import FALSE, POINTER, TRUE, Formula, Formulas
from grammar.lexical import quotations
from grammar.lexical.ecma import parse
from grammar.lexical.formats import FORMATS, INEXACT_FORMATS, UNDECIDABLE
from grammar.lexical.numbersets import MOST_SPELLED_FREELY, NOTE
from grammar.schema.atoms import (
    ALL_TYPES,
    ARRAY,
    FALSE_VALUE,
    NULL,
    NUMBER,
    OBJECT,
    STRING,
    TRUE_VALUE,
    Child,
    Contains,
    Derived,
    Format,
    Given,
    ItemCount,
    Items,
    Length,
    MultipleOf,
    OfType,
    OneOfNumbers,
    OneOfStrings,
    Pattern,
    Properties,
    PropertyCount,
    PropertyNames,
    Range,
    Required,
    Unique,
    Whole,
    WordOf,
)
from grammar.schema.constants import constant_of, equal_to
from grammar.schema.contents import content
from grammar.schema.documents import Documents, Draft, Place
from grammar.schema.evaluated import present, unevaluated_items, unevaluated_properties
from grammar.schema.reach import Reach
from grammar.schema.validity import check, is_number

_TYPE_NAMES: Final[Mapping[str, frozenset[str]]] = {
    "object": frozenset([OBJECT]),
    "array": frozenset([ARRAY]),
    "string": frozenset([STRING]),
    "number": frozenset([NUMBER]),
    "integer": frozenset([NUMBER]),
    "boolean": frozenset([TRUE_VALUE, FALSE_VALUE]),
    "null": frozenset([NULL]),
    "any": ALL_TYPES,
}

ANNOTATIONS: Final = frozenset(
    ["$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$comment", "$defs", "definitions",
     "title",
     "$vocabulary", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly",
     "contentEncoding", "contentMediaType", "contentSchema"]
)  # fmt: skip
MAX_IN_PLACE: Final = 120


class Location:
    """A subschema of the documents as a `Child`: its formula is built when first asked, once."""

    __slots__ = ("_formula", "_schema", "place")

    def __init__(self, schema: "Schema", place: Place) -> None:
        self._schema = schema
        self.place = place
        self._formula: Formula | None = None

    @property
    def pointer(self) -> str:
        """Where it stands in the schema."""
        return self.place.pointer

    def formula(self) -> Formula:
        """What it asserts."""
        if self._formula is None:
            self._formula = self._schema.build(self.place)
            if self._formula.kind > TRUE.kind:
                self._formula.memo.setdefault(POINTER, self.place.pointer)
        return self._formula

    def __repr__(self) -> str:
        return f"<{self.pointer or '#'}>"


class Schema:
    """One JSON Schema with its documents, becoming formulas on demand."""

    def __init__(
        self,
        raw: Any,
        documents: Mapping[str, Any],
        *,
        formats: str = "assert",
        source: str | None = None,
        tidy: bool = False,
        pool: Formulas | None = None,
    ) -> None:
        if not isinstance(raw, (dict, bool)):
            raise GrammarError(f"a schema is an object or a boolean, not {type(raw).__name__}")
        self.pool = Formulas() if pool is None else pool
        self.documents = Documents(raw, documents, Draft.DRAFT2020, check)
        self.formats = formats
        self.tidy = tidy
        self._source = source
        self._quotations: dict[bool, WordOf] = {}
        self._contents: dict[int, WordOf | Derived] = {}
        self.notes: dict[tuple[str, str], str] = {}
        self._locations: dict[tuple[int, str, Draft, tuple[str, ...]], Location] = {}
        self._open: set[tuple[int, tuple[str, ...]]] = set()
        self.root = self.at(self.documents.root)

    def at(self, place: Place) -> Location:
        """The one Location of a place."""
        key = (id(place.raw), place.base, place.draft, place.scope)
        if isinstance(place.raw, bool):
            return Location(self, place)
        found = self._locations.get(key)
        if found is None:
            found = self._locations[key] = Location(self, place)
        return found

    def build(self, place: Place) -> Formula:
        """The formula of a subschema."""
        raw = place.raw
        if raw is True:
            return TRUE
        if raw is False:
            return FALSE
        if not isinstance(raw, dict):
            raise GrammarError(f"a schema is an object or a boolean, not {type(raw).__name__}", pointer=place.pointer)
        place = self.documents.entered(place)
        key = (id(raw), place.scope)
        if key in self._open:
            raise GrammarError("this reference leads back to itself without entering a value", pointer=place.pointer)
        if len(self._open) > MAX_IN_PLACE:
            raise GrammarTooLarge(
                f"more than {MAX_IN_PLACE} applicators and references in one place", pointer=place.pointer
            )
        self._open.add(key)
        try:
            return self._assemble(place)
        finally:
            self._open.discard(key)

    @cached_property
    def reach(self) -> Reach:
        """Every schema object that a value or a part of one may be judged by, once."""
        return Reach.of(self.documents, self.references)

    def check(self) -> None:
        """Refuse what cannot be enforced anywhere within reach, before any of it is entered. Builds no automaton."""
        for place in self.reach.places:
            if not _REFUSABLE.isdisjoint(place.raw):
                self._check_keywords(place)

    def _check_keywords(self, place: Place) -> None:
        raw = place.raw
        for keyword in _CHECKED:
            if keyword in raw and KEYWORDS[keyword][0] <= place.draft <= KEYWORDS[keyword][1]:
                KEYWORDS[keyword][2](self, place, keyword)
        for pattern in raw.get("patternProperties") or ():
            check_pattern(pattern, f"{place.pointer}/patternProperties", "patternProperties")

    def quotation(self, pointer: str, *, empty: bool) -> WordOf:
        """That a string is quoted from the text given along; one automaton serves every place."""
        if self._source is None:
            reason = "the text to quote from was not given (`source`)"
            raise GrammarError(f"x-source: {reason}", pointer=pointer, keyword="x-source", reason=reason)
        found = self._quotations.get(empty)
        if found is None:
            found = self._quotations[empty] = WordOf(quotations(self._source, empty=empty), pointer)
        return found

    def content(self, value: Any, pointer: str) -> WordOf | Derived:
        """That a string follows the grammar of this value, read once."""
        found = self._contents.get(id(value))
        if found is None:
            found = self._contents[id(value)] = content(value, pointer)
        return found

    @property
    def derived(self) -> tuple[Derived, ...]:
        """The grammars within reach that recurse; all are known once `check` has been called."""
        return tuple(atom for atom in self._contents.values() if isinstance(atom, Derived))

    def references(self, place: Place) -> list[str]:
        """The keywords of a schema object that refer to another."""
        return [k for k in _REFERENCES if k in place.raw and KEYWORDS[k][0] <= place.draft <= KEYWORDS[k][1]]

    def target(self, place: Place, keyword: str) -> Place:
        """The subschema that a reference names, on the dynamic scope where that matters."""
        reference = place.raw[keyword]
        target = self.documents.resolve(place, reference, keyword)
        if self.documents.is_dynamic:
            target = Place(target.raw, target.base, target.pointer, target.draft, place.scope)
            if keyword != "$ref":
                target = self._dynamic_target(place, keyword, reference, target)
        return target

    def _dynamic_target(self, place: Place, keyword: str, reference: str, target: Place) -> Place:
        """The outermost resource of the dynamic scope that has the same dynamic anchor, if the first target has it."""
        anchor = "$recursiveAnchor" if keyword == "$recursiveRef" else reference.partition("#")[2]
        if self.documents.dynamic(target.base, anchor) is None:
            return target
        for uri in (*place.scope, target.base):
            found = self.documents.dynamic(uri, anchor)
            if found is not None:
                return Place(found.raw, found.base, found.pointer, found.draft, place.scope)
        return target

    def child(self, place: Place, raw: Any, *path: str | int) -> Location:
        """The Location of a subschema below `place`."""
        return self.at(place.child(raw, *path))

    def _assemble(self, place: Place) -> Formula:
        raw: dict[str, Any] = place.raw
        if place.draft <= Draft.DRAFT7 and isinstance(raw.get("$ref"), str):
            return _reference(self, place, "$ref")
        parts: list[Formula] = []
        done: set[str] = set()
        for keyword in raw:
            rule = KEYWORDS.get(keyword)
            if rule is None:
                if keyword not in ANNOTATIONS:
                    self.notes[place.pointer, keyword] = "unknown keyword: an annotation"
                continue
            since, until, build = rule
            if not since <= place.draft <= until:
                self.notes[place.pointer, keyword] = "not a keyword of this draft: an annotation"
                continue
            if not self.documents.has_vocabulary(place, _vocabulary_of(keyword, place.draft)):
                self.notes[place.pointer, keyword] = "not in the vocabularies of its metaschema: an annotation"
                continue
            if build in _ONCE:
                if build.__name__ in done:
                    continue
                done.add(build.__name__)
            part = build(self, place, keyword)
            if part is FALSE:
                return FALSE
            parts.append(part)
        return self.pool.all_of(parts)


def decimal(value: object) -> Decimal:
    """The exact decimal that a JSON number spells (a float: the shortest text that reads back as it)."""
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)  # type: ignore[arg-type]


def equals(schema: Schema, value: Any, pointer: str, depth: int = 0) -> Formula:
    """The formula that the instance equals `value`, as JSON Schema compares."""
    pool = schema.pool
    if depth > MAX_IN_PLACE:
        raise GrammarTooLarge(f"a constant nests deeper than {MAX_IN_PLACE}", pointer=pointer)
    if not isinstance(value, (dict, list)):
        return _equal_scalar(pool, value)
    if isinstance(value, list):
        children = tuple(Given(equals(schema, v, pointer, depth + 1), pointer) for v in value)
        count = ItemCount(len(value), len(value))
        return pool.all_of(
            [_of(pool, ARRAY), *([pool.literal(Items(children, None, 0))] if children else []), pool.literal(count)]
        )
    named = {k: Given(equals(schema, v, pointer, depth + 1), pointer) for k, v in value.items()}
    members = Properties(named, (), Given(FALSE, pointer), pointer, constant=True)
    parts = [_of(pool, OBJECT), pool.literal(members)]
    if named:
        parts.append(pool.literal(Required(frozenset(named))))
    return pool.all_of(parts)


def _equal_scalar(pool: Formulas, value: str | float | None) -> Formula:
    if isinstance(value, str):
        return _strings(pool, frozenset([value]))
    if value is None or isinstance(value, bool):
        return equal_to(pool, [constant_of(value)])
    return equal_to(pool, [(NUMBER, decimal(value))])


def _of(pool: Formulas, *types: str) -> Formula:
    return pool.literal(OfType(frozenset(types)))


def _strings(pool: Formulas, values: frozenset[str]) -> Formula:
    spelled = frozenset(v for v in values if not any(0xD800 <= ord(c) < 0xE000 for c in v))
    if not spelled:
        return FALSE
    return pool.all_of([_of(pool, STRING), pool.literal(OneOfStrings(spelled))])


def _enum(schema: Schema, place: Place, keyword: str) -> Formula:
    values = place.raw[keyword]
    pool, pointer = schema.pool, f"{place.pointer}/{keyword}"
    strings = frozenset(v for v in values if isinstance(v, str))
    numbers = frozenset(decimal(v) for v in values if is_number(v))
    parts = [_strings(pool, strings)] if strings else []
    if len(numbers) > MOST_SPELLED_FREELY:
        schema.notes[place.pointer, keyword] = NOTE
    if numbers:
        parts.append(pool.all_of([_of(pool, NUMBER), pool.literal(OneOfNumbers(numbers))]))
    parts += [equals(schema, v, pointer) for v in values if not isinstance(v, str) and not is_number(v)]
    return pool.any_of(parts)


def _const(schema: Schema, place: Place, keyword: str) -> Formula:
    return equals(schema, place.raw[keyword], f"{place.pointer}/{keyword}")


def _type(schema: Schema, place: Place, keyword: str) -> Formula:
    value = place.raw[keyword]
    names = value if isinstance(value, list) else [value]
    pool = schema.pool
    plain: set[str] = set()
    parts: list[Formula] = []
    for i, name in enumerate(names):
        if isinstance(name, dict) and place.draft is Draft.DRAFT4:
            parts.append(schema.child(place, name, keyword, i).formula())
            continue
        if name != "integer" or "number" in names:
            plain |= _TYPE_NAMES[name]
    if "integer" in names and "number" not in names and "any" not in names:
        whole = Whole(plain=True) if place.draft is Draft.DRAFT4 else Whole(tidy=schema.tidy)
        parts.append(pool.all_of([_of(pool, NUMBER), pool.literal(whole)]))
    if plain:
        parts.append(TRUE if plain == ALL_TYPES else pool.literal(OfType(frozenset(plain))))
    return pool.any_of(parts)


def _natural(schema: Schema, place: Place, keyword: str, default: int | None) -> int | None:
    if keyword not in place.raw:
        return default
    value = place.raw[keyword]
    return int(value)


def _bounded(
    least_word: str, most_word: str, atom: Callable[[int, int | None], Any]
) -> Callable[[Schema, Place, str], Formula]:
    def build(schema: Schema, place: Place, keyword: str) -> Formula:
        least, most = _natural(schema, place, least_word, 0), _natural(schema, place, most_word, None)
        assert least is not None
        if most is not None and least > most:
            return schema.pool.negate(_of(schema.pool, atom(0, None).domain))
        return TRUE if least == 0 and most is None else schema.pool.literal(atom(least, most))

    build.__name__ = least_word
    return build


def _pattern(schema: Schema, place: Place, keyword: str) -> Formula:
    value = place.raw[keyword]
    check_pattern(value, f"{place.pointer}/{keyword}", keyword)
    return schema.pool.literal(Pattern(value, f"{place.pointer}/{keyword}"))


def _quoted(schema: Schema, place: Place, keyword: str) -> Formula:
    """Some of the given text, as it stands there; nothing at all only where the schema says so."""
    empty = place.raw.get("minLength") == 0
    return schema.pool.literal(schema.quotation(f"{place.pointer}/{keyword}", empty=empty))


def _content(schema: Schema, place: Place, keyword: str) -> Formula:
    atom = schema.content(place.raw[keyword], f"{place.pointer}/{keyword}")
    beside = next((each for each in place.raw if each in _ABOUT_STRINGS), None)
    if isinstance(atom, Derived) and beside is not None:
        reason = "a grammar that recurses cannot be narrowed"
        where = f"{place.pointer}/{beside}"
        raise UnsupportedConstraint(
            f"{beside} beside x-grammar: {reason}", pointer=where, keyword=beside, reason=reason
        )
    return schema.pool.literal(atom)


def _format(schema: Schema, place: Place, keyword: str) -> Formula:
    value = place.raw[keyword]
    if schema.formats == "annotation":
        schema.notes[place.pointer, keyword] = "formats are annotations by option"
        return TRUE
    if value not in FORMATS:
        schema.notes[place.pointer, keyword] = f"unknown format {value!r}: an annotation"
        return TRUE
    if value in UNDECIDABLE and schema.formats != "narrow" and not (value == "hostname" and place.draft < Draft.DRAFT7):
        reason = f"{UNDECIDABLE[value]}; formats: narrow offers the others"
        return _unsupported(reason)(schema, place, keyword)
    if value in INEXACT_FORMATS:
        schema.notes[place.pointer, keyword] = f"asserted, narrower than the specification: {INEXACT_FORMATS[value]}"
    return schema.pool.literal(Format(value, f"{place.pointer}/{keyword}", int(place.draft)))


def check_pattern(pattern: str, pointer: str, keyword: str) -> None:
    """Refuse a pattern that is malformed or not regular, at its place in the schema."""
    try:
        parse(pattern)
    except GrammarError as error:
        raise type(error)(error.message, pointer=pointer, keyword=keyword, reason=error.reason) from None


def _range(schema: Schema, place: Place, keyword: str) -> Formula:
    raw = place.raw
    least = decimal(raw["minimum"]) if "minimum" in raw else None
    most = decimal(raw["maximum"]) if "maximum" in raw else None
    least_open = most_open = False
    low, high = raw.get("exclusiveMinimum"), raw.get("exclusiveMaximum")
    # Draft 4's booleans are honoured wherever they are written: no other reading of them is possible.
    if isinstance(low, bool):
        least_open = low
    elif low is not None and (least is None or decimal(low) >= least):
        least, least_open = decimal(low), True
    if isinstance(high, bool):
        most_open = high
    elif high is not None and (most is None or decimal(high) <= most):
        most, most_open = decimal(high), True
    if least is None and most is None:
        return TRUE
    return schema.pool.literal(Range(least, most, least_open and least is not None, most_open and most is not None))


def _multiple_of(schema: Schema, place: Place, keyword: str) -> Formula:
    value = place.raw[keyword]
    return schema.pool.literal(MultipleOf(decimal(value)))


def _members(schema: Schema, place: Place, keyword: str) -> Formula:
    named = {
        name: schema.child(place, raw, "properties", name) for name, raw in place.raw.get("properties", {}).items()
    }
    patterned = tuple(
        (pattern, schema.child(place, raw, "patternProperties", pattern))
        for pattern, raw in place.raw.get("patternProperties", {}).items()
    )
    rest = place.raw.get("additionalProperties", True)
    additional = None if rest is True else schema.child(place, rest, "additionalProperties")
    return schema.pool.literal(Properties(named, patterned, additional, place.pointer))


def _required(schema: Schema, place: Place, keyword: str) -> Formula:
    names = place.raw[keyword]
    if isinstance(names, bool) and place.draft is Draft.DRAFT4:
        schema.notes[place.pointer, keyword] = "a draft 3 boolean: an annotation"
        return TRUE
    return schema.pool.literal(Required(frozenset(names))) if names else TRUE


def _property_names(schema: Schema, place: Place, keyword: str) -> Formula:
    child = schema.child(place, place.raw[keyword], keyword)
    return schema.pool.literal(PropertyNames(child))


def _dependencies(schema: Schema, place: Place, keyword: str) -> Formula:
    pool = schema.pool
    parts = []
    for name, value in place.raw[keyword].items():
        if isinstance(value, (str, list)):
            names = frozenset([value] if isinstance(value, str) else value)
            needed = pool.literal(Required(names)) if names else TRUE
        else:
            needed = schema.child(place, value, keyword, name).formula()
        parts.append(pool.any_of([pool.negate(present(pool, name)), needed]))
    return pool.all_of(parts)


def _items(schema: Schema, place: Place, keyword: str) -> Formula:
    raw = place.raw
    prefix: tuple[Child, ...] = ()
    rest: Location | None = None
    if place.draft >= Draft.DRAFT2020 and not isinstance(raw.get("items"), list):
        first = raw.get("prefixItems", [])
        prefix = tuple(schema.child(place, item, "prefixItems", i) for i, item in enumerate(first))
        if "items" in raw:
            rest = schema.child(place, raw["items"], "items")
    elif isinstance(raw.get("items"), list):
        prefix = tuple(schema.child(place, item, "items", i) for i, item in enumerate(raw["items"]))
        if "additionalItems" in raw:
            rest = schema.child(place, raw["additionalItems"], "additionalItems")
    elif "items" in raw:
        rest = schema.child(place, raw["items"], "items")
    if not prefix and (rest is None or rest.place.raw is True):
        return TRUE
    return schema.pool.literal(Items(prefix, rest, 0))


def _contains(schema: Schema, place: Place, keyword: str) -> Formula:
    if "contains" not in place.raw:
        return TRUE
    least: int | None = 1
    most: int | None = None
    if place.draft >= Draft.DRAFT2019 and schema.documents.has_vocabulary(place, "validation"):
        least, most = _natural(schema, place, "minContains", 1), _natural(schema, place, "maxContains", None)
    assert least is not None
    if most is not None and least > most:
        return schema.pool.negate(_of(schema.pool, ARRAY))
    if least == 0 and most is None:
        return TRUE
    return schema.pool.literal(Contains(schema.child(place, place.raw["contains"], "contains"), least, most))


def _branches(schema: Schema, place: Place, keyword: str) -> list[Formula]:
    value = place.raw[keyword]
    return [schema.child(place, raw, keyword, i).formula() for i, raw in enumerate(value)]


def _all_of(schema: Schema, place: Place, keyword: str) -> Formula:
    return schema.pool.all_of(_branches(schema, place, keyword))


def _any_of(schema: Schema, place: Place, keyword: str) -> Formula:
    return schema.pool.any_of(_branches(schema, place, keyword))


def _one_of(schema: Schema, place: Place, keyword: str) -> Formula:
    return schema.pool.one_of(_branches(schema, place, keyword))


def _not(schema: Schema, place: Place, keyword: str) -> Formula:
    return schema.pool.negate(schema.child(place, place.raw[keyword], keyword).formula())


def _if(schema: Schema, place: Place, keyword: str) -> Formula:
    raw, pool = place.raw, schema.pool
    condition = schema.child(place, raw["if"], "if").formula()
    then = schema.child(place, raw["then"], "then").formula() if "then" in raw else TRUE
    otherwise = schema.child(place, raw["else"], "else").formula() if "else" in raw else TRUE
    return pool.any_of([pool.all_of([condition, then]), pool.all_of([pool.negate(condition), otherwise])])


def _reference(schema: Schema, place: Place, keyword: str) -> Formula:
    return schema.at(schema.target(place, keyword)).formula()


def _unsupported(reason: str) -> Callable[[Schema, Place, str], Formula]:
    def refuse(schema: Schema, place: Place, keyword: str) -> Formula:
        raise UnsupportedConstraint(
            f"{keyword} cannot be enforced: {reason}",
            pointer=f"{place.pointer}/{keyword}",
            keyword=keyword,
            reason=reason,
        )

    return refuse


def _unique(schema: Schema, place: Place, keyword: str) -> Formula:
    return schema.pool.literal(Unique(frozenset())) if place.raw[keyword] else TRUE


_length = _bounded("minLength", "maxLength", Length)
_item_count = _bounded("minItems", "maxItems", ItemCount)
_property_count = _bounded("minProperties", "maxProperties", PropertyCount)
_ONCE: Final = frozenset([_length, _item_count, _property_count, _members, _items, _contains, _range])
"""Families of keywords that one function handles together."""

_APPLICATORS: Final = (
    "prefixItems", "items", "contains", "additionalProperties", "properties", "patternProperties", "dependentSchemas",
    "propertyNames", "if", "allOf", "anyOf", "oneOf", "not", "additionalItems", "dependencies",
)  # fmt: skip
_VOCABULARIES: Final[Mapping[str, str]] = {
    **dict.fromkeys(_APPLICATORS, "applicator"),
    **dict.fromkeys(("$ref", "$dynamicRef", "$recursiveRef", "format", "x-source", "x-grammar"), "core"),
    **dict.fromkeys(("unevaluatedItems", "unevaluatedProperties"), "unevaluated"),
}
"""Keyword → the last part of its vocabulary's URI; the others belong to "validation" (`format`: see the option)."""


def _vocabulary_of(keyword: str, draft: Draft) -> str:
    found = _VOCABULARIES.get(keyword, "validation")
    return "applicator" if found == "unevaluated" and draft is Draft.DRAFT2019 else found


_ABOUT_STRINGS: Final = frozenset(["pattern", "format", "minLength", "maxLength", "enum", "const", "x-source"])
_CHECKED: Final = ("pattern", "format", "x-source", "x-grammar")
_REFUSABLE: Final = frozenset([*_CHECKED, "patternProperties"])
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
Rule = tuple[Draft, Draft, Callable[[Schema, Place, str], Formula]]
_FIRST, _LAST = Draft.DRAFT4, Draft.DRAFT2020

KEYWORDS: Final[Mapping[str, Rule]] = {
    "type": (_FIRST, _LAST, _type),
    "enum": (_FIRST, _LAST, _enum),
    "const": (Draft.DRAFT6, _LAST, _const),
    "minLength": (_FIRST, _LAST, _length),
    "maxLength": (_FIRST, _LAST, _length),
    "pattern": (_FIRST, _LAST, _pattern),
    "format": (_FIRST, _LAST, _format),
    "x-source": (_FIRST, _LAST, _quoted),
    "x-grammar": (_FIRST, _LAST, _content),
    "minimum": (_FIRST, _LAST, _range),
    "maximum": (_FIRST, _LAST, _range),
    "exclusiveMinimum": (_FIRST, _LAST, _range),
    "exclusiveMaximum": (_FIRST, _LAST, _range),
    "multipleOf": (_FIRST, _LAST, _multiple_of),
    "properties": (_FIRST, _LAST, _members),
    "patternProperties": (_FIRST, _LAST, _members),
    "additionalProperties": (_FIRST, _LAST, _members),
    "required": (_FIRST, _LAST, _required),
    "propertyNames": (Draft.DRAFT6, _LAST, _property_names),
    "minProperties": (_FIRST, _LAST, _property_count),
    "maxProperties": (_FIRST, _LAST, _property_count),
    "dependencies": (_FIRST, _LAST, _dependencies),
    "dependentRequired": (Draft.DRAFT2019, _LAST, _dependencies),
    "dependentSchemas": (Draft.DRAFT2019, _LAST, _dependencies),
    "unevaluatedProperties": (Draft.DRAFT2019, _LAST, unevaluated_properties),
    "prefixItems": (Draft.DRAFT2020, _LAST, _items),
    "items": (_FIRST, _LAST, _items),
    "additionalItems": (_FIRST, Draft.DRAFT2019, _items),
    "minItems": (_FIRST, _LAST, _item_count),
    "maxItems": (_FIRST, _LAST, _item_count),
    "uniqueItems": (_FIRST, _LAST, _unique),
    "contains": (Draft.DRAFT6, _LAST, _contains),
    "minContains": (Draft.DRAFT2019, _LAST, _contains),
    "maxContains": (Draft.DRAFT2019, _LAST, _contains),
    "unevaluatedItems": (Draft.DRAFT2019, _LAST, unevaluated_items),
    "allOf": (_FIRST, _LAST, _all_of),
    "anyOf": (_FIRST, _LAST, _any_of),
    "oneOf": (_FIRST, _LAST, _one_of),
    "not": (_FIRST, _LAST, _not),
    "if": (Draft.DRAFT7, _LAST, _if),
    "$ref": (_FIRST, _LAST, _reference),
    "$dynamicRef": (Draft.DRAFT2020, _LAST, _reference),
    "$recursiveRef": (Draft.DRAFT2019, Draft.DRAFT2019, _reference),
}
