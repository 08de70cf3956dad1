"""A schema as alternatives of conjunctions, per kind of value: the reference's reading of JSON Schema.

Every schema node is a number; a literal is (node, wanted): the value must, or must not, be valid against it. A goal is
a set of literals that one value has to meet. `branches` unfolds a goal into its disjunctive normal form for one kind of
value: sets of atoms such as ("required", name) or ("item", 3, literal). Nothing is clever, everything is exponential.
Draft 2020-12. Left out: uniqueItems, min/maxContains, unevaluated*, look-arounds, remote references.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any
from typing import Literal as OneOf

from tests.oracles import regular
from tests.oracles.json_numbers import NumberRule, exact
from tests.oracles.regular import Language

Kind = OneOf["null", "boolean", "number", "string", "array", "object"]
KINDS: tuple[Kind, ...] = ("null", "boolean", "number", "string", "array", "object")
Literal = tuple[int, bool]
Goal = frozenset[Literal]
Atom = tuple[Any, ...]
Branch = frozenset[Any]  # of atoms
Branches = list[Branch]
TRUE: Branches = [frozenset()]
FALSE: Branches = []


def kind_of(value: object) -> Kind:
    """The JSON type of a decoded value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def only(*atoms: Atom) -> Branches:
    """One branch."""
    return [frozenset(atoms)]


def product(factors: Iterable[Branches]) -> Branches:
    """All of them hold."""
    result = TRUE
    for factor in factors:
        result = list({a | b for a in result for b in factor})
    return result


def union(terms: Iterable[Branches]) -> Branches:
    """One of them holds."""
    return list({branch for term in terms for branch in term})


def snake(keyword: str) -> str:
    """A keyword as part of a method's name."""
    return re.sub("[A-Z]", lambda found: "_" + found[0].lower(), keyword.removeprefix("$"))


class UnknownKeyword(Exception):
    """A keyword that this reference does not know."""


ANNOTATIONS = {"$schema", "$id", "$defs", "definitions", "title", "description", "default", "examples", "$comment"}
BESIDE = {"then", "else"}


class Reading:
    """A schema document, its nodes, and what goals over them unfold to."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.nodes: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.constants: dict[str, Any] = {}
        self.unfolded: dict[tuple[Goal, Kind], Branches] = {}
        self.no = self.literal(False)
        self.goal: Goal = frozenset({self.literal(root)})

    def literal(self, schema: Any, wanted: bool = True) -> Literal:
        """The node of this very schema object (booleans are shared)."""
        key = id(schema)
        if key not in self.numbers:
            self.numbers[key] = len(self.nodes)
            self.nodes.append(schema)
        return (self.numbers[key], wanted)

    def constant(self, value: Any) -> Any:
        """An array or object constant as a schema of its own."""
        name = json.dumps(value, sort_keys=True)
        if name not in self.constants:
            if isinstance(value, list):
                parts = [{"const": item} for item in value]
                schema: Any = {"type": "array", "prefixItems": parts, "items": False, "minItems": len(value)}
            else:
                named = {key: {"const": item} for key, item in value.items()}
                schema = {
                    "type": "object",
                    "properties": named,
                    "required": list(named),
                    "additionalProperties": False,
                }
            self.constants[name] = schema
        return self.constants[name]

    def resolve(self, reference: str) -> Any:
        """A local JSON pointer."""
        if not reference.startswith("#"):
            raise UnknownKeyword(reference)
        node = self.root
        for part in filter(None, reference[1:].split("/")):
            name = part.replace("~1", "/").replace("~0", "~")
            node = node[int(name)] if isinstance(node, list) else node[name]
        return node

    # ------------------------------------------------------------ disjunctive normal form

    def branches(self, goal: Goal, kind: Kind) -> Branches:
        """The alternatives, each a set of atoms, in which a value of this kind meets the goal."""
        key = (goal, kind)
        if key not in self.unfolded:
            self.unfolded[key] = product(self.one(literal, kind) for literal in sorted(goal))
        return self.unfolded[key]

    def one(self, literal: Literal, kind: Kind) -> Branches:
        node, wanted = literal
        schema = self.nodes[node]
        if isinstance(schema, bool):
            return TRUE if schema == wanted else FALSE
        terms = [self.keyword(schema, name, kind, wanted) for name in schema if name not in ANNOTATIONS | BESIDE]
        return product(terms) if wanted else union(terms)

    def schema(self, schema: Any, kind: Kind, wanted: bool) -> Branches:
        return self.one(self.literal(schema, wanted), kind)

    def keyword(self, schema: dict[str, Any], name: str, kind: Kind, wanted: bool) -> Branches:
        value = schema[name]
        applicator = getattr(self, f"apply_{snake(name)}", None)
        if applicator is not None:
            return list(applicator(schema, value, kind, wanted))
        for group, handler in (("number", number_keyword), ("string", string_keyword)):
            atoms = handler(name, value)
            if atoms is not None:
                holds, fails = atoms
                return (holds if wanted else fails) if kind == group else (TRUE if wanted else FALSE)
        container = getattr(self, f"in_{snake(name)}", None)
        if container is None:
            raise UnknownKeyword(name)
        group, holds, fails = container(schema, value)
        return (holds if wanted else fails) if kind == group else (TRUE if wanted else FALSE)

    def apply_type(self, _: Any, value: Any, kind: Kind, wanted: bool) -> Branches:
        names = value if isinstance(value, list) else [value]
        if kind in names:
            return TRUE if wanted else FALSE
        if kind == "number" and "integer" in names:
            return only(("integer", Fraction(1))) if wanted else only(("not multiple", Fraction(1)))
        return FALSE if wanted else TRUE

    def apply_const(self, _: Any, value: Any, kind: Kind, wanted: bool) -> Branches:
        if kind_of(value) != kind:
            return FALSE if wanted else TRUE
        if kind in ("array", "object"):
            return self.schema(self.constant(value), kind, wanted)
        if kind == "null":
            return TRUE if wanted else FALSE
        held = exact(value) if kind == "number" else value
        return only(("value", held) if wanted else ("not value", held))

    def apply_enum(self, schema: Any, value: Any, kind: Kind, wanted: bool) -> Branches:
        terms = [self.apply_const(schema, member, kind, wanted) for member in value]
        return union(terms) if wanted else product(terms)

    def apply_all_of(self, _: Any, value: Any, kind: Kind, wanted: bool) -> Branches:
        terms = [self.schema(part, kind, wanted) for part in value]
        return product(terms) if wanted else union(terms)

    def apply_any_of(self, _: Any, value: Any, kind: Kind, wanted: bool) -> Branches:
        terms = [self.schema(part, kind, wanted) for part in value]
        return union(terms) if wanted else product(terms)

    def apply_one_of(self, _: Any, value: Any, kind: Kind, wanted: bool) -> Branches:
        exactly = [[self.schema(part, kind, i == j) for j, part in enumerate(value)] for i in range(len(value))]
        if wanted:
            return union(product(terms) for terms in exactly)
        none = product(self.schema(part, kind, False) for part in value)
        pairs = itertools.combinations(value, 2)
        return union([none, *(product([self.schema(a, kind, True), self.schema(b, kind, True)]) for a, b in pairs)])

    def apply_not(self, _: Any, value: Any, kind: Kind, wanted: bool) -> Branches:
        return self.schema(value, kind, not wanted)

    def apply_if(self, schema: Any, value: Any, kind: Kind, wanted: bool) -> Branches:
        then, other = schema.get("then", True), schema.get("else", True)
        met = product([self.schema(value, kind, True), self.schema(then, kind, wanted)])
        return union([met, product([self.schema(value, kind, False), self.schema(other, kind, wanted)])])

    def apply_ref(self, _: Any, value: Any, kind: Kind, wanted: bool) -> Branches:
        return self.schema(self.resolve(value), kind, wanted)

    # ------------------------------------------------------------ arrays

    def in_prefix_items(self, _: Any, value: Any) -> tuple[Kind, Branches, Branches]:
        holds = only(*(("item", i, self.literal(part)) for i, part in enumerate(value)))
        fails = [frozenset({("count", i + 1, None), ("item", i, self.literal(p, False))}) for i, p in enumerate(value)]
        return "array", holds, fails

    def in_items(self, schema: Any, value: Any) -> tuple[Kind, Branches, Branches]:
        start = len(schema.get("prefixItems", []))
        return "array", only(("rest", start, self.literal(value))), only(("some", start, self.literal(value, False)))

    def in_contains(self, schema: Any, value: Any) -> tuple[Kind, Branches, Branches]:
        if "minContains" in schema or "maxContains" in schema:
            raise UnknownKeyword("minContains")
        return "array", only(("some", 0, self.literal(value))), only(("rest", 0, self.literal(value, False)))

    def in_min_items(self, _: Any, value: Any) -> tuple[Kind, Branches, Branches]:
        return "array", *_at_least(value)

    def in_max_items(self, _: Any, value: Any) -> tuple[Kind, Branches, Branches]:
        return "array", *_at_most(value)

    # ------------------------------------------------------------ objects

    def in_min_properties(self, _: Any, value: Any) -> tuple[Kind, Branches, Branches]:
        return "object", *_at_least(value)

    def in_max_properties(self, _: Any, value: Any) -> tuple[Kind, Branches, Branches]:
        return "object", *_at_most(value)

    def in_properties(self, _: Any, value: Any) -> tuple[Kind, Branches, Branches]:
        holds = only(*(("property", name, self.literal(part)) for name, part in value.items()))
        fails = [
            frozenset({("required", name), ("property", name, self.literal(part, False))})
            for name, part in value.items()
        ]
        return "object", holds, fails

    def in_required(self, _: Any, value: Any) -> tuple[Kind, Branches, Branches]:
        absent = [frozenset({("property", name, self.no)}) for name in value]
        return "object", only(*(("required", name) for name in value)), absent

    def in_pattern_properties(self, _: Any, value: Any) -> tuple[Kind, Branches, Branches]:
        holds = only(*(("matching", pattern, self.literal(part)) for pattern, part in value.items()))
        fails = [frozenset({("some matching", pattern, self.literal(part, False))}) for pattern, part in value.items()]
        return "object", holds, fails

    def in_additional_properties(self, schema: Any, value: Any) -> tuple[Kind, Branches, Branches]:
        names = frozenset(schema.get("properties", ()))
        patterns = frozenset(schema.get("patternProperties", ()))
        holds = only(("others", names, patterns, self.literal(value)))
        return "object", holds, only(("some other", names, patterns, self.literal(value, False)))

    def in_property_names(self, _: Any, value: Any) -> tuple[Kind, Branches, Branches]:
        return "object", only(("names", self.literal(value))), only(("some name", self.literal(value, False)))

    def in_dependent_required(self, _: Any, value: Any) -> tuple[Kind, Branches, Branches]:
        holds = product(
            union([only(("property", name, self.no)), only(*(("required", other) for other in others))])
            for name, others in value.items()
        )
        fails = [
            frozenset({("required", name), ("property", other, self.no)})
            for name, others in value.items()
            for other in others
        ]
        return "object", holds, fails

    def in_dependent_schemas(self, _: Any, value: Any) -> tuple[Kind, Branches, Branches]:
        holds = product(
            union([only(("property", name, self.no)), self.schema(part, "object", True)])
            for name, part in value.items()
        )
        fails = union(
            product([only(("required", name)), self.schema(part, "object", False)]) for name, part in value.items()
        )
        return "object", holds, fails


def _at_least(count: int) -> tuple[Branches, Branches]:
    return only(("count", count, None)), only(("count", 0, count - 1)) if count > 0 else FALSE


def _at_most(count: int) -> tuple[Branches, Branches]:
    return only(("count", 0, count)), only(("count", count + 1, None))


def number_keyword(name: str, value: Any) -> tuple[Branches, Branches] | None:
    """The two sides of a keyword about numbers, or None."""
    names = {"minimum": "low", "exclusiveMinimum": "low open", "maximum": "high", "exclusiveMaximum": "high open"}
    opposite = {"low": "high open", "low open": "high", "high": "low open", "high open": "low"}
    if name in names:
        return only((names[name], exact(value))), only((opposite[names[name]], exact(value)))
    if name == "multipleOf":
        return only(("multiple", exact(value))), only(("not multiple", exact(value)))
    return None


def string_keyword(name: str, value: Any) -> tuple[Branches, Branches] | None:
    """The two sides of a keyword about strings, or None."""
    languages = {
        "minLength": lambda: regular.between(value, None),
        "maxLength": lambda: regular.between(0, value),
        "pattern": lambda: regular.matching(value),
    }
    if name not in languages:
        return None
    language = languages[name]()
    return only(("text", language)), only(("text", regular.without(language)))


def string_language(branch: Branch) -> Language:
    """What a string that meets these atoms may hold."""
    language = regular.EVERY
    for atom in branch:
        if atom[0] == "text":
            language = regular.both(language, atom[1])
        elif atom[0] == "value":
            language = regular.both(language, regular.literal(atom[1]))
        elif atom[0] == "not value":
            language = regular.both(language, regular.complement(regular.literal(atom[1])))
    return language


def number_rule(branch: Branch, *, frugal: bool = False, plain: bool = False) -> NumberRule:
    """The numbers that meet these atoms; `plain` and `frugal` are about their spelling."""

    def tagged(tag: str) -> list[Any]:
        return [atom[1] for atom in branch if atom[0] == tag]

    lows = [(value, False) for value in tagged("low")] + [(value, True) for value in tagged("low open")]
    highs = [(value, True) for value in tagged("high")] + [(value, False) for value in tagged("high open")]
    low, low_open = max(lows) if lows else (None, False)
    high, high_closed = min(highs) if highs else (None, True)
    values = tagged("value")
    return NumberRule(
        low=low,
        low_open=low_open,
        high=high,
        high_open=not high_closed,
        multiples=tuple(sorted({*tagged("multiple"), *tagged("integer")})),
        not_multiples=tuple(sorted(set(tagged("not multiple")))),
        values=frozenset({values[0]} if len(set(values)) == 1 else ()) if values else None,
        excluded=frozenset(tagged("not value")),
        frugal=frugal,
        plain=plain,
    )


def booleans(branch: Branch) -> Iterator[bool]:
    """The booleans that meet these atoms."""
    for value in (True, False):
        if all((atom[1] is value) == (atom[0] == "value") for atom in branch):
            yield value
