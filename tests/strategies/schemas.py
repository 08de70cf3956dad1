"""Small random JSON Schemas, by keyword group, and values that are likely to fall near their borders.

Names, characters and numbers come from tiny pools on purpose: clashes between keywords are what is worth testing.
"""

import json
from typing import Any

from hypothesis import strategies as st

Schema = Any
NAMES = ["a", "b", "ab", "é", 'q"', ""]
TEXTS = ["", "a", "b", "ab", "ba", "aab", "é", "😀", '"', "\\", "a\n", "1", "\x7f"]
NUMBERS: list[int | float] = [0, 1, -1, 2, 3, 7, 10, 12, 99, 100, -5, 1.5, 0.1, -0.25, 1e3, 2.5e-3]
PATTERNS = [
    *("^a+$", "^[ab]{2,3}$", "b", "^(a|bb)*$", "^\\d{2}$", "^[^a]", "a.b", "^$", "^é?a$", "x|^ab", "[ab]$", "^\\w+$"),
    *("^\\S+ \\S+$", "(aa)+b?$", "^[\\u0061-\\u0063]*$", "^(?:ab?){1,2}$"),
]

texts = st.sampled_from(TEXTS)
numbers = st.sampled_from(NUMBERS)
scalars: st.SearchStrategy[Any] = st.one_of(st.none(), st.booleans(), numbers, texts)


def values(depth: int = 2) -> st.SearchStrategy[Any]:
    """Any JSON value, from the same pools as the schemas."""
    if depth == 0:
        return scalars
    inner = values(depth - 1)
    arrays = st.lists(inner, max_size=3)
    return st.one_of(scalars, arrays, st.dictionaries(st.sampled_from(NAMES), inner, max_size=3))


def some_of(options: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """A subset of the keywords, in any order."""
    return st.fixed_dictionaries({}, optional=options).flatmap(
        lambda chosen: st.permutations(list(chosen)).map(lambda names: {name: chosen[name] for name in names})
    )


def strings() -> st.SearchStrategy[Schema]:
    """Lengths and patterns."""
    lengths = st.integers(0, 4)
    keywords = {"minLength": lengths, "maxLength": lengths, "pattern": st.sampled_from(PATTERNS)}
    return some_of(keywords).map(lambda found: {"type": "string", **found})


def numeric() -> st.SearchStrategy[Schema]:
    """Integers and numbers with bounds, often close to each other."""
    bounds = {name: numbers for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")}
    return st.builds(
        lambda kind, found: {"type": kind, **found}, st.sampled_from(["integer", "number"]), some_of(bounds)
    )


def multiples() -> st.SearchStrategy[Schema]:
    """Numbers that are multiples, within bounds or not."""
    steps = st.sampled_from([1, 2, 3, 7, 0.5, 0.1, 10, 1.5])
    return st.builds(lambda schema, step: {**schema, "multipleOf": step}, numeric(), steps)


def constants() -> st.SearchStrategy[Schema]:
    """enum and const over any values."""
    enums = st.lists(values(1), min_size=1, max_size=4).map(lambda members: {"enum": distinct(members)})
    return st.one_of(enums, values(2).map(lambda value: {"const": value}))


def distinct(members: list[Any]) -> list[Any]:
    """Without repeats as JSON sees them (True is not 1)."""
    return list({json.dumps(member, sort_keys=True): member for member in members}.values())


def simple() -> st.SearchStrategy[Schema]:
    """Types alone, and the two schemas that are not objects."""
    names = st.sampled_from(["null", "boolean", "string", "number", "integer", "array", "object"])
    lists = st.lists(names, min_size=1, max_size=3, unique=True)
    return st.one_of(names.map(lambda name: {"type": name}), lists.map(lambda some: {"type": some}), st.just({}))


def arrays(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    """items, prefixItems and counts."""
    keywords = {
        "items": st.one_of(inner, st.booleans()),
        "prefixItems": st.lists(inner, min_size=1, max_size=2),
        "minItems": st.integers(0, 3),
        "maxItems": st.integers(0, 3),
    }
    return some_of(keywords).map(lambda found: {"type": "array", **found})


def objects(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    """properties, required (names outside properties too) and additionalProperties."""
    keywords = {
        "properties": st.dictionaries(st.sampled_from(NAMES), st.one_of(inner, st.booleans()), max_size=3),
        "required": st.lists(st.sampled_from(NAMES), unique=True, max_size=2),
        "additionalProperties": st.one_of(inner, st.booleans()),
    }
    return some_of(keywords).map(lambda found: {"type": "object", **found})


def rich_objects(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    """The remaining object keywords over a plain object schema."""
    names = st.sampled_from(NAMES)
    keywords = {
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$", "é"]), inner, min_size=1, max_size=2),
        "propertyNames": st.sampled_from(
            [{"pattern": "^a"}, {"minLength": 1}, {"not": {"const": "a"}}, {"pattern": "b"}]
        ),
        "minProperties": st.integers(0, 3),
        "maxProperties": st.integers(0, 3),
        "dependentRequired": st.dictionaries(names, st.lists(names, max_size=2, unique=True), max_size=1),
        "dependentSchemas": st.dictionaries(names, objects(inner), max_size=1),
    }
    return st.builds(lambda base, more: {**base, **more}, objects(inner), some_of(keywords))


def rich_arrays(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    """The remaining array keywords over a plain array schema."""
    keywords = {
        "uniqueItems": st.just(True),
        "contains": inner,
        "minContains": st.integers(0, 2),
        "maxContains": st.integers(0, 2),
    }
    return st.builds(lambda base, more: {**base, **more}, arrays(inner), some_of(keywords))


def unevaluated(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    """unevaluatedProperties and unevaluatedItems beside every kind of applicator."""
    parts = st.one_of(objects(inner), rich_objects(inner), arrays(inner), rich_arrays(inner))
    lists = st.lists(parts, min_size=1, max_size=2)
    beside = {
        "allOf": lists,
        "anyOf": lists,
        "oneOf": lists,
        "if": parts,
        "then": parts,
        "else": parts,
        "not": parts,
        "dependentSchemas": st.dictionaries(st.sampled_from(NAMES), parts, max_size=1),
        "properties": st.dictionaries(st.sampled_from(NAMES), inner, max_size=2),
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$"]), inner, max_size=1),
        "prefixItems": st.lists(inner, min_size=1, max_size=2),
        "contains": inner,
    }
    rest = st.one_of(st.booleans(), inner)
    asked = some_of({"unevaluatedProperties": rest, "unevaluatedItems": rest})
    return st.builds(lambda base, more: {**base, **more}, some_of(beside), asked)


def unions(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    """anyOf, alone or beside other keywords."""
    options = st.lists(inner, min_size=1, max_size=3).map(lambda some: {"anyOf": some})
    beside = st.builds(lambda base, some: {**base, **some}, inner, options)
    return st.one_of(options, beside)


def logic(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    """allOf, oneOf, not, if/then/else over the others."""
    two = st.lists(inner, min_size=1, max_size=2)
    keywords = {"allOf": two, "oneOf": two, "not": inner}
    conditions = st.fixed_dictionaries({"if": inner}, optional={"then": inner, "else": inner})
    base: st.SearchStrategy[Schema] = st.one_of(st.just({}), inner)
    return st.one_of(
        st.builds(lambda plain, more: {**plain, **more}, base, some_of(keywords)),
        st.builds(lambda plain, more: {**plain, **more}, base, conditions),
    )


def leaves() -> st.SearchStrategy[Schema]:
    """Schemas without subschemas."""
    return st.one_of(simple(), strings(), numeric(), constants())


def core(depth: int = 2) -> st.SearchStrategy[Schema]:
    """The keywords of the first milestone: all but logic, references and rarer object and array keywords."""
    if depth == 0:
        return leaves()
    inner = core(depth - 1)
    return st.one_of(leaves(), arrays(inner), objects(inner), unions(inner))


def referenced(depth: int = 2) -> st.SearchStrategy[Schema]:
    """All keywords that the reference reads."""
    if depth == 0:
        return st.one_of(leaves(), multiples())
    inner = referenced(depth - 1)
    return st.one_of(core(depth), multiples(), rich_objects(inner), logic(inner))


def everything(depth: int = 2) -> st.SearchStrategy[Schema]:
    """All keywords."""
    if depth == 0:
        return st.one_of(leaves(), multiples())
    inner = everything(depth - 1)
    return st.one_of(
        core(depth), multiples(), rich_objects(inner), rich_arrays(inner), unevaluated(inner), logic(inner)
    )


def recursive() -> st.SearchStrategy[Schema]:
    """Trees and lists that refer to themselves or to each other."""
    node = {
        "type": "object",
        "properties": {"a": {"$ref": "#"}, "b": {"type": "boolean"}},
        "additionalProperties": False,
    }
    chain = {"$defs": {"n": {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#/$defs/n"}}]}}}
    pair = {
        "$defs": {
            "x": {"type": "object", "properties": {"y": {"$ref": "#/$defs/y"}}, "required": ["y"]},
            "y": {"anyOf": [{"$ref": "#/$defs/x"}, {"enum": [1, "a"]}]},
        }
    }
    must = {**node, "required": ["b"]}
    return st.sampled_from(
        [
            node,
            must,
            {**chain, "$ref": "#/$defs/n"},
            {**pair, "$ref": "#/$defs/x"},
            {**pair, "items": {"$ref": "#/$defs/y"}, "type": "array", "maxItems": 2},
        ]
    )


def spellings(value: Any) -> list[str]:
    """The ways in which a valid instance must be accepted under whitespace="json"."""
    forms: list[dict[str, Any]] = [
        {"separators": (",", ":")},
        {},
        {"indent": 2},
        {"indent": "\t"},
        {"separators": (" , ", " : ")},
    ]
    return [json.dumps(value, ensure_ascii=ascii_only, **form) for form in forms for ascii_only in (False, True)]
